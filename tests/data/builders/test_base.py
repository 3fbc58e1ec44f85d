import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

tfds = pytest.importorskip("tensorflow_datasets")

from music_spectrogram_diffusion import notes as notes_lib  # noqa: E402
from music_spectrogram_diffusion.data.builders import base  # noqa: E402

RATE = base.SAMPLE_RATE


def convert(song, problems):
  """A song of the toy dataset: a wav and a MIDI file."""
  wav, midi = song.files
  audio = base.load_audio(wav, problems, song.name)
  notes = base.load_midi(midi, problems, song.name)
  duration_s = len(audio) / RATE
  notes = base.clean_notes(notes, duration_s, problems, song.name)
  yield base.make_example(song.name, audio, notes)


class Toy(base.SongBuilder):
  VERSION = tfds.core.Version("1.0.0")
  MANUAL_DOWNLOAD_INSTRUCTIONS = "Make it."

  NUM_SONGS = 2

  convert = staticmethod(convert)
  num_workers = 0

  def find_songs(self, manual_dir, problems):
    return [
      base.Song(
        path.stem,
        "validation" if path.stem.startswith("v") else "train",
        (path, path.with_suffix(".mid")),
      )
      for path in sorted(manual_dir.glob("**/*.wav"))
    ]


def tone(duration_s=1.0, rate=RATE, level=0.5):
  time = np.arange(round(duration_s * rate)) / rate
  return (level * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


def write_song(directory: Path, name, samples=None, notes=None, rate=RATE):
  if samples is None:
    samples = tone()
  if notes is None:
    notes = notes_lib.Notes.from_columns([0.1, 0.5], [0.4, 0.9], [60, 64], 80)
  directory.mkdir(parents=True, exist_ok=True)
  soundfile.write(directory / f"{name}.wav", samples, rate, "PCM_16")
  notes_lib.write_midi(notes, directory / f"{name}.mid")


def prepare(builder, raw):
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(manual_dir=raw)
  )
  return builder


def examples(builder, split="train"):
  rows = tfds.as_numpy(builder.as_dataset(split))
  return {row["id"].decode(): row for row in rows}


def test_examples_hold_the_notes_and_the_audio(tmp_path):
  samples = tone()
  write_song(tmp_path / "raw", "a", samples)
  write_song(tmp_path / "raw", "v1")
  builder = prepare(Toy(data_dir=tmp_path / "out"), tmp_path / "raw")
  train = examples(builder)
  assert list(train) == ["a"]
  assert list(examples(builder, "validation")) == ["v1"]
  audio = base.audio_from_example(train["a"])
  np.testing.assert_allclose(audio, samples, atol=2 / 32767)
  notes = base.notes_from_example(train["a"])
  np.testing.assert_allclose(notes.onset, [0.1, 0.5])
  np.testing.assert_allclose(notes.offset, [0.4, 0.9])
  assert notes.pitch.tolist() == [60, 64]
  report = json.loads((Path(builder.data_dir) / base.REPORT).read_text())
  assert report["examples"] == {"train": 1, "validation": 1}
  assert report["audio_s"] == {"train": 1.0, "validation": 1.0}
  assert report["problems"] == []
  assert not list((tmp_path / "out").glob("**/*.songs"))


def test_times_are_stored_to_the_last_bit(tmp_path):
  onset = np.array([1 / 3])
  notes = notes_lib.Notes.from_columns(onset, onset + 1 / 7, 60, 80)
  example = base.make_example("a", tone(), notes)
  features = tfds.features.FeaturesDict(dict(base.FEATURES))
  back = features.deserialize_example_np(features.serialize_example(example))
  assert base.notes_from_example(back).onset == onset
  assert base.notes_from_example(back).offset == onset + 1 / 7
  np.testing.assert_array_equal(back["audio"], example["audio"])


def test_a_split_whose_songs_are_all_dropped_is_left_out(tmp_path):
  write_song(tmp_path / "raw", "a")
  write_song(tmp_path / "raw", "v1", np.zeros(RATE))
  builder = prepare(Toy(data_dir=tmp_path / "out"), tmp_path / "raw")
  assert set(builder.info.splits) == {"train"}
  assert builder.problems.lines() == [
    "1 songs dropped: audio is silent"
    f" (v1: {tmp_path / 'raw/v1.wav'} peaks at 0)"
  ]


def test_a_dataset_of_no_use_says_why_and_leaves_nothing(tmp_path):
  write_song(tmp_path / "raw", "a", np.zeros(RATE))
  with pytest.raises(ValueError, match="none can be used: .* audio is silent"):
    prepare(Toy(data_dir=tmp_path / "out"), tmp_path / "raw")
  assert not Toy(data_dir=tmp_path / "out").is_prepared()


def test_an_archive_without_one_kind_of_file_is_refused_at_once(tmp_path):
  for name in "ab":
    write_song(tmp_path / "raw", name)
    (tmp_path / "raw" / f"{name}.mid").unlink()
  with pytest.raises(ValueError, match="2 songs of toy .* lacks .*a.mid"):
    prepare(Toy(data_dir=tmp_path / "out"), tmp_path / "raw")


def test_songs_that_are_missing_altogether_are_counted(tmp_path):
  write_song(tmp_path / "raw", "a")
  builder = prepare(Toy(data_dir=tmp_path / "out"), tmp_path / "raw")
  assert builder.problems.count(base.rules.MISSING_SONG) == 1


def test_what_an_interrupted_run_has_converted_is_taken_up(
  tmp_path, monkeypatch
):
  for name in "ab":
    write_song(tmp_path / "raw", name)

  def interrupted(songs, *_, **__):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    # As if the user had given up while TFDS was writing.
    patch.setattr(Toy, "_generate_examples", interrupted)
    with pytest.raises(KeyboardInterrupt):
      prepare(Toy(data_dir=tmp_path / "out"), tmp_path / "raw")
  read = []
  monkeypatch.setattr(
    Toy, "convert", staticmethod(lambda *song: read.append(song))
  )
  builder = prepare(Toy(data_dir=tmp_path / "out"), tmp_path / "raw")
  assert set(examples(builder)) == {"a", "b"}
  assert not read


def test_a_remote_data_dir_needs_a_local_work_dir(tmp_path):
  builder = Toy(data_dir=tmp_path / "out")
  builder._final_dir = "gs://bucket/toy/1.0.0"
  with pytest.raises(ValueError, match="local work directory"):
    builder._work_dir()
  builder.work_dir = tmp_path
  assert builder._work_dir() == tmp_path / "toy/1.0.0"
