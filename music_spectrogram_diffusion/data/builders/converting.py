"""Raw songs to prepared examples, in several processes, restartable.

Each song is converted by itself and kept in a work directory, with a record of
what was wrong with it. What is there, and was made of the same files, is not
made again.
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
import concurrent.futures
from concurrent.futures import process
import dataclasses
import hashlib
import json
import multiprocessing
import os
from pathlib import Path
import signal
from typing import Any
import urllib.parse

import numpy as np

from music_spectrogram_diffusion.data.builders import loading
from music_spectrogram_diffusion.data.builders import problems as rules
from music_spectrogram_diffusion.data.builders.problems import (
  Problems,
  SongError,
)

_RECORD_SUFFIX = ".json"
_MAX_STEM = 200  # File systems have names of up to 255 bytes.
_MAX_DEATHS = 4  # Of processes in a row, before the songs are no more blamed.


@dataclasses.dataclass(frozen=True)
class Song:
  """A song of a raw dataset, found but not yet read.

  Attributes:
    name: Unique in the dataset; what reports call the song.
    split: The split its examples go to.
    files: All files that it is made of; they are checked before it is
      converted, and the song is converted again when one has changed.
    details: What else the conversion must know. Its `repr` must tell all of
      it.
  """

  name: str
  split: str
  files: tuple[Path, ...]
  details: Any = None


Convert = Callable[[Song, Problems], Iterator[dict[str, Any]]]
"""Yields the examples of a song, as `loading.make_example` makes them.

A function of a module, because it is sent to other processes. It raises
`SongError` for a song that is left out; any other exception leaves the song out
by the rule `failed`.
"""

Progress = Callable[[int, int, float, str], None]
"""Called with songs done, songs in all, seconds of audio, and a song's name."""


@dataclasses.dataclass(frozen=True)
class Converted:
  """The songs of a dataset on disk.

  Attributes:
    examples: Files of each split that has any, to be read by `read_example`.
    audio_s: Seconds of audio of each split.
    problems: What was wrong.
  """

  examples: Mapping[str, Sequence[Path]]
  audio_s: Mapping[str, float]
  problems: Problems


def convert_songs(
  songs: Sequence[Song],
  convert: Convert,
  directory: str | Path,
  *,
  settings: str = "",
  checksums: Mapping[Path, tuple[str, str]] | None = None,
  num_workers: int = 2,
  on_progress: Progress | None = None,
) -> Converted:
  """Converts songs into `directory`, those that are not there already.

  Args:
    songs: All songs of the dataset. Of those that share a name, the first is
      taken.
    convert: Makes a song's examples.
    directory: Work directory; made if missing.
    settings: What the examples depend on besides the song, as a version; songs
      made under other settings are made again.
    checksums: As of `loading.read_checksums`.
    num_workers: Processes to work in; with 0, this one.
    on_progress: Called for each song.

  Raises:
    OSError: The directory cannot be written, as on a full disk.
    ChildProcessError: Processes die, whatever the song.
  """
  directory = Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  checksums = checksums or {}
  problems = Problems()
  tasks = {}
  for song in songs:
    if song.name in tasks:
      problems.add(rules.DUPLICATE_ID, song.name)
      continue
    sums = {file: checksums[file] for file in song.files if file in checksums}
    tasks[song.name] = _Task(song, convert, directory, settings, sums)
  records = {}
  audio_s = 0.0

  def take(name: str, record: dict[str, Any]) -> None:
    nonlocal audio_s
    records[name] = record
    audio_s += record["audio_s"]
    if on_progress:
      on_progress(len(records), len(tasks), audio_s, name)

  waiting = collections.deque()
  for name, task in tasks.items():
    if record := _read_record(task):
      take(name, record)
    else:
      waiting.append(task)
  died = 0
  for name, record in _run(waiting, num_workers):
    died = died + 1 if record["died"] else 0
    if died == _MAX_DEATHS:
      raise ChildProcessError(
        f"Expected processes that convert songs; {died} died one after the"
        " other. Is there memory, and is the program that started them guarded"
        ' by `if __name__ == "__main__"`? With no workers it shows.'
      )
    take(name, record)
  return _gather(directory, tasks, records, problems)


def read_example(path: str | Path) -> dict[str, Any]:
  """Reads an example that `convert_songs` has written."""
  example = {}
  with np.load(path, allow_pickle=False) as arrays:
    for key in arrays.files:
      *outer, name = key.split("/")
      value = arrays[key]
      inner = example
      for part in outer:
        inner = inner.setdefault(part, {})
      inner[name] = value if value.ndim else value.item()
  return example


@dataclasses.dataclass(frozen=True)
class _Task:
  """What a worker gets: see `convert_songs`."""

  song: Song
  convert: Convert
  directory: Path
  settings: str
  checksums: Mapping[Path, tuple[str, str]]

  @property
  def stem(self) -> str:
    """Begins the names of the song's files: unique, without a slash."""
    stem = urllib.parse.quote(self.song.name, safe=" ")
    if len(stem) <= _MAX_STEM:
      return stem
    digest = hashlib.sha256(self.song.name.encode()).hexdigest()
    return f"{stem[: _MAX_STEM - len(digest)]}{digest}"

  @property
  def record_path(self) -> Path:
    return self.directory / f"{self.stem}{_RECORD_SUFFIX}"

  def source(self) -> list[Any]:
    """What the result depends on, as far as one sees without reading."""
    files = []
    for path in self.song.files:
      status = path.stat() if path.is_file() else None
      size = status and [status.st_size, status.st_mtime_ns]
      files.append([str(path), size])
    song = [self.song.split, repr(self.song.details)]
    return [self.settings, song, files, sorted(self.checksums.values())]


def _gather(
  directory: Path,
  tasks: Mapping[str, _Task],
  records: Mapping[str, dict[str, Any]],
  problems: Problems,
) -> Converted:
  """Puts records together, in the order of the songs."""
  examples, audio_s, ids = {}, {}, set()
  for name, task in tasks.items():
    record = records[name]
    problems.merge(Problems.from_json(record["problems"]))
    split = task.song.split
    for id, file in zip(record["ids"], record["files"], strict=True):
      if id in ids:
        problems.add(rules.DUPLICATE_ID, id)
        continue
      ids.add(id)
      examples.setdefault(split, []).append(directory / file)
    audio_s[split] = audio_s.get(split, 0.0) + record["audio_s"]
  return Converted(examples, audio_s, problems)


def _read_record(task: _Task) -> dict[str, Any] | None:
  """The record of a song that is there already, made of the same files.

  Songs that were left out are tried again: the fault may have been elsewhere.
  """
  try:
    record = json.loads(task.record_path.read_text(encoding="utf-8"))
    same = record["source"] == json.loads(json.dumps(task.source()))
    there = all((task.directory / file).is_file() for file in record["files"])
  except (OSError, ValueError, KeyError):
    return None
  return record if same and there and record["files"] else None


def _run(
  waiting: collections.deque[_Task], num_workers: int
) -> Iterator[tuple[str, dict[str, Any]]]:
  """Yields the name and record of each song, as they are done."""
  if not num_workers:
    for task in waiting:
      yield task.song.name, _convert(task)
    return
  while waiting:
    suspects = collections.deque((yield from _drain(waiting, num_workers)))
    # One of these has killed its process: the one that does so again.
    while suspects:
      for task in (yield from _drain(suspects, 1)):
        problems = Problems()
        problems.add(rules.CRASHED, task.song.name)
        yield task.song.name, _record([], problems) | {"died": True}


def _drain(
  waiting: collections.deque[_Task], num_workers: int
) -> Iterator[tuple[str, dict[str, Any]]]:
  """Converts what waits; returns what was under way when a process died.

  A single worker has one song under way.
  """
  # JAX does not survive a fork, so workers start afresh.
  pool = concurrent.futures.ProcessPoolExecutor(
    min(num_workers, len(waiting)),
    multiprocessing.get_context("spawn"),
    initializer=_leave_interrupts_to_parent,
  )
  running = {}
  try:
    while waiting or running:
      while waiting and len(running) < 2 * num_workers - 1:
        running[pool.submit(_convert, waiting[0])] = waiting[0]
        waiting.popleft()
      done, _ = concurrent.futures.wait(
        running, return_when=concurrent.futures.FIRST_COMPLETED
      )
      for future in done:
        record = future.result()
        yield running.pop(future).song.name, record
    return []
  except process.BrokenProcessPool:
    return list(running.values())
  finally:
    pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
  signal.signal(signal.SIGINT, signal.SIG_IGN)


def _convert(task: _Task) -> dict[str, Any]:
  """Converts one song, writes its files, and returns its record."""
  problems = Problems()
  written = []
  for example in _examples(task, problems):
    if example is None:
      for name, _, _ in written:
        (task.directory / name).unlink()
      return _write_record(task, [], problems)
    name = f"{task.stem}.{len(written)}.npz"
    _write_example(task.directory / name, example)
    audio_s = len(example["audio"]) / loading.SAMPLE_RATE
    written.append((name, str(example["id"]), audio_s))
  return _write_record(task, written, problems)


def _examples(
  task: _Task, problems: Problems
) -> Iterator[dict[str, Any] | None]:
  """A song's examples; None at the end if the song must be left out.

  Then `problems` tell why, and nothing else: what was mended does not matter.
  """
  name = task.song.name
  try:
    loading.check_files(task.song.files, task.checksums)
    yield from task.convert(task.song, problems)
    return
  except SongError as error:
    rule, detail = error.rule, str(error)
  except Exception as error:  # A day's run must not end here.
    rule, detail = rules.FAILED, f"{type(error).__name__}: {error}"
  problems.clear()
  problems.add(rule, f"{name}: {detail}")
  yield None


def _write_example(path: Path, example: Mapping[str, Any]) -> None:
  flat = {}
  for name, value in example.items():
    if isinstance(value, Mapping):
      flat |= {f"{name}/{inner}": column for inner, column in value.items()}
    else:
      flat[name] = value
  part = path.with_name(f".{path.name}.{os.getpid()}")
  with part.open("wb") as file:
    np.savez(file, **flat)
  part.replace(path)


def _write_record(
  task: _Task, written: Sequence[tuple[str, str, float]], problems: Problems
) -> dict[str, Any]:
  record = _record(written, problems) | {"source": task.source()}
  path = task.record_path
  part = path.with_name(f".{path.name}.{os.getpid()}")
  part.write_text(json.dumps(record), encoding="utf-8")
  part.replace(path)
  return record


def _record(
  written: Sequence[tuple[str, str, float]], problems: Problems
) -> dict[str, Any]:
  """What is kept of a song: its examples' files, ids and length, and faults."""
  return {
    "files": [name for name, _, _ in written],
    "ids": [id for _, id, _ in written],
    "audio_s": float(sum(audio_s for _, _, audio_s in written)),
    "problems": problems.to_json(),
    "died": False,
  }
