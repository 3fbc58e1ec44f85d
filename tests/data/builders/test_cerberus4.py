import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")

from music_spectrogram_diffusion import audio as audio_lib  # noqa: E402
from music_spectrogram_diffusion.data.builders import (  # noqa: E402
  base,
  cerberus4,
  slakh_tracks,
)

STEP = 1 / 32767  # Of the prepared audio.


def convert(folder, split="train"):
  """The examples of a track by id, and the problems."""
  problems = base.Problems()
  track = slakh_tracks.Track(folder, 1, split)
  song = slakh_tracks.to_song(track)
  examples = list(cerberus4.convert(song, problems))
  return {example["id"]: example for example in examples}, problems


def test_every_quartet_of_a_track_is_mixed(tmp_path, slakh_files):
  # Two pianos and two guitars, a bass, drums, and a choir that is in none.
  programs = [33, 128, 24, 30, 0, 6, 52]
  slakh_files.write_track(tmp_path / "Track00001", programs)
  examples, _ = convert(tmp_path / "Track00001")
  assert sorted(examples) == [
    "Track00001_S00-S01-S02-S04",
    "Track00001_S00-S01-S02-S05",
    "Track00001_S00-S01-S03-S04",
    "Track00001_S00-S01-S03-S05",
  ]
  example = examples["Track00001_S00-S01-S03-S05"]
  assert example["track_id"] == "Track00001"
  expected = sum(
    audio_lib.resample(
      np.float32(slakh_files.stem_tone(number) / 32768),
      slakh_files.rate,
      base.SAMPLE_RATE,
    )
    for number in (0, 1, 3, 5)
  )
  audio = base.audio_from_example(example)
  np.testing.assert_allclose(audio, expected, atol=STEP)


def test_parts_have_their_four_programs(tmp_path, slakh_files):
  # Electric bass, distorted guitar and harpsichord stand for their families.
  slakh_files.write_track(tmp_path / "Track00001", [33, 128, 30, 6])
  examples, _ = convert(tmp_path / "Track00001")
  notes = base.notes_from_example(examples["Track00001_S00-S01-S02-S03"])
  found = zip(
    notes.pitch.tolist(),
    notes.program.tolist(),
    notes.is_drum.tolist(),
    strict=True,
  )
  assert sorted(found) == [
    (40, 32, False),
    (41, 0, True),
    (42, 24, False),
    (43, 0, False),
  ]


@pytest.mark.parametrize("lost", ["stems/S00.flac", "MIDI/S03.mid"])
def test_a_track_that_lacks_a_part_is_dropped(tmp_path, slakh_files, lost):
  slakh_files.write_track(
    tmp_path / "Track00001", [33, 128, 30, 6], skip=[lost]
  )
  with pytest.raises(base.SongError, match="lacks a part") as error:
    convert(tmp_path / "Track00001")
  assert error.value.rule == cerberus4.NO_QUARTET


def test_a_part_with_broken_audio_is_left_out(tmp_path, slakh_files):
  folder = tmp_path / "Track00001"
  slakh_files.write_track(folder, [33, 128, 30, 6, 0])
  (folder / "stems/S03.flac").write_bytes(b"")
  examples, problems = convert(folder)
  assert list(examples) == ["Track00001_S00-S01-S02-S04"]
  assert problems.count(slakh_tracks.STEM_AUDIO) == 1


def test_tracks_are_split_as_in_slakh(tmp_path, slakh_files):
  raw = tmp_path / "raw"
  quartet = [33, 128, 30, 6]
  slakh_files.write_track(raw / "train/Track00001", quartet)
  slakh_files.write_track(raw / "test/Track01876", quartet)
  slakh_files.write_track(raw / "omitted/Track00049", quartet)
  builder = cerberus4.Cerberus4(data_dir=tmp_path / "out")
  builder.num_workers = 0
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(manual_dir=raw)
  )
  ids = {
    split: [row["id"].decode() for row in tfds.as_numpy(dataset)]
    for split, dataset in builder.as_dataset().items()
  }
  assert ids == {
    "train": ["Track00001_S00-S01-S02-S03"],
    "test": ["Track01876_S00-S01-S02-S03"],
  }
  assert builder.info.full_name == "cerberus4/1.0.0"
