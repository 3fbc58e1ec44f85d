"""Where pieces to be played come from: the generator, with songs among them."""

from collections.abc import Callable
import dataclasses
import functools
import os
from pathlib import Path
from typing import NamedTuple
import warnings

import numpy as np

from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.data import finding, generator
from music_spectrogram_diffusion.data.builders.problems import Problems
from music_spectrogram_diffusion.notes import Notes

_MAX_TRIES = 100
_SHORTEST_S = 0.02


class Piece(NamedTuple):
  """Notes of Slakh class programs, and what messages call them."""

  name: str
  notes: Notes


PieceSource = Callable[[np.random.Generator], Piece]
"""Draws a piece, always the same by the same generator of random numbers."""


def generated(rng: np.random.Generator) -> Piece:
  """A piece of the project's generator."""
  seed = int(rng.integers(2**62))
  return Piece(f"generated_{seed}", generator.generate_piece(seed))


@dataclasses.dataclass(frozen=True)
class WithSongs:
  """Pieces of the generator, and among them excerpts of songs.

  An excerpt starts anywhere, in another key, at another tempo and louder or
  softer than the song. Files that are no MIDI, or hold no notes, are left out,
  with a warning when they are first met.

  Attributes:
    paths: The songs' MIDI files.
    share: Of the pieces, how many are excerpts; from 0 to 1.
    duration_s: Longest excerpt; the default is as long as what is generated.
    semitones: Most that one is moved up or down; drums are not.
    tempo: Most that one is played faster or slower, as a factor.
    velocity: Most that one is played louder or softer.
  """

  paths: tuple[Path, ...]
  share: float
  duration_s: float = generator.MEAN_DURATION_S
  semitones: int = 5
  tempo: float = 1.2
  velocity: int = 16

  def __post_init__(self):
    if not 0 <= self.share <= 1:
      raise ValueError(f"Expected a share of 0 to 1, got {self.share}.")
    if not self.paths:
      raise ValueError("Expected paths of MIDI files, got none.")

  def __call__(self, rng: np.random.Generator) -> Piece:
    """An excerpt, or a piece of the generator."""
    if rng.random() >= self.share:
      return generated(rng)
    for _ in range(_MAX_TRIES):
      path = self.paths[rng.integers(len(self.paths))]
      song = _read(path)
      if song is not None:
        return Piece(f"midi_{path.stem}", self._excerpt(rng, song))
    raise ValueError(
      f"Expected MIDI files with notes, such as {self.paths[0]}; found none in"
      f" {_MAX_TRIES} draws."
    )

  def _excerpt(self, rng: np.random.Generator, song: Notes) -> Notes:
    """Part of a song, played otherwise; what sounds at its start begins there.

    Where nothing sounds for so long, that is silence.
    """
    tempo = np.exp(rng.uniform(-1, 1) * np.log(self.tempo))
    start_s = rng.uniform(0, max(song.duration_s - tempo * self.duration_s, 0))
    onset, offset = (
      (times - start_s) / tempo for times in (song.onset, song.offset)
    )
    begins = (onset >= 0) & (onset < self.duration_s - _SHORTEST_S)
    held = ~song.is_drum & (onset < 0) & (offset > _SHORTEST_S)
    onset, offset = (
      times.clip(0, self.duration_s) for times in (onset, offset)
    )
    pitched = song.pitch[~song.is_drum]
    highest = min(self.semitones, 127 - int(pitched.max(initial=0)))
    lowest = max(-self.semitones, -int(pitched.min(initial=127)))
    moved = song.pitch + ~song.is_drum * rng.integers(lowest, highest + 1)
    louder = rng.integers(-self.velocity, self.velocity + 1)
    return dataclasses.replace(
      song,
      onset=onset,
      offset=offset,
      pitch=moved.astype(np.int32),
      velocity=(song.velocity + louder).clip(1, 127).astype(np.int32),
    )[begins | held]


def with_songs(
  directory: str | os.PathLike | None, share: float
) -> PieceSource:
  """What the generator makes, with songs of a folder of MIDI files.

  Args:
    directory: The folder, which is searched with its subfolders and must not
      change while it is in use; None for the generator alone.
    share: Of the pieces, how many are excerpts of songs.

  Raises:
    ValueError: There is no such folder, or no MIDI file in it.
  """
  if directory is None:
    return generated
  paths = finding.find_files(
    directory, notes_lib.MIDI_SUFFIXES, "MIDI", Problems()
  )
  return WithSongs(tuple(paths), share)


@functools.lru_cache(maxsize=256)
def _read(path: Path) -> Notes | None:
  """The notes of a song; None where there are none."""
  try:
    song = notes_lib.to_slakh_classes(notes_lib.read_midi(path))
  except notes_lib.MidiError as error:
    warnings.warn(f"Left out {path}: {error}", stacklevel=2)
    return None
  if not len(song):
    warnings.warn(f"Left out {path}: it has no notes.", stacklevel=2)
    return None
  return song
