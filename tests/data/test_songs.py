import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.data import generator, songs, soundfont

SINE = Path(__file__).with_name("sine.sf2")  # By make_sine_soundfont.py.
CONFIG = audio.SpectrogramConfig()


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch):
  whole = generator.generate_piece
  monkeypatch.setattr(
    generator, "generate_piece", lambda seed: whole(seed, 4.0)
  )


def prepare(directory, pieces, config=CONFIG):
  return list(
    songs.prepare_songs(
      directory, pieces, soundfont_path=SINE, config=config, num_workers=0
    )
  )


def test_a_song_holds_its_notes_and_the_spectrogram_of_its_audio(tmp_path):
  [(name, duration_s)] = prepare(tmp_path, [3])
  [path] = songs.song_paths(tmp_path)
  assert path.stem == name == "generated_0000003"
  notes = generator.generate_piece(3)
  for column, values in vars(songs.read_notes(path)).items():
    np.testing.assert_array_equal(values, getattr(notes, column))
  samples = soundfont.SoundfontRenderer(SINE).render(notes)
  assert duration_s == len(samples) / 16000
  expected = audio.log_mel(samples, CONFIG)
  assert songs.num_frames(path) == len(expected)
  found = songs.read_log_mel(path, 0, len(expected))
  np.testing.assert_allclose(found, expected, atol=5e-3)
  part = songs.read_log_mel(path, 50, 10**6)
  np.testing.assert_array_equal(part, found[50:])


def test_what_is_there_is_kept_and_the_rest_is_made(tmp_path):
  first = prepare(tmp_path, [0, 1])
  times = {p: p.stat().st_mtime_ns for p in songs.song_paths(tmp_path)}
  songs.song_paths(tmp_path)[1].unlink()
  again = prepare(tmp_path, [0, 1, 2])
  assert [name for name, _ in again] == [name for name, _ in first] + [
    "generated_0000002"
  ]
  kept, made, _ = songs.song_paths(tmp_path)
  assert kept.stat().st_mtime_ns == times[kept]
  assert made.stat().st_mtime_ns > times[made]
  names = {path.name for path in tmp_path.iterdir()}
  assert len(names) == 4  # Three songs, the manifest, nothing temporary.


def test_the_manifest_says_how_songs_are_made_and_guards_it(tmp_path):
  prepare(tmp_path, [0])
  manifest = json.loads((tmp_path / "manifest.json").read_text())
  assert manifest["generator_version"] == generator.GENERATOR_VERSION
  assert manifest["soundfont"]["name"] == "sine.sf2"
  assert len(manifest["soundfont"]["sha256"]) == 64
  assert manifest["spectrogram"] == dataclasses.asdict(CONFIG)
  with pytest.raises(ValueError, match="another directory"):
    prepare(tmp_path, [1], dataclasses.replace(CONFIG, n_mels=64))


def test_midi_files_are_songs_with_the_programs_of_their_classes(tmp_path):
  notes = notes_lib.Notes.from_columns(
    [0.5, 1.0, 1.5], [1.0, 1.5, 2.0], [60, 62, 38], 100, [1, 75, 0]
  )
  is_drum = np.array([False, False, True])
  notes = dataclasses.replace(notes, is_drum=is_drum)
  notes_lib.write_midi(notes, tmp_path / "tune.mid")
  prepare(tmp_path / "songs", [tmp_path / "tune.mid"])
  [path] = songs.song_paths(tmp_path / "songs")
  assert path.stem == "midi_tune"
  found = songs.read_notes(path)
  order = np.argsort(found.onset)
  assert found.program[order].tolist() == [0, 73, 0]
  assert found.is_drum[order].tolist() == [False, False, True]


def test_midi_files_of_one_name_are_refused(tmp_path):
  files = [tmp_path / "a" / "tune.mid", tmp_path / "b" / "tune.mid"]
  with pytest.raises(ValueError, match="different names"):
    prepare(tmp_path, files)


def test_worker_processes_make_the_songs_that_one_process_makes(tmp_path):
  nothing = notes_lib.Notes.from_columns([0.1], [0.2], [60], [90])
  notes_lib.write_midi(nothing, tmp_path / "tune.mid")
  pieces = [tmp_path / "tune.mid"]
  prepare(tmp_path / "one", pieces)
  made = songs.prepare_songs(
    tmp_path / "many", pieces, soundfont_path=SINE, config=CONFIG, num_workers=1
  )
  assert [name for name, _ in made] == ["midi_tune"]
  one, many = (
    (tmp_path / d / "midi_tune.safetensors").read_bytes()
    for d in ("one", "many")
  )
  assert one == many
