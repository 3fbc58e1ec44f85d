"""MAESTRO, from files as they are published to examples."""

import csv
import json
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile

tfds = pytest.importorskip("tensorflow_datasets")

from music_spectrogram_diffusion.data.builders import base, maestro  # noqa: E402

COLUMNS = (
  "canonical_composer",
  "canonical_title",
  "split",
  "year",
  "midi_filename",
  "audio_filename",
  "duration",
)


def write_midi(path):
  """A key held by the pedal, as Disklaviers write it: 384 ticks a beat."""
  file = mido.MidiFile(type=1, ticks_per_beat=384)
  file.add_track().append(mido.MetaMessage("set_tempo", tempo=500_000))
  track = file.add_track()
  track.append(mido.Message("program_change", program=0))
  events = [  # Tick, message; 768 ticks a second.
    (0, mido.Message("control_change", control=64, value=127)),
    (192, mido.Message("note_on", note=60, velocity=70)),
    (384, mido.Message("note_on", note=60, velocity=0)),
    (576, mido.Message("control_change", control=64, value=0)),
    (576, mido.Message("note_on", note=72, velocity=90)),
    (768, mido.Message("note_on", note=72, velocity=0)),
  ]
  tick = 0
  for at, message in events:
    track.append(message.copy(time=at - tick))
    tick = at
  file.save(path)


def write_wav(path, rate, duration_s=1.5):
  """Stereo of 16 bits: the tone on the left, half of it on the right."""
  time = np.arange(round(duration_s * rate)) / rate
  tone = 0.5 * np.sin(2 * np.pi * 300 * time)
  soundfile.write(path, np.stack([tone, tone / 2], 1), rate, "PCM_16")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  root = tmp_path_factory.mktemp("maestro")
  raw = root / "downloads" / "maestro-v3.0.0"
  songs = [
    ("2004/MIDI-Unprocessed_SMF_02_R1_2004_01-05_ORIG_MID--AUDIO_1", "train"),
    ("2018/MIDI-Unprocessed_Chamber3_MID--AUDIO_10_R3_2018_wav--1", "test"),
    ("2018/cut_off", "train"),
    ("2018/broken_midi", "train"),
    ("2018/no_wav", "validation"),
    ("2018/odd_split", "dev"),
  ]
  for name, _ in songs:
    path = raw / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_midi(path.with_name(path.name + ".midi"))
    rate = 44100 if "2004" in name else 48000
    if "no_wav" not in name:
      write_wav(path.with_name(path.name + ".wav"), rate)
  cut = raw / "2018/cut_off.wav"
  cut.write_bytes(cut.read_bytes()[:50_000])
  (raw / "2018/broken_midi.midi").write_bytes(b"no MIDI")
  rows = [
    (
      "Alban Berg",
      'Sonata, "Op. 1"',
      split,
      2018,
      f"{name}.midi",
      f"{name}.wav",
    )
    + (1.0,)
    for name, split in songs
  ]
  with (raw / "maestro-v3.0.0.csv").open("w", newline="") as file:
    csv.writer(file).writerows([COLUMNS, *rows, rows[0]])
  builder = maestro.Maestro(data_dir=root / "data")
  builder.num_workers = 0
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(manual_dir=raw.parent)
  )
  return builder


def only(builder, split):
  [example] = tfds.as_numpy(builder.as_dataset(split))
  return example


def test_splits_are_the_csvs(prepared):
  counts = {
    name: info.num_examples for name, info in prepared.info.splits.items()
  }
  assert counts == {"train": 1, "test": 1}


def test_the_pedal_holds_a_note_until_it_is_released(prepared):
  notes = base.notes_from_example(only(prepared, "train"))
  np.testing.assert_allclose(notes.onset, [0.25, 0.75])
  np.testing.assert_allclose(notes.offset, [0.75, 1.0])
  assert notes.pitch.tolist() == [60, 72]
  assert notes.velocity.tolist() == [70, 90]
  assert notes.program.tolist() == [0, 0]
  assert not notes.is_drum.any()


@pytest.mark.parametrize("split", ["train", "test"])
def test_audio_is_the_mean_of_the_channels_at_16_khz(prepared, split):
  example = only(prepared, split)
  assert example["audio"].dtype == np.int16
  time = np.arange(24000) / 16000
  expected = 0.375 * np.sin(2 * np.pi * 300 * time)
  audio = base.audio_from_example(example)
  assert audio.shape == expected.shape
  inner = slice(800, -800)  # Filters ring at the ends.
  np.testing.assert_allclose(audio[inner], expected[inner], atol=1e-3)


def test_every_broken_item_is_counted_and_named(prepared):
  report = json.loads((Path(prepared.data_dir) / base.REPORT).read_text())
  counts = {row["rule"]: row["count"] for row in report["problems"]}
  assert counts == {
    "missing_song": 1276 - 6,
    "no_split": 1,
    "duplicate_id": 1,
    "truncated": 1,
    "unreadable_notes": 1,
    "missing_file": 1,
    "mixed_down": 2,
    "resampled": 2,
  }
  [row] = [r for r in report["problems"] if r["rule"] == "truncated"]
  assert row["examples"][0].startswith("2018/cut_off: ")


def test_a_wrong_folder_says_what_was_looked_for(tmp_path):
  (tmp_path / "raw").mkdir()
  (tmp_path / "raw" / "notes.txt").touch()
  builder = maestro.Maestro(data_dir=tmp_path / "data")
  with pytest.raises(ValueError, match=r"maestro-v3\*\.csv"):
    builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(manual_dir=tmp_path / "raw")
    )
