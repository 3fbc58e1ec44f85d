"""Results of songs on disk: written as they come, and read again.

A folder holds `settings.json`, what was evaluated; `results.jsonl`, a line a
song; and in `songs/` a file of arrays for each of them.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import hashlib
import io
import json
import os
from typing import Any
import warnings

from etils import epath
from jaxtyping import Float32, UInt8
import numpy as np

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.evaluation import frechet

RESULTS, SETTINGS = "results.jsonl", "settings.json"
_SONGS, _AUDIO, _COMING = "songs", "audio", "coming"
_EXCERPT = "excerpt"


@dataclasses.dataclass(frozen=True)
class SongResult:
  """What was found of a song.

  Attributes:
    record: For JSON: `key`, `dataset`, `id`, `duration_s`, `instruments` (share
      of the notes by class), `problems`, and `systems`: by name `scores`,
      `distances` (of which there are statistics), `problems`, `measure_s`,
      `render_s` and `timing`.
    arrays: Statistics and excerpts; see `statistics_arrays` and `excerpt_name`.
    audio: Renderings by the names of systems, where they are kept.
  """

  record: dict[str, Any]
  arrays: dict[str, np.ndarray]
  audio: dict[str, Float32[np.ndarray, " samples"]]


def excerpt_name(system: str) -> str:
  """What a system's excerpt is called among a song's arrays."""
  return f"{_EXCERPT}|{system}"


def statistics_arrays(
  system: str, statistics: Mapping[str, frechet.GaussianStatistics]
) -> dict[str, np.ndarray]:
  """Statistics of a system's embeddings as named arrays."""
  return {
    f"{distance}|{system}|{name}": array
    for distance, sums in statistics.items()
    for name, array in sums.to_arrays().items()
  }


class SongArrays:
  """The arrays of a song, loaded one by one."""

  def __init__(self, arrays: Mapping[str, np.ndarray]):
    self._arrays = arrays

  def excerpt(self, system: str) -> UInt8[np.ndarray, "frames mel_bins"] | None:
    """The beginning of a system's audio as a picture; None if there is none."""
    name = excerpt_name(system)
    return self._arrays[name] if name in self._arrays else None

  def statistics(
    self, distance: str, system: str
  ) -> frechet.GaussianStatistics | None:
    """Of the embeddings of a system's audio; None if there is none."""
    start = f"{distance}|{system}|"
    arrays = {
      name.removeprefix(start): self._arrays[name]
      for name in self._arrays
      if name.startswith(start)
    }
    return frechet.GaussianStatistics.from_arrays(arrays) if arrays else None


def leave(directory: str | os.PathLike, result: SongResult) -> None:
  """Leaves a result in a store's folder, where `ResultStore.collect` finds it.

  For workers: any number of them, on any machine that sees the folder.
  """
  directory = epath.Path(directory)
  _write_files(directory, result)
  key = result.record["key"]
  path = directory / _COMING / f"{_digest(key)}.json"
  path.parent.mkdir(parents=True, exist_ok=True)
  _write_whole(path, json.dumps(result.record).encode())


class ResultStore:
  """Results in a folder, of one evaluation and written by one process."""

  def __init__(self, directory: str | os.PathLike, settings: Mapping[str, Any]):
    """Opens a folder; begins or goes on.

    Args:
      directory: The folder; made if missing.
      settings: What is evaluated, for JSON.

    Raises:
      ValueError: The folder holds results of other settings, or a damaged
        file.
    """
    self._directory = epath.Path(directory)
    settings = json.loads(json.dumps(settings))
    path = self._directory / SETTINGS
    (self._directory / _SONGS).mkdir(parents=True, exist_ok=True)
    if path.exists() and self._holds_results():
      _check_same(path, settings)
    else:
      _write_whole(path, (json.dumps(settings, indent=2) + "\n").encode())
    self._drop_half_a_line()
    self.collect()

  def __contains__(self, key: str) -> bool:
    return key in self._keys

  def __len__(self) -> int:
    return len(self._keys)

  @property
  def directory(self) -> str:
    """The folder."""
    return os.fspath(self._directory)

  @property
  def keys(self) -> frozenset[str]:
    """Of the songs that are there."""
    return frozenset(self._keys)

  def add(self, result: SongResult) -> None:
    """Keeps a result: its line comes last, when everything else is there."""
    _write_files(self._directory, result)
    self._append(json.dumps(result.record))
    self._keys.add(result.record["key"])

  def collect(self) -> None:
    """Writes the lines of what workers left, in the order of their keys."""
    paths = list((self._directory / _COMING).glob("*.json"))
    coming = [json.loads(path.read_text()) for path in paths]
    self._keys = {record["key"] for record in self.records()}
    for record in sorted(coming, key=lambda record: record["key"]):
      if record["key"] not in self._keys:
        self._append(json.dumps(record))
        self._keys.add(record["key"])
    for path in paths:
      path.unlink()

  def records(self) -> Iterator[dict[str, Any]]:
    """The lines, in the order in which they were written."""
    path = self._directory / RESULTS
    if not path.exists():
      return
    with path.open("r") as file:
      for number, line in enumerate(file, 1):
        try:
          yield json.loads(line)
        except ValueError as error:
          raise ValueError(
            f"Expected a result in line {number} of {path}, found none:"
            f" {error}. Delete the line, and the song is evaluated again."
          ) from error

  def arrays(self, key: str) -> SongArrays:
    """The arrays of a song; none if its file is gone."""
    path = _arrays_path(self._directory, key)
    if not path.exists():
      warnings.warn(f"{path} is gone; {key} is not in distances.", stacklevel=2)
      return SongArrays({})
    return SongArrays(np.load(io.BytesIO(path.read_bytes())))

  def _holds_results(self) -> bool:
    """Whether there is anything that other settings would mix with."""
    coming = (self._directory / _COMING).glob("*.json")
    return (self._directory / RESULTS).exists() or any(coming)

  def _append(self, line: str) -> None:
    with (self._directory / RESULTS).open("a") as file:
      file.write(line + "\n")

  def _drop_half_a_line(self) -> None:
    """A run that was killed while it wrote leaves a line without an end."""
    path = self._directory / RESULTS
    if path.exists() and not (data := path.read_bytes()).endswith(b"\n"):
      _write_whole(path, data[: data.rfind(b"\n") + 1])


def _write_files(directory: epath.Path, result: SongResult) -> None:
  """Writes everything of a result but its record."""
  key = result.record["key"]
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **result.arrays)
  _write_whole(_arrays_path(directory, key), buffer.getvalue())
  for system, samples in result.audio.items():
    path = directory / _AUDIO / system / f"{key}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    rate = audio.SpectrogramConfig().sample_rate
    with audio.AudioWriter(path, rate, overwrite=True) as writer:
      writer.write(samples)


def _arrays_path(directory: epath.Path, key: str) -> epath.Path:
  return directory / _SONGS / f"{_digest(key)}.npz"


def _digest(key: str) -> str:
  """A name for files; keys may hold anything."""
  return hashlib.sha256(key.encode()).hexdigest()[:20]


def _write_whole(path: epath.Path, data: bytes) -> None:
  """Writes a file under another name, then renames it."""
  part = path.with_name(f".{path.name}.{os.getpid()}.part")
  part.write_bytes(data)
  part.replace(path)


def _check_same(path: epath.Path, settings: Mapping[str, Any]) -> None:
  try:
    held = json.loads(path.read_text())
  except ValueError as error:
    raise ValueError(f"Expected settings in {path}: {error}.") from error
  for name in sorted(held.keys() | settings.keys()):
    if held.get(name) != settings.get(name):
      raise ValueError(
        f"{path.parent} holds an evaluation whose {name} is"
        f" {json.dumps(held.get(name))}, not {json.dumps(settings.get(name))};"
        " ask for the same, or name another folder."
      )
