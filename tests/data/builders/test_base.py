import json
import os
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
  if song.name == "bug":
    raise RuntimeError("a bug")
  if song.name == "crash":
    os._exit(1)
  if song.name == "once" and not midi.with_suffix(".stop").exists():
    midi.with_suffix(".stop").touch()
  audio = base.load_audio(wav, problems, song.name)
  notes = base.load_midi(midi, problems, song.name)
  duration_s = len(audio) / RATE
  notes = base.clean_notes(notes, duration_s, problems, song.name)
  yield base.make_example(song.name, audio, notes)


class Toy(base.SongBuilder):
  VERSION = tfds.core.Version("1.0.0")
  MANUAL_DOWNLOAD_INSTRUCTIONS = "Make it."

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
  return {
    row["id"].decode(): row for row in tfds.as_numpy(builder.as_dataset(split))
  }


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
  assert report["problems"] == []
  assert not list((tmp_path / "out").glob("**/*.songs"))
