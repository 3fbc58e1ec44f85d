import json
import math
from pathlib import Path

import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")

from music_spectrogram_diffusion import audio as audio_lib  # noqa: E402
from music_spectrogram_diffusion.data.builders import (  # noqa: E402
  base,
  slakh,
  slakh_tracks,
)

BAND = [128, 0, 30, 33]  # Drums, piano, guitar, bass.
STEP = 1 / 32767  # Of the prepared audio.


def prepare(tmp_path, raw):
  builder = slakh.Slakh(data_dir=tmp_path / "out")
  builder.num_workers = 0
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(manual_dir=raw)
  )
  report = json.loads((Path(builder.data_dir) / base.REPORT).read_text())
  counts = {row["rule"]: row["count"] for row in report["problems"]}
  return builder, counts


def read(builder, split):
  return {
    row["id"].decode(): row for row in tfds.as_numpy(builder.as_dataset(split))
  }


def names_of(id):
  """The stems of a mix, by its id."""
  return id.split("_")[1].split("-")


def resampled(slakh_files, number, duration_s=1.0):
  tone = np.float32(slakh_files.stem_tone(number, duration_s) / 32768)
  return audio_lib.resample(tone, slakh_files.rate, base.SAMPLE_RATE)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, request):
  """The dataset made of a few tracks of the redux layout."""
  tmp_path = tmp_path_factory.mktemp("slakh")
  raw = tmp_path / "raw" / "slakh2100_flac_redux"
  slakh_files = request.getfixturevalue("slakh_files")
  write = slakh_files.write_track
  # Two stems of one class, and one that sounds only in Slakh's metadata.
  overlapping = {"S01": [(0.125, 0.75, 60)], "S04": [(0.5, 1.0, 60)]}
  write(raw / "train/Track00001", [*BAND, 0, 103, 52], overlapping)
  write(raw / "train/Track00003", BAND, skip=["stems/S01.flac"])
  (raw / "train/Track00004").mkdir()
  (raw / "train/Track00004/metadata.yaml").write_text("UUID: broken")
  write(raw / "validation/Track01501", BAND)
  write(raw / "test/Track01876", BAND, skip=["mix.flac"])
  write(raw / "test/Track01877", [*BAND, 52], skip=["MIDI/S04.mid"])
  write(raw / "omitted/Track00049", BAND)
  return prepare(tmp_path, tmp_path / "raw")


def test_every_training_track_gives_ten_mixes_of_its_stems(prepared):
  train = read(prepared[0], "train")
  ids = [id for id in train if id.startswith("Track00001")]
  # Six stems can be used: there are 15 + 6 + 1 subsets of four and more.
  assert len(ids) == slakh.NUM_SUBSETS
  for id in ids:
    names = names_of(id)
    assert len(names) >= slakh.MIN_STEMS
    assert set(names) <= {"S00", "S01", "S02", "S03", "S04", "S06"}
    assert train[id]["track_id"] == b"Track00001"


def test_a_mix_is_the_sum_of_its_stems(prepared, slakh_files):
  for id, example in read(prepared[0], "train").items():
    if id.startswith("Track00001"):
      numbers = [int(name[1:]) for name in names_of(id)]
      expected = sum(resampled(slakh_files, number) for number in numbers)
      audio = base.audio_from_example(example)
      np.testing.assert_allclose(audio, expected, atol=STEP)


def test_a_mix_has_the_notes_of_its_stems_and_no_others(prepared):
  # S01 and S04 play one pitch as one class, so one cuts the other.
  alone = {
    "S00": (0.25, 0.75, 40, 0, True),
    "S01": (0.125, 0.75, 60, 0, False),
    "S02": (0.25, 0.75, 42, 29, False),
    "S03": (0.25, 0.75, 43, 33, False),
    "S04": (0.5, 1.0, 60, 0, False),
    "S06": (0.25, 0.75, 46, 52, False),
  }
  for id, example in read(prepared[0], "train").items():
    if not id.startswith("Track00001"):
      continue
    names = names_of(id)
    expected = {name: alone[name] for name in names}
    if {"S01", "S04"} <= set(names):
      expected["S01"] = (0.125, 0.5, 60, 0, False)
    notes = base.notes_from_example(example)
    found = zip(
      notes.onset.tolist(),
      notes.offset.tolist(),
      notes.pitch.tolist(),
      notes.program.tolist(),
      notes.is_drum.tolist(),
      strict=True,
    )
    assert sorted(found) == sorted(expected.values())


def test_a_track_of_fewer_stems_is_mixed_once(prepared):
  ids = [id for id in read(prepared[0], "train") if "Track00003" in id]
  assert ids == ["Track00003_S00-S02-S03"]


def test_validation_has_the_published_mix(prepared, slakh_files):
  examples = read(prepared[0], "validation")
  assert list(examples) == ["Track01501"]
  expected = sum(resampled(slakh_files, number) for number in range(4))
  audio = base.audio_from_example(examples["Track01501"])
  np.testing.assert_allclose(audio, expected, atol=STEP)
  notes = base.notes_from_example(examples["Track01501"])
  assert sorted(notes.pitch.tolist()) == [40, 41, 42, 43]


def test_where_the_mix_is_no_use_the_stems_are_summed(prepared, slakh_files):
  examples = read(prepared[0], "test")
  assert sorted(examples) == ["Track01876", "Track01877"]
  expected = sum(resampled(slakh_files, number) for number in range(4))
  # The first has no mix.flac, in the second a stem has no notes.
  for example in examples.values():
    audio = base.audio_from_example(example)
    np.testing.assert_allclose(audio, expected, atol=STEP)
    assert len(base.notes_from_example(example)) == 4


def test_the_report_counts_what_was_left_out_and_mended(prepared):
  builder, counts = prepared
  both = [
    id for id in read(builder, "train") if {"S01", "S04"} <= set(names_of(id))
  ]
  assert counts == {
    "overlap": len(both),
    "unreadable_notes": 1,  # Track00004.
    "stem_missing": 2,
    "mix_summed": 1,
    "few_stems": 1,
    "missing_song": 1710 - 6,
    "resampled": 5,
  }


def test_subsets_come_again_and_differ_between_tracks():
  assert slakh.choose_subsets(8, 1) == slakh.choose_subsets(8, 1)
  assert slakh.choose_subsets(8, 1) != slakh.choose_subsets(8, 2)


@pytest.mark.parametrize("num_stems", [1, 3, 4, 5, 6, 48])
def test_subsets_differ_and_have_at_least_four_stems(num_stems):
  subsets = slakh.choose_subsets(num_stems, 7)
  least = min(4, num_stems)
  there_are = sum(math.comb(num_stems, k) for k in range(least, num_stems + 1))
  assert len(subsets) == len(set(subsets)) == min(10, there_are)
  for subset in subsets:
    assert least <= len(subset) == len(set(subset))
    assert set(subset) <= set(range(num_stems))


def test_sizes_of_subsets_are_drawn_evenly():
  sizes = [
    len(subset)
    for number in range(800)
    for subset in slakh.choose_subsets(12, number)
  ]
  # The 13 subsets of eleven and twelve stems cannot be drawn twice a track.
  counts = np.bincount(sizes, minlength=13)[4:11]
  np.testing.assert_allclose(counts, counts.mean(), rtol=0.1)


def test_mixes_beyond_full_scale_are_scaled_down(slakh_files, tmp_path):
  folder = tmp_path / "Track00001"
  slakh_files.write_track(folder, [*BAND, 52])
  track = slakh_tracks.Track(folder, 1, "train")
  problems = base.Problems()
  stems = slakh_tracks.read_stems(track, problems)
  loaded = [
    (stem, np.full(base.SAMPLE_RATE, 0.5, np.float32)) for stem in stems
  ]
  example = slakh_tracks.mix_stems(loaded, track, problems, id="a")
  assert example["audio"].max() == 32767
  assert problems.count(base.rules.SCALED_DOWN) == 1


def test_orig_takes_all_tracks(tmp_path, slakh_files):
  raw = tmp_path / "raw"
  slakh_files.write_track(raw / "train/Track00046", BAND, uuid="a")
  slakh_files.write_track(raw / "omitted/Track00049", BAND, uuid="a")
  builder = slakh.SlakhOrig(data_dir=tmp_path / "out")
  songs = builder.find_songs(raw, base.Problems())
  assert [song.name for song in songs] == ["Track00046", "Track00049"]
  assert builder.info.full_name == "slakh_orig/1.0.0"


def test_a_wrong_directory_says_what_was_looked_for(tmp_path):
  (tmp_path / "raw" / "other").mkdir(parents=True)
  with pytest.raises(ValueError, match="train/Track00001"):
    prepare(tmp_path, tmp_path / "raw")
