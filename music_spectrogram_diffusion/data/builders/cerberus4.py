"""Cerberus4: all quartets of bass, drums, guitar and piano in Slakh2100.

After Manilow et al. 2020, https://arxiv.org/abs/1910.12621; of whole tracks, as
in Gardner et al. 2022, https://arxiv.org/abs/2111.03017, B.3.
"""

from collections.abc import Iterator, Sequence
import itertools
from typing import Any

import tensorflow_datasets as tfds

from music_spectrogram_diffusion.data.builders import (
  base,
  slakh,
  slakh_tracks,
)
from music_spectrogram_diffusion.data.builders.slakh_tracks import Stem

# What plays each part: the programs of the General MIDI family, and the one
# that stands for the part in the prepared data.
_PARTS = {
  "bass": (range(32, 40), 32),
  "guitar": (range(24, 32), 24),
  "piano": (range(0, 8), 0),
}

NO_QUARTET = base.Rule(
  "no_quartet", "songs dropped", "no bass, drums, guitar or piano"
)


def convert(
  song: base.Song, problems: base.Problems
) -> Iterator[dict[str, Any]]:
  """Yields the mix of every bass, drums, guitar and piano of a track."""
  track = song.details
  with slakh_tracks.counted_once(problems, song.name) as found:
    parts = _parts(slakh_tracks.read_stems(track, found))
    loaded = {}
    if all(parts):
      stems = [stem for part in parts for stem in part]
      loaded = slakh_tracks.load_samples(stems, track, found)
    parts = [[stem for stem in part if stem.name in loaded] for part in parts]
    if not all(parts):
      raise base.SongError(NO_QUARTET, f"{track.path} lacks a part")
    for quartet in itertools.product(*parts):
      chosen = [loaded[stem.name] for stem in quartet]
      id = slakh_tracks.mix_id(track, quartet)
      yield slakh_tracks.mix_stems(chosen, track, found, id=id)


def _parts(stems: Sequence[Stem]) -> list[list[Stem]]:
  """The stems of bass, drums, guitar and piano, with the parts' programs."""
  parts = {"bass": [], "drums": [], "guitar": [], "piano": []}
  for stem in stems:
    if stem.is_drum:
      parts["drums"].append(stem)
      continue
    for name, (programs, program) in _PARTS.items():
      if stem.midi_program in programs:
        parts[name].append(slakh_tracks.with_program(stem, program))
  return list(parts.values())


class Cerberus4(slakh.Slakh):
  """Quartets of Slakh2100-redux, found and split as its tracks are."""

  VERSION = tfds.core.Version("1.0.0")
  DESCRIPTION = "Cerberus4: quartets of bass, drums, guitar and piano."

  convert = staticmethod(convert)


class Cerberus4Orig(Cerberus4):
  """Quartets of Slakh2100-orig."""

  WITH_DUPLICATES = True
  VERSION = tfds.core.Version("1.0.0")
  NUM_SONGS = slakh.SlakhOrig.NUM_SONGS
  DESCRIPTION = "Cerberus4 with songs that are there several times."
