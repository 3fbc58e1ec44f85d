import os

import numpy as np
import pytest

from music_spectrogram_diffusion.data.builders import converting, loading
from music_spectrogram_diffusion.data.builders import problems as rules
from music_spectrogram_diffusion.data.builders.converting import Song
from music_spectrogram_diffusion.data.builders.problems import SongError
from music_spectrogram_diffusion.notes import Notes

NOTES = Notes.from_columns([0.1], [0.5], 60, 80)


def convert(song, problems):
  """Does what the song's file says, and leaves a mark for each conversion."""
  [path] = song.files
  with path.with_suffix(".log").open("a") as log:
    log.write("x")
  what, *ids = path.read_text().split()
  for id in ids:
    audio = np.full(loading.SAMPLE_RATE, 0.5, np.float32)
    yield loading.make_example(id, audio, NOTES)
  if what == "mend":
    problems.add(rules.CLIPPED, song.name)
  elif what == "drop":
    raise SongError(rules.SILENT, "too quiet")
  elif what == "fail":
    raise RuntimeError("a bug")
  elif what == "interrupt":
    raise KeyboardInterrupt
  elif what == "die":
    os._exit(1)


@pytest.fixture
def songs(tmp_path):
  def write(**texts):
    for name, text in texts.items():
      path = tmp_path / f"{name}.txt"
      if not path.is_file() or path.read_text() != text:
        path.write_text(text)
    return [
      Song(name, "validation" if name[0] == "v" else "train", (file,))
      for name in texts
      for file in [tmp_path / f"{name}.txt"]
    ]

  return write


def run(songs, tmp_path, **settings):
  settings = {"num_workers": 0} | settings
  return converting.convert_songs(songs, convert, tmp_path / "work", **settings)


def times_converted(tmp_path, name):
  log = tmp_path / f"{name}.log"
  return len(log.read_text()) if log.is_file() else 0


def ids(converted, split="train"):
  paths = converted.examples.get(split, ())
  return [converting.read_example(path)["id"] for path in paths]


def test_examples_come_in_the_order_of_the_songs_by_split(songs, tmp_path):
  given = songs(b="ok b0 b1", v="ok v0", a="mend a0")
  converted = run(given, tmp_path)
  assert ids(converted) == ["b0", "b1", "a0"]
  assert ids(converted, "validation") == ["v0"]
  assert converted.audio_s == {"train": 3.0, "validation": 1.0}
  assert converted.problems.lines() == [
    "1 songs kept: audio is clipped in the original (a)"
  ]
  example = converting.read_example(converted.examples["train"][0])
  assert loading.notes_from_example(example).onset.tolist() == [0.1]


def test_a_song_that_fails_leaves_nothing_but_its_reason(songs, tmp_path):
  given = songs(a="drop a0 a1", b="fail b0", c="ok c0")
  converted = run(given, tmp_path)
  assert ids(converted) == ["c0"]
  assert converted.problems.lines() == [
    "1 songs dropped: audio is silent (a: too quiet)",
    "1 songs dropped: conversion failed (b: RuntimeError: a bug)",
  ]
  assert not list((tmp_path / "work").glob("[ab]*.npz"))


def test_what_is_done_is_not_done_again(songs, tmp_path):
  given = songs(a="ok a0", b="interrupt b0", c="ok c0")
  with pytest.raises(KeyboardInterrupt):
    run(given, tmp_path)
  assert times_converted(tmp_path, "a") == 1
  given = songs(a="ok a0", b="ok b0", c="ok c0")
  converted = run(given, tmp_path)
  assert ids(converted) == ["a0", "b0", "c0"]
  assert times_converted(tmp_path, "a") == 1
  assert times_converted(tmp_path, "c") == 1


def test_a_song_whose_file_was_mended_is_done_again(songs, tmp_path):
  run(songs(a="drop a0", b="ok b0"), tmp_path)
  converted = run(songs(a="ok a0", b="ok b0"), tmp_path)
  assert ids(converted) == ["a0", "b0"]
  assert converted.problems.lines() == []
  assert times_converted(tmp_path, "a") == 2
  assert times_converted(tmp_path, "b") == 1


def test_other_settings_or_a_lost_file_make_a_song_again(songs, tmp_path):
  given = songs(a="ok a0")
  converted = run(given, tmp_path)
  run(given, tmp_path, settings="2.0.0")
  assert times_converted(tmp_path, "a") == 2
  converted.examples["train"][0].unlink()
  assert ids(run(given, tmp_path, settings="2.0.0")) == ["a0"]
  assert times_converted(tmp_path, "a") == 3


def test_a_song_that_was_left_out_is_tried_again(songs, tmp_path):
  given = songs(a="fail a0", b="ok b0")
  for _ in range(2):
    assert len(run(given, tmp_path).problems.lines()) == 1
  assert times_converted(tmp_path, "a") == 2
  assert times_converted(tmp_path, "b") == 1


def test_processes_that_all_die_are_not_the_songs_fault(
  songs, tmp_path, monkeypatch
):
  def die_alone(waiting, num_workers):
    """As if each process ended before it had done anything."""
    return [waiting.popleft()]
    yield

  monkeypatch.setattr(converting, "_drain", die_alone)
  given = songs(**{f"s{i}": f"ok s{i}" for i in range(9)})
  with pytest.raises(ChildProcessError, match="4 died"):
    run(given, tmp_path, num_workers=2)


def test_missing_files_and_doubled_ids_are_counted(songs, tmp_path):
  given = songs(a="ok a0", b="ok a0 b1", c="ok c0")
  given.append(given[0])
  given[2].files[0].unlink()
  converted = run(given, tmp_path)
  assert ids(converted) == ["a0", "b1"]
  counts = {r["rule"]: r["count"] for r in converted.problems.to_json()}
  assert counts == {"duplicate_id": 2, "missing_file": 1}


def test_names_with_slashes_are_files_of_one_folder(tmp_path):
  path = tmp_path / "a.txt"
  path.write_text("ok x")
  song = Song("2004/a song", "train", (path,))
  converted = run([song], tmp_path)
  [file] = converted.examples["train"]
  assert file.parent == tmp_path / "work"


def test_progress_counts_songs_and_seconds(songs, tmp_path):
  told = []
  given = songs(a="ok a0", b="drop", c="ok c0")
  run(given[:1], tmp_path)
  run(given, tmp_path, on_progress=lambda *now: told.append(now))
  assert told == [(1, 3, 1.0, "a"), (2, 3, 1.0, "b"), (3, 3, 2.0, "c")]


def test_a_full_disk_ends_the_run(songs, tmp_path, monkeypatch):
  def no_room(*_, **__):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(np, "savez", no_room)
  with pytest.raises(OSError, match="No space left"):
    run(songs(a="ok a0"), tmp_path)


def test_workers_share_the_songs_and_one_that_dies_takes_only_its_song(
  songs, tmp_path
):
  texts = {f"s{i}": f"ok s{i}" for i in range(4)}
  texts["s1"] = "die now"
  converted = run(songs(**texts), tmp_path, num_workers=2)
  assert sorted(ids(converted)) == ["s0", "s2", "s3"]
  assert converted.problems.lines() == [
    "1 songs dropped: the converting process died (s1)"
  ]
