"""MusicNet, from files as they are published to examples."""

import csv
import json
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile

tfds = pytest.importorskip("tensorflow_datasets")

from music_spectrogram_diffusion.data.builders import base, musicnet  # noqa: E402

RATE = 44100
COLUMNS = "start_time,end_time,instrument,note,start_beat,end_beat,note_value"
LABELS = [  # Samples; instruments from 1: violin 41, cello 43, harpsichord 7.
  (4410, 22050, 41, 76, 0.0, 1.0, "Quarter"),
  (4410, 13230, 43, 48, 0.0, 0.5, "Eighth"),
  (13230, 35280, 43, 48, 0.5, 1.5, "Dotted Quarter"),
  (8820, 17640, 7, 60, 0.25, 0.5, "Eighth"),
  (17640, 66150, 7, 67, 0.5, 2.0, "Half"),  # Beyond the audio's end.
  (26460, 22050, 41, 70, 1.0, 1.0, "Half"),  # Ends before it begins.
]


def write_recording(raw, folder, id, labels=LABELS):
  """A wav of float samples, mono at 44.1 kHz, and its labels."""
  data, csvs = raw / f"{folder}_data", raw / f"{folder}_labels"
  data.mkdir(parents=True, exist_ok=True)
  csvs.mkdir(exist_ok=True)
  time = np.arange(RATE) / RATE
  tone = (0.25 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
  soundfile.write(data / f"{id}.wav", tone, RATE, "FLOAT")
  with (csvs / f"{id}.csv").open("w", newline="") as file:
    file.write(COLUMNS + "\r\n")
    csv.writer(file).writerows(labels)


def write_em(raw, id):
  """Labels of MusicNetEM: a track an instrument, programs from 0."""
  file = mido.MidiFile(type=1, ticks_per_beat=500)  # A tick is a ms.
  for channel, (program, pitch) in enumerate([(40, 76), (42, 48)]):
    track = file.add_track()
    message = {"channel": channel, "note": pitch}
    track += [
      mido.Message("program_change", channel=channel, program=program),
      mido.Message("note_on", velocity=127, time=200, **message),
      mido.Message("note_off", velocity=0, time=300, **message),
    ]
  (raw / "musicnet_em").mkdir(exist_ok=True)
  file.save(raw / "musicnet_em" / f"{id}.mid")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
  raw = tmp_path_factory.mktemp("musicnet") / "musicnet"
  write_recording(raw, "train", "1727")
  write_recording(raw, "train", "1733")  # MT3 validates on it,
  write_recording(raw, "train", "1729")  # tests on this one,
  write_recording(raw, "test", "1819")  # and trains on that one.
  write_recording(raw, "train", "2104", labels=[])
  write_recording(raw, "train", "2105", labels=[("x", 1, 41, 60, 0, 0, "")])
  write_recording(raw, "train", "2106")
  (raw / "train_data/2106.wav").unlink()
  write_recording(raw, "train", "2112")
  (raw / "train_labels/2112.csv").write_text("a,b\n1,2\n")
  nan = np.full(100, np.nan, np.float32)
  write_recording(raw, "train", "2113")
  soundfile.write(raw / "train_data/2113.wav", nan, RATE, "FLOAT")
  for id in ("1727", "1733", "1729"):
    write_em(raw, id)
  return raw


def prepare(builder, raw):
  builder.num_workers = 0
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(manual_dir=raw)
  )
  report = json.loads((Path(builder.data_dir) / base.REPORT).read_text())
  return report, {row["rule"]: row["count"] for row in report["problems"]}


def examples(builder, split):
  rows = tfds.as_numpy(builder.as_dataset(split))
  return {row["id"].decode(): row for row in rows}


def test_labels_and_audio_become_examples_in_mt3s_splits(raw, tmp_path):
  builder = musicnet.Musicnet(data_dir=tmp_path)
  report, counts = prepare(builder, raw.parent)
  assert counts == {
    "missing_song": 330 - 9,
    "no_notes": 2,
    "missing_file": 1,
    "unreadable_notes": 1,
    "not_finite": 1,
    "resampled": 4,
    "invalid_note": 4,
    "note_over_end": 4,
  }
  assert report["examples"] == {"train": 2, "validation": 1, "test": 1}
  train = examples(builder, "train")
  assert set(train) == {"1727", "1819"}
  assert set(examples(builder, "validation")) == {"1733"}
  assert set(examples(builder, "test")) == {"1729"}

  notes = base.notes_from_example(train["1727"])
  # Violin 40, cello 42; the harpsichord, 6, is of Slakh's electric pianos, 4.
  assert notes.program.tolist() == [40, 42, 4, 42, 4]
  assert notes.pitch.tolist() == [76, 48, 60, 48, 67]
  np.testing.assert_allclose(notes.onset, [0.1, 0.1, 0.2, 0.3, 0.4])
  np.testing.assert_allclose(notes.offset, [0.5, 0.3, 0.4, 0.8, 1.0])
  audio = base.audio_from_example(train["1727"])
  time = np.arange(16000) / 16000
  expected = 0.25 * np.sin(2 * np.pi * 440 * time)
  assert audio.shape == expected.shape
  inner = slice(500, -500)  # Filters ring at the ends.
  np.testing.assert_allclose(audio[inner], expected[inner], atol=1e-3)


def test_labels_of_musicnet_em_are_midi_files(raw, tmp_path):
  builder = musicnet.MusicnetEm(data_dir=tmp_path)
  _, counts = prepare(builder, raw)
  # 1819, 2104, 2105, 2112 and 2113 have no MIDI file; 2106 has nothing at all.
  assert counts["missing_file"] == 5
  [example] = examples(builder, "train").values()
  notes = base.notes_from_example(example)
  np.testing.assert_allclose(notes.onset, [0.2, 0.2])
  np.testing.assert_allclose(notes.offset, [0.5, 0.5])
  assert notes.program.tolist() == [40, 42]
  assert notes.pitch.tolist() == [76, 48]


def test_the_split_lists_are_disjoint_and_of_fifteen():
  validation, test = set(musicnet.VALIDATION_IDS), set(musicnet.TEST_IDS)
  assert len(validation) == len(test) == 15
  assert not validation & test
