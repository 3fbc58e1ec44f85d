"""URMP, from files as they are published to examples."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

tfds = pytest.importorskip("tensorflow_datasets")

from music_spectrogram_diffusion.data.builders import base, urmp  # noqa: E402

RATE = 48000
C5_HZ, A3_HZ = 523.25, 220.0


def write_piece(root, name, parts, duration_s=1.0):
  """A piece's folder: the mix, and of each part audio and annotations."""
  number, title, *codes = name.split("_")
  folder = root / name
  folder.mkdir(parents=True)
  time = np.arange(round(duration_s * RATE)) / RATE
  tones = [0.2 * np.sin(2 * np.pi * 250 * (i + 1) * time) for i in (0, 1)]
  soundfile.write(folder / f"AuMix_{name}.wav", sum(tones), RATE, "PCM_24")
  for part, (code, lines) in enumerate(zip(codes, parts, strict=False), 1):
    stem = f"{part}_{code}_{number}_{title}.txt"
    soundfile.write(folder / f"AuSep_{stem[:-4]}.wav", tones[0], RATE, "PCM_24")
    (folder / f"Notes_{stem}").write_text(lines)
    (folder / f"F0s_{stem}").write_text("0.023\t0.000\n0.033\t440.000\n")
  (folder / f"Sco_{name}.mid").write_bytes(b"not looked at")


TRUMPET = "0.100\t\t523.250\t\t0.400\n0.600\t\t525.900\t\t0.300\n"
BASSOON = "0.100\t\t220.000\t\t0.500\n0.700\t\t0.000\t\t0.100\n\n"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  home = tmp_path_factory.mktemp("urmp")
  root = home / "URMP" / "Dataset"
  write_piece(root, "10_March_tpt_bn", [TRUMPET, BASSOON])
  write_piece(root, "12_Spring_vn_vc", [TRUMPET, BASSOON])
  write_piece(root, "14_Waltz_fl_theremin", [TRUMPET, BASSOON])
  write_piece(root, "15_Surprise_tpt_tpt_tbn", [TRUMPET, BASSOON, TRUMPET])
  folder = root / "15_Surprise_tpt_tpt_tbn"  # As published:
  path = folder / "Notes_3_tbn_15_Surprise.txt"
  path.rename(folder / "Notes_3_tpt_15_Surprise.txt")
  write_piece(root, "18_Nocturne_vn_fl", [TRUMPET, "0.1 440\n"])
  write_piece(root, "16_Surprise_tpt_tpt", [TRUMPET])  # A part is missing.
  (root / "Supplementary_Files").mkdir()
  write_piece(root, "17_Nocturne_vn_fl", [TRUMPET, TRUMPET])
  silence = np.zeros(RATE)
  path = root / "17_Nocturne_vn_fl" / "AuMix_17_Nocturne_vn_fl.wav"
  soundfile.write(path, silence, RATE, "PCM_24")
  builder = urmp.Urmp(data_dir=home / "data")
  builder.num_workers = 0
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(manual_dir=home / "URMP")
  )
  return builder


def examples(builder, split):
  rows = tfds.as_numpy(builder.as_dataset(split))
  return {row["id"].decode(): row for row in rows}


def test_programs_come_from_the_codes_and_pitches_from_the_frequencies(
  prepared,
):
  notes = base.notes_from_example(
    examples(prepared, "train")["10_March_tpt_bn"]
  )
  np.testing.assert_allclose(notes.onset, [0.1, 0.1, 0.6])
  np.testing.assert_allclose(notes.offset, [0.5, 0.6, 0.9])
  assert notes.program.tolist() == [56, 70, 56]
  assert notes.pitch.tolist() == [72, 57, 72]
  assert set(notes.velocity.tolist()) == {base.DEFAULT_VELOCITY}


def test_splits_are_mt3s_and_there_is_no_test(prepared):
  assert set(prepared.info.splits) == {"train", "validation"}
  train = examples(prepared, "train")
  assert set(train) == {"10_March_tpt_bn", "15_Surprise_tpt_tpt_tbn"}
  [(name, example)] = examples(prepared, "validation").items()
  assert name == "12_Spring_vn_vc"
  assert base.notes_from_example(example).program.tolist() == [40, 42, 40]


def test_the_folder_is_believed_where_a_file_calls_its_part_otherwise(prepared):
  example = examples(prepared, "train")["15_Surprise_tpt_tpt_tbn"]
  notes = base.notes_from_example(example)
  assert notes.program.tolist() == [56, 56, 57, 56, 57]
  assert notes.pitch.tolist() == [57, 72, 72, 72, 72]


def test_audio_is_the_mix_at_16_khz(prepared):
  audio = base.audio_from_example(
    examples(prepared, "train")["10_March_tpt_bn"]
  )
  time = np.arange(16000) / 16000
  expected = 0.2 * np.sin(2 * np.pi * 250 * time)
  expected += 0.2 * np.sin(2 * np.pi * 500 * time)
  assert audio.shape == expected.shape
  inner = slice(500, -500)  # Filters ring at the ends.
  np.testing.assert_allclose(audio[inner], expected[inner], atol=1e-3)


def test_every_broken_item_is_counted_and_named(prepared):
  report = json.loads((Path(prepared.data_dir) / base.REPORT).read_text())
  counts = {row["rule"]: row["count"] for row in report["problems"]}
  assert counts == {
    "unknown_instrument": 1,
    "missing_song": 44 - 6,
    "codes_differ": 1,
    "unreadable_notes": 1,
    "missing_file": 1,
    "silent": 1,
    "resampled": 3,
    "invalid_note": 3,  # Of 0 Hz.
  }
  named = {row["rule"]: row["examples"] for row in report["problems"]}
  assert named["unknown_instrument"] == ["14_Waltz_fl_theremin: theremin"]
  assert "line 1" in named["unreadable_notes"][0]
