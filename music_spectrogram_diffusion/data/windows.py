"""Training batches: random windows of prepared songs."""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import functools
from pathlib import Path

from jaxtyping import Float32, Int32, Shaped
import numpy as np

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.audio import SpectrogramConfig
from music_spectrogram_diffusion.data import songs

Batch = dict[str, Shaped[np.ndarray, "batch ..."]]
Window = dict[str, Shaped[np.ndarray, "..."]]

_MAX_DRAWS = 100


@dataclasses.dataclass(frozen=True)
class WindowBatches:
  """An endless, seeded sequence of batches, each a function of its number.

  A window starts at a random frame, all frames of all songs being equally
  likely; its context is what precedes it. Windows with more than `max_tokens`
  tokens are left out. The directory must not change while it is in use. Each
  window is a function of its place in the batch, so that several hosts can make
  a batch together.

  Attributes:
    directory: Where `songs.prepare_songs` wrote.
    vocabulary: Ids of the note tokens.
    config: The spectrogram's shape.
    batch_size: Windows of a batch.
    max_tokens: Length that note tokens are padded to.
    segment_frames: Frames of a window, and the most of its context.
    start_probability: Share of windows at the start of a song, which have no
      context.
    short_context_probability: Share of windows whose context is cut to a
      random length.
    seed: Another seed gives other windows.
    first_window: Place of the first window in a batch that several hosts make.
  """

  directory: str | Path
  vocabulary: notes_lib.Vocabulary
  config: SpectrogramConfig
  batch_size: int
  max_tokens: int
  segment_frames: int = 256
  start_probability: float = 0.1
  short_context_probability: float = 0.1
  seed: int = 0
  first_window: int = 0

  def __post_init__(self):
    if not self._paths:
      raise ValueError(
        f"Expected prepared songs in {self.directory}, found none; make some:"
        " spec-diff prepare soundfont --format arrays --hours 8"
        f" --data_dir {self.directory}"
      )

  def __iter__(self) -> Iterator[Batch]:
    return self.batches()

  def batches(self, first_step: int = 0) -> Iterator[Batch]:
    """All batches from `first_step` on: how a training run is resumed."""
    step = first_step
    while True:
      yield self.batch(step)
      step += 1

  def batch(self, step: int) -> Batch:
    """The batch of a step, always the same for the same songs and settings.

    Returns:
      `note_tokens` [batch, tokens] int32, padded with 0; `context` and
      `targets` [batch, frames, mel_bins] float32, natural log-mel with silence
      where the masks `context_mask` and `targets_mask` [batch, frames] are
      False. Valid frames come first. `ids` names the song of each window.
    """
    places = range(self.first_window, self.first_window + self.batch_size)
    return stack(
      [self._draw(np.random.default_rng([self.seed, step, i])) for i in places]
    )

  @functools.cached_property
  def _paths(self) -> list[Path]:
    return songs.song_paths(self.directory)

  @functools.cached_property
  def _notes(self) -> list[notes_lib.Notes]:
    return [songs.read_notes(path) for path in self._paths]

  @functools.cached_property
  def _ends(self) -> np.ndarray:
    """Running total of the songs' frames."""
    return np.cumsum([songs.num_frames(path) for path in self._paths])

  @functools.cached_property
  def _cutter(self) -> "WindowCutter":
    names = [field.name for field in dataclasses.fields(WindowCutter)]
    return WindowCutter(**{name: getattr(self, name) for name in names})

  def _draw(self, rng: np.random.Generator) -> Window:
    """A random window, after as many draws as it takes to fit."""
    for _ in range(_MAX_DRAWS):
      position = rng.integers(self._ends[-1])
      song = int(np.searchsorted(self._ends, position, side="right"))
      end = int(self._ends[song])
      num_frames = end - (int(self._ends[song - 1]) if song else 0)
      window = self._cutter.cut(
        rng,
        num_frames - (end - int(position)),
        notes=self._notes[song],
        num_frames=num_frames,
        read=functools.partial(songs.read_log_mel, self._paths[song]),
      )
      if window is not None:
        return window | {"ids": np.asarray(self._paths[song].stem)}
    raise ValueError(
      f"Expected windows of at most {self.max_tokens} tokens in"
      f" {self.directory}, found none in {_MAX_DRAWS} draws; raise max_tokens."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowCutter:
  """Cuts windows out of songs: see `WindowBatches`, whose settings these are.

  Attributes:
    vocabulary: Ids of the note tokens.
    config: The spectrogram's shape.
    max_tokens: Length that note tokens are padded to.
    segment_frames: Frames of a window, and the most of its context.
    start_probability: Share of windows that are moved to their song's start.
    short_context_probability: Share of windows whose context is cut short.
  """

  vocabulary: notes_lib.Vocabulary
  config: SpectrogramConfig
  max_tokens: int
  segment_frames: int = 256
  start_probability: float = 0.1
  short_context_probability: float = 0.1

  def cut(
    self,
    rng: np.random.Generator,
    start: int,
    *,
    notes: notes_lib.Notes,
    num_frames: int,
    read: Callable[[int, int], Shaped[np.ndarray, "frames mel_bins"]],
  ) -> Window | None:
    """The window at frame `start`, or at the song's start, with its context.

    Args:
      rng: Decides on the start and the length of the context.
      start: Frame at which the window starts.
      notes: The song.
      num_frames: Its length.
      read: Gives its log-mel frames from one up to another, as far as they go.

    Returns:
      Arrays of a batch without the first axis; None for too many tokens.
    """
    context_frames = self.segment_frames
    if rng.random() < self.start_probability:
      start = 0
    if rng.random() < self.short_context_probability:
      context_frames = int(rng.integers(self.segment_frames))
    try:
      tokens = self.tokens(notes, start, num_frames)
    except notes_lib.SegmentOverflowError:
      return None
    context = self._padded(read(max(start - context_frames, 0), start))
    targets = self._padded(read(start, start + self.segment_frames))
    return {
      "note_tokens": tokens,
      "context": context[0],
      "context_mask": context[1],
      "targets": targets[0],
      "targets_mask": targets[1],
    }

  @property
  def wanted(self) -> str:
    """What it can use of a piece, in words."""
    return f"windows of at most {self.max_tokens} tokens"

  def cut_piece(
    self,
    rng: np.random.Generator,
    notes: notes_lib.Notes,
    samples: Float32[np.ndarray, " samples"],
    count: int,
  ) -> Iterator[Window]:
    """Yields windows of a piece and its audio, at random places.

    As many as there are in twice `count` tries; the others have too many
    tokens.
    """
    log_mel = np.asarray(audio.log_mel(samples, self.config))
    for _ in range(2 * count):
      window = self.cut(
        rng,
        int(rng.integers(len(log_mel))),
        notes=notes,
        num_frames=len(log_mel),
        read=lambda start, stop: log_mel[start:stop],
      )
      if window is not None:
        yield window

  def tokens(
    self, notes: notes_lib.Notes, start: int, num_frames: int
  ) -> Int32[np.ndarray, " tokens"]:
    """Note tokens of the window at `start`, padded to `max_tokens`.

    Raises:
      notes_lib.SegmentOverflowError: There are more.
    """
    margin_s = 0.02  # Times are rounded when they become tokens.
    start_s = start / self.config.frame_rate - margin_s
    end_s = start_s + self.segment_frames / self.config.frame_rate
    near = (notes.onset < end_s + 2 * margin_s) & (notes.offset > start_s)
    [tokens] = notes_lib.tokenize_segments(
      notes[near],
      vocabulary=self.vocabulary,
      segment_frames=self.segment_frames,
      frame_rate=self.config.frame_rate,
      max_tokens=self.max_tokens,
      first_frame=start,
      num_segments=1,
      song_frames=num_frames,
      on_overflow="raise",
    )
    return np.pad(tokens, (0, self.max_tokens - len(tokens)))

  def _padded(self, log_mel):
    """Frames padded with silence, and which are there."""
    shape = (self.segment_frames, self.config.n_mels)
    frames = np.full(shape, self.config.mel_range[0], np.float32)
    frames[: len(log_mel)] = log_mel
    return frames, np.arange(self.segment_frames) < len(log_mel)


def stack(windows: Sequence[Window]) -> Batch:
  """One batch of several windows."""
  return {
    name: np.stack([window[name] for window in windows]) for name in windows[0]
  }


class AudioWindowCutter(WindowCutter):
  """Cuts windows out of pieces, with the `audio` of their targets.

  That is [samples] float32, of all frames of the targets and the hop after
  them, which the last frame reaches into.
  """

  def cut_piece(
    self,
    rng: np.random.Generator,
    notes: notes_lib.Notes,
    samples: Float32[np.ndarray, " samples"],
    count: int,
  ) -> Iterator[Window]:
    """See `WindowCutter.cut_piece`."""
    hop = self.config.hop_length
    length = (self.segment_frames + 1) * hop
    log_mel = np.asarray(audio.log_mel(samples, self.config))
    fixed = dataclasses.replace(self, start_probability=0.0)
    for _ in range(2 * count):
      start = int(rng.integers(len(log_mel)))
      window = fixed.cut(
        rng,
        start,
        notes=notes,
        num_frames=len(log_mel),
        read=lambda start, stop: log_mel[start:stop],
      )
      if window is not None:
        heard = samples[start * hop :][:length].astype(np.float32)
        padded = np.pad(heard, (0, length - len(heard)))
        yield window | {"audio": padded}
