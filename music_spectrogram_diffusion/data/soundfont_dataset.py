"""Paired data without recordings: MIDI files and composed pieces, played.

The same examples as those of recorded datasets, so that the same tasks read
them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import functools
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float32
import numpy as np
import tensorflow_datasets as tfds

from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.data import folder, generator, songs, soundfont
from music_spectrogram_diffusion.data.builders import base
from music_spectrogram_diffusion.data.builders.base import (
  Problems,
  Song,
  SongError,
)
from music_spectrogram_diffusion.data.builders.loading import SILENCE
from music_spectrogram_diffusion.data.finding import find_files
from music_spectrogram_diffusion.data.fluidsynth import FluidsynthRenderer


@runtime_checkable
class Synthesizer(Protocol):
  """What plays notes."""

  def render(
    self, notes: notes_lib.Notes, duration_s: float | None = None
  ) -> Float32[np.ndarray, " samples"]:
    """Mono audio; by default 2 s longer than the notes."""


SYNTHESIZERS: Mapping[str, Callable[[Path, int], Synthesizer]] = {
  "tinysoundfont": soundfont.SoundfontRenderer,
  "fluidsynth": FluidsynthRenderer,
}
"""What makes a synthesizer of a soundfont and a sample rate, by name."""


@dataclasses.dataclass(frozen=True)
class _Details:
  """What rendering a piece depends on; see `converting.Song`.

  Attributes:
    soundfont: The soundfont.
    synthesizer: A name of `SYNTHESIZERS`.
    seed: Of the generator, with its version; None for a MIDI file.
  """

  soundfont: Path
  synthesizer: str
  seed: tuple[int, int] | None = None


class Soundfont(base.SongBuilder):
  """MIDI files and generated pieces, played on a soundfont.

  TFDS's `manual_dir` is the folder of MIDI files, which is searched with its
  subfolders; without MIDI files, any folder. Programs become the first ones of
  their Slakh classes before they are played.

  Attributes:
    soundfont: The soundfont; needed to prepare.
    with_midi: Whether `manual_dir` is searched.
    seeds: Seeds of the pieces to generate.
    synthesizer: A name of `SYNTHESIZERS`.
    validation_share: Share of the pieces for validation.
  """

  VERSION = tfds.core.Version("1.0.0")
  MANUAL_DOWNLOAD_INSTRUCTIONS = "A folder of MIDI files."
  DESCRIPTION = "MIDI files and generated pieces, played on a soundfont."

  def __init__(
    self,
    *,
    soundfont: str | Path | None = None,
    with_midi: bool = True,
    seeds: Sequence[int] = (),
    synthesizer: str = "tinysoundfont",
    validation_share: float = 0.1,
    **kwargs: Any,
  ):
    super().__init__(**kwargs)
    self.soundfont = soundfont
    self.with_midi = with_midi
    self.seeds = seeds
    self.synthesizer = synthesizer
    self.validation_share = validation_share

  def find_songs(self, manual_dir: Path, problems: Problems) -> Sequence[Song]:
    """Lists MIDI files by path, then the pieces to generate."""
    if self.soundfont is None:
      raise ValueError("Expected a soundfont to prepare with; got none.")
    details = _Details(Path(self.soundfont), self.synthesizer)
    _synthesizer(details.synthesizer, details.soundfont)  # Fails at once.
    found = []
    if self.with_midi:
      for path in find_files(
        manual_dir, notes_lib.MIDI_SUFFIXES, "MIDI", problems
      ):
        name = path.relative_to(manual_dir).with_suffix("").as_posix()
        found.append((name, (path, details.soundfont), details))
    for seed in self.seeds:
      key = (generator.GENERATOR_VERSION, seed)
      generated = dataclasses.replace(details, seed=key)
      found.append((songs.song_name(seed), (details.soundfont,), generated))
    made = [
      Song(name, folder.split_of(name, self.validation_share), files, piece)
      for name, files, piece in found
    ]
    folder.check_splits(made, self.validation_share, problems)
    return made

  @staticmethod
  def convert(song: Song, problems: Problems) -> Iterator[dict[str, Any]]:
    """Makes the example of a piece."""
    details = song.details
    if details.seed is None:
      notes = base.load_midi(song.files[0], problems, song.name)
    else:
      notes = generator.generate_piece(details.seed[1])
    if notes.duration_s > songs.MAX_PIECE_S:
      raise SongError(
        songs.TOO_LONG, f"{song.name} lasts {notes.duration_s:.0f} s"
      )
    duration_s = notes.duration_s + soundfont.TAIL_S
    notes = base.clean_notes(notes, duration_s, problems, song.name)
    player = _synthesizer(details.synthesizer, details.soundfont)
    samples = player.render(notes, duration_s)
    if np.abs(samples).max() < SILENCE:
      raise SongError(
        base.rules.SILENT, f"{song.name}: nothing of {details.soundfont} sounds"
      )
    samples = base.limit_peak(samples, problems, song.name)
    yield base.make_example(song.name, samples, notes)


@functools.lru_cache(maxsize=1)
def _synthesizer(name: str, path: Path) -> Synthesizer:
  """The synthesizer of a process: a soundfont takes a while to load."""
  if name not in SYNTHESIZERS:
    raise ValueError(
      f"Expected a synthesizer of {', '.join(SYNTHESIZERS)}; got {name}."
    )
  return SYNTHESIZERS[name](path, base.SAMPLE_RATE)
