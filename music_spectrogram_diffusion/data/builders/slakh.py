"""Slakh2100: songs of sampled instruments, and mixes of some of their stems.

Manilow et al. 2019, https://arxiv.org/abs/1909.08494. `slakh_tracks` and
docs/datasets.md say what is left out and mended by which rule.
"""

from collections.abc import Iterator, Sequence
import math
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from music_spectrogram_diffusion.data.builders import base, slakh_tracks
from music_spectrogram_diffusion.data.builders.slakh_tracks import Stem, Track

NUM_SUBSETS = 10
"""Mixes of random stems that are made of each training track."""

MIN_STEMS = 4
"""Least number of stems in such a mix."""

SEED = 2100
"""Where the choice of stems begins, together with the track's number."""

FEW_STEMS = base.Rule(
  "few_stems", "songs kept", f"under {MIN_STEMS} stems, mixed only together"
)


def choose_subsets(num_stems: int, number: int) -> list[tuple[int, ...]]:
  """Draws the subsets of a track's stems that are mixed for training.

  Their sizes are drawn evenly from `MIN_STEMS` to all stems, and then the
  stems. Gardner et al. 2022 (https://arxiv.org/abs/2111.03017, B.2) take ten
  random subsets of at least four, and say no more.

  Args:
    num_stems: Stems to choose from, at least one.
    number: The track's; its subsets depend on no other track.

  Returns:
    Row numbers, ascending, of `NUM_SUBSETS` different subsets; fewer if there
    are no more, and all stems where there are fewer than `MIN_STEMS`.
  """
  random = np.random.default_rng((SEED, number))
  smallest = min(MIN_STEMS, num_stems)
  there_are = sum(
    math.comb(num_stems, size) for size in range(smallest, num_stems + 1)
  )
  subsets = set()
  while len(subsets) < min(NUM_SUBSETS, there_are):
    size = random.integers(smallest, num_stems, endpoint=True)
    chosen = random.choice(num_stems, size, replace=False)
    subsets.add(tuple(sorted(chosen.tolist())))
  return sorted(subsets)


def convert(
  song: base.Song, problems: base.Problems
) -> Iterator[dict[str, Any]]:
  """Yields mixes of a training track's stems, and the mix of another track."""
  track = song.details
  make = _subsets if track.split == "train" else _whole
  with slakh_tracks.counted_once(problems, song.name) as found:
    yield from make(track, slakh_tracks.read_stems(track, found), found)


def _subsets(
  track: Track, stems: Sequence[Stem], problems: base.Problems
) -> Iterator[dict[str, Any]]:
  loaded = slakh_tracks.load_samples(stems, track, problems)
  names = sorted(loaded)
  problems.add(FEW_STEMS, track.track_id, len(names) < MIN_STEMS)
  for rows in choose_subsets(len(names), track.number):
    chosen = [loaded[names[row]] for row in rows]
    id = slakh_tracks.mix_id(track, [stem for stem, _ in chosen])
    yield slakh_tracks.mix_stems(chosen, track, problems, id=id)


def _whole(
  track: Track, stems: Sequence[Stem], problems: base.Problems
) -> Iterator[dict[str, Any]]:
  """The published mix, or the sum of stems if it is broken or has others."""
  id = track.track_id
  if slakh_tracks.has_all_stems(track, stems):
    try:
      samples = slakh_tracks.load_mix(track, problems)
      yield slakh_tracks.make_example(stems, samples, track, problems, id=id)
      return
    except base.SongError:
      problems.add(slakh_tracks.MIX_SUMMED, id)
  loaded = slakh_tracks.load_samples(stems, track, problems)
  yield slakh_tracks.mix_stems(list(loaded.values()), track, problems, id=id)


class Slakh(base.SongBuilder):
  """Slakh2100-redux: 1289 tracks for training, 270 and 151.

  Attributes:
    WITH_DUPLICATES: Whether tracks are taken whose song an earlier one has.
  """

  WITH_DUPLICATES = False
  VERSION = tfds.core.Version("1.0.0")
  NUM_SONGS = 1710
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    "Unpack slakh2100_flac_redux.tar.gz from"
    " https://zenodo.org/records/4599666 into this folder."
  )
  DESCRIPTION = "Slakh2100: mixes of 4 or more sampled instruments."
  HOMEPAGE = "http://www.slakh.com"
  LICENSE = "Creative Commons Attribution 4.0 International"
  EXTRA_FEATURES = {"track_id": tfds.features.Text()}

  convert = staticmethod(convert)

  def find_songs(
    self, manual_dir: Path, problems: base.Problems
  ) -> Sequence[base.Song]:
    """The tracks of all splits."""
    tracks = slakh_tracks.find_tracks(
      manual_dir,
      problems,
      with_duplicates=self.WITH_DUPLICATES,
    )
    return [slakh_tracks.to_song(track) for track in tracks]


class SlakhOrig(Slakh):
  """Slakh2100-orig: all tracks, 1500 for training, 375 and 225."""

  WITH_DUPLICATES = True
  VERSION = tfds.core.Version("1.0.0")
  NUM_SONGS = 2100
  DESCRIPTION = "Slakh2100 with songs that are there several times."
