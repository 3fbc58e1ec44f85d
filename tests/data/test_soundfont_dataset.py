import json
from pathlib import Path

import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")

from music_spectrogram_diffusion import notes as notes_lib  # noqa: E402
from music_spectrogram_diffusion.data import (  # noqa: E402
  generator,
  played,
  songs,
  soundfont,
  soundfont_dataset,
)
from music_spectrogram_diffusion.data.builders import base  # noqa: E402

SINE = Path(__file__).with_name("sine.sf2")  # By make_sine_soundfont.py.


@pytest.fixture(scope="module", autouse=True)
def short_pieces():
  whole = generator.generate_piece
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(generator, "generate_piece", lambda seed: whole(seed, 3.0))
    yield


def write(path, *columns, **programs):
  path.parent.mkdir(parents=True, exist_ok=True)
  notes = notes_lib.Notes.from_columns(*columns, 100, **programs)
  notes_lib.write_midi(notes, path)


def prepare(directory, **settings):
  defaults = {
    "data_dir": directory / "out",
    "soundfont_path": SINE,
    "num_workers": 0,
    "validation_share": 0.0,
  }
  return played.prepare_soundfont(**(defaults | settings))


def counts_of(prepared):
  report = json.loads((Path(prepared.directory) / base.REPORT).read_text())
  return {row["rule"]: row["count"] for row in report["problems"]}


@pytest.fixture(scope="module")
def midi_dir(tmp_path_factory):
  """A tune of a program that has no class of its own, and files of no use."""
  directory = tmp_path_factory.mktemp("midi")
  write(
    directory / "sub" / "tune.MID", [0.5, 1.0], [0.9, 1.4], [69, 57], program=75
  )
  write(directory / "day.mid", [0.0], [5000.0], [60])
  write(directory / "rest.mid", [], [], [])
  (directory / "noise.mid").write_bytes(b"noise")
  (directory / "._tune.mid").write_bytes(b"of macOS")
  return directory


@pytest.fixture(scope="module")
def prepared(midi_dir, tmp_path_factory):
  return prepare(
    tmp_path_factory.mktemp("prepared"), midi_dir=midi_dir, hours=0.02, seed=1
  )


def test_midi_files_and_generated_pieces_are_examples(prepared):
  builder = tfds.builder_from_directory(prepared.directory)
  dataset = tfds.as_numpy(builder.as_dataset("train"))
  found = {row["id"].decode(): row for row in dataset}
  assert set(found) == {"sub/tune", "generated_0000001", "generated_0000002"}
  notes = base.notes_from_example(found["sub/tune"])
  np.testing.assert_allclose(notes.onset, [0.5, 1.0])
  assert notes.program.tolist() == [73, 73]  # Pipe, as models are told.
  audio = base.audio_from_example(found["sub/tune"])
  expected = soundfont.SoundfontRenderer(SINE).render(notes)
  assert len(audio) == round((1.4 + soundfont.TAIL_S) * base.SAMPLE_RATE)
  np.testing.assert_allclose(audio, expected, atol=1e-4)
  first = base.notes_from_example(found["generated_0000001"])
  composed = generator.generate_piece(1)
  np.testing.assert_array_equal(np.sort(first.onset), np.sort(composed.onset))


def test_files_of_no_use_are_counted(prepared):
  assert counts_of(prepared) == {
    "too_long": 1,
    "no_notes": 1,
    "unreadable_notes": 1,
  }


def test_what_stands_is_kept_unless_it_shall_be_made_again(tmp_path):
  first = prepare(tmp_path, hours=0.001, seed=1)
  assert first.is_new and first.examples == {"train": 1}
  again = prepare(tmp_path, hours=0.03, seed=1)
  assert not again.is_new and again.examples == {"train": 1}
  anew = prepare(tmp_path, hours=0.03, seed=1, overwrite=True)
  assert anew.is_new and anew.examples == {"train": 2}
  builder = tfds.builder_from_directory(anew.directory)
  assert builder.info.splits["train"].num_examples == 2


def test_arrays_are_made_of_the_same_pieces(midi_dir, tmp_path):
  made = prepare(tmp_path, midi_dir=midi_dir, hours=0.001, format="arrays")
  names = [path.stem for path in songs.song_paths(made.directory)]
  assert names == ["generated_0000000", "midi_tune"]
  assert made.examples == {"songs": 2}
  assert counts_of(made) == {
    "too_long": 1,
    "no_notes": 1,
    "unreadable_notes": 1,
  }
  again = prepare(tmp_path, midi_dir=midi_dir, hours=0.03, format="arrays")
  assert again.examples == {"songs": 3}


def test_midi_files_of_one_name_are_one_song_of_arrays(tmp_path):
  for folder in ("a", "b"):
    write(tmp_path / "midi" / folder / "x.mid", [0.1], [0.2], [60])
  made = prepare(tmp_path, midi_dir=tmp_path / "midi", format="arrays")
  assert made.examples == {"songs": 1}
  assert counts_of(made) == {"duplicate_id": 1}


def test_what_cannot_be_made_is_one_line(tmp_path):
  with pytest.raises(ValueError, match="--midi.*--hours"):
    prepare(tmp_path)
  with pytest.raises(ValueError, match="hours of pieces from 0 up"):
    prepare(tmp_path, hours=-1.0)
  with pytest.raises(ValueError, match="examples, arrays; got zip"):
    prepare(tmp_path, hours=1.0, format="zip")
  with pytest.raises(ValueError, match="tinysoundfont, fluidsynth; got organ"):
    prepare(tmp_path, hours=1.0, synthesizer="organ")
  with pytest.raises(ValueError, match="no file there"):
    prepare(tmp_path, hours=1.0, soundfont_path=tmp_path / "missing.sf2")
  (tmp_path / "empty").mkdir()
  for format in played.FORMATS:
    with pytest.raises(ValueError, match=r"MIDI files \(\.mid.*found none"):
      prepare(tmp_path, midi_dir=tmp_path / "empty", format=format)


def test_a_soundfont_that_plays_nothing_drops_the_song(tmp_path, monkeypatch):
  class Mute:
    def __init__(self, path, rate):
      pass

    def render(self, notes, duration_s=None):
      return np.zeros(100, np.float32)

  monkeypatch.setitem(soundfont_dataset.SYNTHESIZERS, "mute", Mute)
  with pytest.raises(ValueError, match="1 songs dropped: audio is silent"):
    prepare(tmp_path, hours=0.001, synthesizer="mute")
