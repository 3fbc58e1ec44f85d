"""Training batches of pieces that are played while one trains."""

import collections
from collections.abc import Iterable
import concurrent.futures
import multiprocessing
import os
from pathlib import Path
import signal
import threading
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float32
import numpy as np

from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.audio import SpectrogramConfig
from music_spectrogram_diffusion.data import (
  piece_sources,
  soundfont,
  windows,
)

_MAX_TRIES = 100


class _Task(NamedTuple):
  """What a worker makes: the windows of a piece."""

  piece: int
  num_windows: int
  seed: int


@runtime_checkable
class Cutter(Protocol):
  """Cuts what one trains on out of a piece."""

  config: SpectrogramConfig

  @property
  def wanted(self) -> str:
    """What it can use of a piece, in words."""

  def cut_piece(
    self,
    rng: np.random.Generator,
    notes: notes_lib.Notes,
    samples: Float32[np.ndarray, " samples"],
    count: int,
  ) -> Iterable[windows.Window]:
    """Arrays of a batch without the first axis, up to `count` or more."""


class LiveWindows:
  """An endless, seeded iterator of batches that nothing was prepared for.

  Pieces are drawn, played on a soundfont and cut into windows by worker
  processes, a block of pieces ahead of what is asked for; the windows of a
  block are shuffled. What is handed out is a function of the settings and of
  how much was handed out before, however many workers there are: a run goes on
  where it was, and plays no more than the block it is in again.

  Where one trains faster than pieces can be played, a block may be handed out
  several times before the next one, each time in another order.

  Args:
    soundfont_path: The soundfont.
    cutter: How windows are cut.
    pieces: Draws pieces; by default they are composed.
    batch_size: Windows of a batch.
    seed: Another seed gives other pieces.
    host_index: Which of several hosts this is; each has pieces of its own.
    host_count: How many hosts there are.
    num_workers: Processes; with 0, this one.
    windows_per_piece: Windows that are cut out of each piece.
    pieces_per_block: Pieces whose windows are shuffled together.
    blocks_ahead: Blocks that are made ahead of the one in use.
    replays: How many times a block is handed out.
  """

  def __init__(
    self,
    soundfont_path: str | Path,
    cutter: Cutter,
    *,
    pieces: piece_sources.PieceSource = piece_sources.generated,
    batch_size: int,
    seed: int = 0,
    host_index: int = 0,
    host_count: int = 1,
    num_workers: int = 2,
    windows_per_piece: int = 8,
    pieces_per_block: int = 16,
    blocks_ahead: int = 2,
    replays: int = 1,
  ):
    # Here, so that a soundfont that cannot be played is an error at once.
    self._settings = Path(soundfont_path), cutter, pieces
    self._player = _Player(*self._settings)
    self._batch_size = batch_size
    self._seed = seed
    self._hosts = host_index, host_count
    self._num_workers = num_workers
    self._windows_per_piece = windows_per_piece
    self._pieces_per_block = pieces_per_block
    self._blocks_ahead = blocks_ahead
    self._replays = replays
    self._handed_out = 0  # Windows.
    self._order: tuple[int, np.ndarray] | None = None  # Of a turn of a block.
    self._blocks: collections.OrderedDict[int, list] = collections.OrderedDict()
    self._workers: concurrent.futures.Executor | None = None

  def __iter__(self) -> "LiveWindows":
    return self

  def __next__(self) -> windows.Batch:
    """The next batch; `ids` names the piece of each window."""
    places = range(self._handed_out, self._handed_out + self._batch_size)
    chosen = [self._window(place) for place in places]
    self._handed_out = places.stop
    return windows.stack(chosen)

  def get_state(self) -> bytes:
    """How many windows were handed out."""
    return b"%d" % self._handed_out

  def set_state(self, state: bytes) -> None:
    """Goes on after as many windows as `get_state` said."""
    self._handed_out = int(state)

  def close(self) -> None:
    """Ends the worker processes."""
    if self._workers is not None:
      self._workers.shutdown(wait=True, cancel_futures=True)
      self._workers = None

  def _window(self, place: int) -> windows.Window:
    """The window that is handed out after as many others."""
    block_size = self._windows_per_piece * self._pieces_per_block
    turn, within = divmod(place, block_size)
    index, replay = divmod(turn, self._replays)
    if self._order is None or self._order[0] != turn:
      rng = np.random.default_rng([self._seed, index, 1 + replay])
      self._order = turn, rng.permutation(block_size)
    return self._block(index)[self._order[1][within]]

  def _block(self, index: int) -> list[windows.Window]:
    """The windows of a block; has the next ones made meanwhile."""
    for coming in range(index, index + 1 + self._blocks_ahead):
      if coming not in self._blocks:
        self._blocks[coming] = [
          self._submit(task) for task in self._tasks(coming)
        ]
    while next(iter(self._blocks)) < index - 1:  # A batch may lie in two.
      self._blocks.popitem(last=False)
    block = self._blocks[index]
    if block and not isinstance(block[0], dict):
      block = self._blocks[index] = [
        window for future in block for window in future.result()
      ]
    return block

  def _tasks(self, block: int) -> list[_Task]:
    host, num_hosts = self._hosts
    first = block * self._pieces_per_block
    return [
      _Task(number * num_hosts + host, self._windows_per_piece, self._seed)
      for number in range(first, first + self._pieces_per_block)
    ]

  def _submit(self, task: _Task) -> "concurrent.futures.Future | _Lazy":
    if not self._num_workers:
      return _Lazy(self._player, task)
    if self._workers is None:
      # JAX does not survive a fork, so workers start afresh.
      self._workers = concurrent.futures.ProcessPoolExecutor(
        self._num_workers,
        multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=self._settings,
      )
    return self._workers.submit(_work, task)


class _Lazy(NamedTuple):
  """A future that is made when it is asked for."""

  player: "_Player"
  task: _Task

  def result(self) -> list[windows.Window]:
    return self.player.windows(self.task)


class _Player:
  """Draws, plays and cuts pieces."""

  def __init__(
    self,
    soundfont_path: Path,
    cutter: Cutter,
    pieces: piece_sources.PieceSource,
  ):
    self._cutter, self._pieces = cutter, pieces
    self._renderer = soundfont.SoundfontRenderer(
      soundfont_path, cutter.config.sample_rate
    )

  def windows(self, task: _Task) -> list[windows.Window]:
    """The windows of a piece: always the same for the same task.

    Where a piece has too many tokens everywhere, another takes its place.
    """
    rng = np.random.default_rng([task.seed, task.piece])
    made: list[windows.Window] = []
    for _ in range(_MAX_TRIES):
      name, notes = self._pieces(rng)
      samples = self._renderer.render(notes)
      for window in self._cutter.cut_piece(
        rng, notes, samples, task.num_windows
      ):
        made.append(window | {"ids": np.asarray(name)})
        if len(made) == task.num_windows:
          return made
    raise ValueError(
      f"Expected {self._cutter.wanted}, found fewer than {task.num_windows} in"
      f" {_MAX_TRIES} pieces."
    )


_player: _Player
"""What a worker process keeps from piece to piece."""


def _start_worker(*settings) -> None:
  global _player
  # Who trains is told to stop, and goes on until it has saved.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  threading.Thread(target=_end_with_parent, daemon=True).start()
  _player = _Player(*settings)


def _end_with_parent() -> None:
  multiprocessing.parent_process().join()
  os._exit(0)


def _work(task: _Task) -> list[windows.Window]:
  return _player.windows(task)
