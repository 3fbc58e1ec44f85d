import csv
import dataclasses
import json
import os
from pathlib import Path
import re
import unicodedata

import numpy as np
import pytest
import soundfile

tfds = pytest.importorskip("tensorflow_datasets")

from music_spectrogram_diffusion import notes as notes_lib  # noqa: E402
from music_spectrogram_diffusion.data import (  # noqa: E402
  folder,
  prepare_dataset,
  soundfont,
)
from music_spectrogram_diffusion.data.builders import base  # noqa: E402

SINE = Path(__file__).with_name("sine.sf2")  # By make_sine_soundfont.py.
RATE = base.SAMPLE_RATE
LENGTH_S = 12.0


def piece(seed, length_s=LENGTH_S):
  rng = np.random.default_rng(seed)
  count = round(4 * length_s)
  onset = np.sort(rng.uniform(0.2, length_s - 0.6, count))
  pitch = rng.integers(40, 90, count)
  notes = notes_lib.Notes.from_columns(onset, onset + 0.2, pitch, 100)
  return notes_lib.trim_overlaps(notes)


def play(notes, length_s=LENGTH_S, rate=RATE):
  return soundfont.SoundfontRenderer(SINE, rate).render(notes, length_s)


def write(path, content, rate=RATE):
  """Writes audio, or notes as MIDI, by what the content is."""
  path.parent.mkdir(parents=True, exist_ok=True)
  if isinstance(content, notes_lib.Notes):
    notes_lib.write_midi(content, path)
  else:
    soundfile.write(path, content, rate)


def prepare(root, **settings):
  defaults = {
    "manual_dir": root / "audio",
    "midi_dir": root / "midi",
    "data_dir": root / "out",
    "num_workers": 0,
    "validation_share": 0.0,
  }
  return prepare_dataset("folder", **(defaults | settings))


def examples(prepared, split="train"):
  builder = tfds.builder_from_directory(prepared.directory)
  dataset = builder.as_dataset(split)
  return {row["id"].decode(): row for row in tfds.as_numpy(dataset)}


def table(prepared):
  with open(Path(prepared.directory) / folder.PAIRS) as file:
    return {row["name"]: row for row in csv.DictReader(file)}


def report(prepared):
  rows = json.loads((Path(prepared.directory) / base.REPORT).read_text())
  return {row["rule"]: row["count"] for row in rows["problems"]}


def pairs_of(root, files):
  problems = base.Problems()
  for name in files:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  pairs = folder.find_pairs(root / "a", root / "m", problems)
  found = {
    name: tuple(path.relative_to(root).as_posix() for path in paths)
    for name, paths in pairs.items()
  }
  counts = {row["rule"]: row["count"] for row in problems.to_json()}
  return found, counts


def test_files_pair_by_path_in_any_case_and_encoding(tmp_path):
  composed, decomposed = (
    unicodedata.normalize(form, "Café") for form in ("NFC", "NFD")
  )
  found, problems = pairs_of(
    tmp_path,
    [
      "a/one/Song.WAV",
      "m/One/song.MIDI",
      "a/two/song.flac",
      "m/two/song.kar",
      f"a/{decomposed}.mp3",
      f"m/{composed}.rmi",
      "a/v1.2 take.ogg",
      "m/v1.2 take.mid",
      "a/._v1.2 take.ogg",
      "a/.trash/x.wav",
    ],
  )
  assert found == {
    "one/Song": ("a/one/Song.WAV", "m/One/song.MIDI"),
    "two/song": ("a/two/song.flac", "m/two/song.kar"),
    decomposed: (f"a/{decomposed}.mp3", f"m/{composed}.rmi"),
    "v1.2 take": ("a/v1.2 take.ogg", "m/v1.2 take.mid"),
  }
  assert problems == {}


def test_names_pair_across_folders_where_paths_do_not(tmp_path):
  found, problems = pairs_of(
    tmp_path, ["a/album/x.wav", "m/x.mid", "a/y.wav", "m/deep/er/y.mid"]
  )
  assert found == {
    "album/x": ("a/album/x.wav", "m/x.mid"),
    "y": ("a/y.wav", "m/deep/er/y.mid"),
  }
  assert problems == {}


def test_what_could_be_several_pairs_is_none(tmp_path):
  found, problems = pairs_of(
    tmp_path,
    [
      "a/1/x.wav",
      "a/2/x.wav",
      "m/x.mid",
      "a/y.wav",
      "a/y.mp3",
      "m/y.mid",
      "a/lonely.wav",
      "m/silent.mid",
    ],
  )
  assert found == {}
  assert problems == {
    "ambiguous": 2,
    "no_midi": 1,
    "no_audio": 1,
  }


def test_a_wrong_folder_is_an_error_that_says_what_was_looked_for(tmp_path):
  write(tmp_path / "audio" / "song.txt", piece(0))
  with pytest.raises(ValueError, match=r"no folder .*nowhere"):
    folder.find_pairs(tmp_path / "nowhere", tmp_path, base.Problems())
  with pytest.raises(ValueError, match=r"\.wav, \.flac, \.mp3, \.ogg"):
    prepare(tmp_path)
  write(tmp_path / "audio" / "song.wav", np.zeros(10))
  with pytest.raises(ValueError, match="MIDI files, found no folder"):
    prepare(tmp_path)
  write(tmp_path / "midi" / "other.mid", piece(0))
  with pytest.raises(ValueError, match="no pair: 1 audio files left out"):
    prepare(tmp_path)


def test_the_split_is_a_matter_of_the_name_alone():
  names = [f"song {i}" for i in range(2000)]
  splits = [folder.split_of(name, 0.1) for name in names]
  assert 150 < splits.count("validation") < 250
  wider = [folder.split_of(name, 0.2) for name in names]
  assert all(
    w == "validation"
    for s, w in zip(splits, wider, strict=True)
    if s == "validation"
  )
  assert set(folder.split_of(name, 0.0) for name in names) == {"train"}


def test_an_empty_validation_split_is_counted_with_what_fills_it():
  def songs(share):
    return [base.Song(n, folder.split_of(n, share), ()) for n in ("a", "b")]

  problems = base.Problems()
  folder.check_splits(songs(0.01), 0.01, problems)
  [line] = problems.lines()
  share = float(re.search(r"--validation (0\.\d\d) fills it", line)[1])
  assert [song.split for song in songs(share)].count("validation") == 1
  problems = base.Problems()
  folder.check_splits(songs(share), share, problems)
  folder.check_splits(songs(0.0), 0.0, problems)
  assert not problems.lines()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  """Songs that fit, songs that do not, and broken ones, prepared together."""
  root = tmp_path_factory.mktemp("folder")
  notes = [piece(seed) for seed in range(20)]

  def pair(name, samples, notes, rate=RATE, suffix=".wav"):
    write(root / "audio" / f"{name}{suffix}", samples, rate)
    write(root / "midi" / f"{name}.mid", notes)

  samples = play(notes[0])
  pair("good", samples, notes[0])
  stereo = np.stack([play(notes[1], rate=44_100)] * 2, axis=1)
  pair("sub/stereo", stereo, notes[1], 44_100, ".flac")
  late = np.concatenate([np.zeros(RATE // 2, np.float32), play(notes[2])])
  pair("late", late, notes[2])
  pair("other piece", play(notes[3]), notes[4])
  slow = dataclasses.replace(
    piece(5, 30.0),
    onset=1.012 * piece(5, 30.0).onset,
    offset=1.012 * piece(5, 30.0).offset,
  )
  pair("slow", play(piece(5, 30.0), 31.0), slow)
  pair("short notes", play(piece(6, 40.0), 40.0), piece(6, 40.0)[:80])
  pair("long notes", play(notes[7])[: 6 * RATE], notes[7])
  pair("silent", np.zeros(RATE), notes[8])
  pair("empty", np.zeros(0), notes[9])
  nan = play(notes[10])
  nan[100] = np.nan
  write(root / "audio" / "nan.wav", nan)
  soundfile.write(root / "audio" / "nan.wav", nan, RATE, "FLOAT")
  write(root / "midi" / "nan.mid", notes[10])
  pair("clipped", np.clip(40 * play(notes[11]), -1, 1), notes[11])
  pair("no notes", play(notes[12]), notes[12][:0])
  pair("noise", samples, notes[13])
  (root / "audio" / "noise.wav").write_bytes(b"RIFFnoise")
  pair("no midi", samples, notes[14])
  (root / "midi" / "no midi.mid").write_bytes(b"MThdnoise")
  return root, prepare(root)


def test_pairs_that_fit_become_examples(prepared):
  _, dataset = prepared
  found = examples(dataset)
  assert set(found) == {"good", "sub/stereo", "clipped"}
  notes = base.notes_from_example(found["good"])
  np.testing.assert_allclose(notes.onset, piece(0).onset, atol=1e-3)
  np.testing.assert_array_equal(notes.pitch, piece(0).pitch)
  np.testing.assert_allclose(
    base.audio_from_example(found["good"]), play(piece(0)), atol=1e-4
  )
  stereo = base.audio_from_example(found["sub/stereo"])
  assert len(stereo) == LENGTH_S * RATE
  expected = play(piece(1))
  assert np.corrcoef(stereo, expected)[0, 1] > 0.99


def test_every_fault_is_counted_by_its_rule(prepared):
  _, dataset = prepared
  counts = report(dataset)
  for rule in (
    "shifted",
    "unrelated",
    "drifting",
    "longer_audio",
    "lengths_differ",
    "silent",
    "empty_audio",
    "not_finite",
    "clipped",
    "no_notes",
    "unreadable_audio",
    "unreadable_notes",
    "mixed_down",
    "resampled",
  ):
    assert counts.pop(rule) == 1, rule
  assert not counts


def test_the_table_tells_of_every_pair(prepared):
  _, dataset = prepared
  rows = table(dataset)
  assert len(rows) == 14
  assert rows["good"]["verdict"] == "fits"
  assert abs(float(rows["good"]["lag_s"])) < 0.02
  assert rows["late"]["verdict"] == "shifted"
  assert abs(float(rows["late"]["lag_s"]) - 0.5) < 0.02
  assert float(rows["other piece"]["score"]) < folder.FitRules().min_score
  assert rows["silent"]["verdict"] == "silent"
  assert rows["noise"]["verdict"] == "unreadable_audio"
  assert {row["split"] for row in rows.values()} == {"train"}


def test_pairs_that_do_not_fit_are_kept_when_asked_for(tmp_path):
  late = np.concatenate([np.zeros(RATE // 2, np.float32), play(piece(0))])
  write(tmp_path / "audio" / "late.wav", late)
  write(tmp_path / "midi" / "late.mid", piece(0))
  write(tmp_path / "audio" / "cut.wav", play(piece(1))[: 6 * RATE])
  write(tmp_path / "midi" / "cut.mid", piece(1))
  with pytest.raises(ValueError, match=r"none can be used: .*\+0\.50 s"):
    prepare(tmp_path)
  kept = prepare(tmp_path, fit=folder.FitRules(keep=True))
  found = examples(kept)
  assert set(found) == {"late", "cut"}
  notes = base.notes_from_example(found["cut"])
  assert 0 < len(notes) < len(piece(1)) and notes.duration_s <= 6
  assert report(kept)["kept_anyway"] == 2
  assert report(kept)["note_after_end"] == len(piece(1)) - len(notes)
  verdicts = {name: row["verdict"] for name, row in table(kept).items()}
  assert verdicts == {"late": "shifted", "cut": "lengths_differ"}


def test_names_of_any_script_and_length_are_ids_and_others_are_counted(
  tmp_path,
):
  name = "\N{HIRAGANA LETTER A}" * 80  # 240 bytes, 720 when they are quoted.
  write(tmp_path / "audio" / f"{name}.wav", play(piece(0, 2.0), 2.0))
  write(tmp_path / "midi" / f"{name}.mid", piece(0, 2.0))
  for file in (b"audio/caf\xe9.wav", b"midi/caf\xe9.mid"):
    (tmp_path / os.fsdecode(file)).touch()
  dataset = prepare(tmp_path)
  assert set(examples(dataset)) == {name}
  assert report(dataset) == {"bad_name": 2}


def test_an_mp3_whose_length_is_an_estimate_is_read_whole(tmp_path):
  """Without the first frame, which has it, libsndfile counts a frame more."""
  path = tmp_path / "song.mp3"
  noise = np.random.default_rng(0).normal(size=7 * RATE).clip(-3, 3) / 10
  soundfile.write(
    path, noise, RATE, bitrate_mode="CONSTANT", compression_level=0.5
  )
  data = path.read_bytes()
  second = data.index(data[:2], 2)
  assert b"Info" in data[:second] or b"Xing" in data[:second]
  path.write_bytes(data[second:])
  problems = base.Problems()
  samples = base.load_audio(path, problems, "song")
  assert abs(len(samples) - len(noise)) < 2304
  path.write_bytes(data[: len(data) // 2])
  with pytest.raises(base.SongError, match="samples"):
    base.load_audio(path, problems, "song")


def test_songs_go_to_both_splits_and_stand_in_the_table(tmp_path):
  names = [f"song {i}" for i in range(6)]
  notes = piece(0, 2.0)
  for name in names:
    write(tmp_path / "audio" / f"{name}.wav", play(notes, 2.0))
    write(tmp_path / "midi" / f"{name}.mid", notes)
  dataset = prepare(tmp_path, validation_share=0.5)
  for split in ("train", "validation"):
    expected = {n for n in names if folder.split_of(n, 0.5) == split}
    assert set(examples(dataset, split)) == expected != set()
  rows = table(dataset)
  assert all(rows[n]["split"] == folder.split_of(n, 0.5) for n in names)
