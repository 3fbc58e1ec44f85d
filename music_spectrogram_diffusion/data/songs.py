"""Prepared songs: notes and log-mel spectrogram of each, in one small file."""

from collections.abc import Iterable, Iterator
import concurrent.futures
import dataclasses
import hashlib
import json
import multiprocessing
import os
from pathlib import Path

from jaxtyping import Float16
import numpy as np
import safetensors.numpy

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.audio import SpectrogramConfig
from music_spectrogram_diffusion.data import generator, soundfont
from music_spectrogram_diffusion.data.builders.problems import Rule
from music_spectrogram_diffusion.notes import Notes

MANIFEST = "manifest.json"
MAX_PIECE_S = 3600.0
"""Longer pieces are left out: a note that is never ended may last a day."""

TOO_LONG = Rule("too_long", "songs dropped", "longer than an hour")

_SUFFIX = ".safetensors"

Piece = int | Path
"""A piece to prepare: the generator's seed, or the path of a MIDI file."""


def prepare_songs(
  directory: str | Path,
  pieces: Iterable[Piece],
  *,
  soundfont_path: str | Path,
  config: SpectrogramConfig,
  num_workers: int = 2,
) -> Iterator[tuple[str, float]]:
  """Renders pieces and writes one file a song into `directory`.

  Files appear whole or not at all; what is there already is not made again,
  so an interrupted run is continued by the same call. Programs become the
  first ones of their Slakh classes, which is what a model is told, before
  they are played. The first item starts the work.

  Args:
    directory: Where to write; made if missing.
    pieces: Seeds and MIDI paths, each file name once.
    soundfont_path: The soundfont that plays all of them.
    config: The spectrogram's shape.
    num_workers: Processes to work in; with 0, this one.

  Yields:
    Name and duration in seconds of each song, once it is on disk.

  Raises:
    ValueError: If songs were prepared there in another way, two MIDI files
      share a name, or a MIDI file cannot be read.
  """
  directory = Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  pieces = {song_name(piece): piece for piece in _distinct(pieces)}
  _write_manifest(directory, Path(soundfont_path), config)
  missing = []
  for name, piece in pieces.items():
    if (directory / f"{name}{_SUFFIX}").is_file():
      frames = num_frames(directory / f"{name}{_SUFFIX}")
      yield name, frames / config.frame_rate
    else:
      missing.append((directory, piece))
  settings = (Path(soundfont_path), config)
  if not num_workers:
    _start_worker(*settings)
    yield from map(_prepare, missing)
    return
  # JAX does not survive a fork, so workers start afresh.
  with concurrent.futures.ProcessPoolExecutor(
    num_workers,
    multiprocessing.get_context("spawn"),
    initializer=_start_worker,
    initargs=settings,
  ) as workers:
    yield from workers.map(_prepare, missing)


def song_name(piece: Piece) -> str:
  """Name of a piece's file, without its ending."""
  if isinstance(piece, int):
    return f"generated_{piece:07d}"
  return f"midi_{piece.stem}"


def song_paths(directory: str | Path) -> list[Path]:
  """Files of the songs prepared in a directory, sorted by name."""
  return sorted(Path(directory).glob(f"*{_SUFFIX}"))


def read_notes(path: Path) -> Notes:
  """Reads the notes of a prepared song."""
  names = [field.name for field in dataclasses.fields(Notes)]
  with safetensors.safe_open(path, "numpy") as file:
    return Notes(**{name: file.get_tensor(name) for name in names})


def read_log_mel(
  path: Path, start: int, stop: int
) -> Float16[np.ndarray, "frames mel_bins"]:
  """Reads the frames of a prepared song from `start` to `stop` at most."""
  with safetensors.safe_open(path, "numpy") as file:
    log_mel = file.get_slice("log_mel")
    return log_mel[start : min(stop, log_mel.get_shape()[0])]


def num_frames(path: Path) -> int:
  """Number of frames of a prepared song."""
  with safetensors.safe_open(path, "numpy") as file:
    return file.get_slice("log_mel").get_shape()[0]


def _distinct(pieces: Iterable[Piece]) -> list[Piece]:
  pieces = list(dict.fromkeys(pieces))
  names = {}
  for piece in pieces:
    other = names.setdefault(song_name(piece), piece)
    if other != piece:
      raise ValueError(
        f"Expected MIDI files of different names, got {other} and {piece};"
        " rename one."
      )
  return pieces


def _write_manifest(
  directory: Path, soundfont_path: Path, config: SpectrogramConfig
) -> None:
  """Writes how the songs of a directory are made, or checks that it agrees."""
  with soundfont_path.open("rb") as file:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
  manifest = {
    "generator_version": generator.GENERATOR_VERSION,
    "soundfont": {"name": soundfont_path.name, "sha256": digest},
    "gain_db": soundfont.GAIN_DB,
    "spectrogram": dataclasses.asdict(config),
  }
  path = directory / MANIFEST
  if not path.exists():
    _write_whole(path, json.dumps(manifest, indent=2).encode() + b"\n")
    return
  found = json.loads(path.read_text())
  different = [key for key in manifest if found.get(key) != manifest[key]]
  if different:
    key = different[0]
    raise ValueError(
      f"Expected songs with {key} {manifest[key]} in {directory}, found ones"
      f" with {found.get(key)} (see {path}); prepare into another directory."
    )


def _write_whole(path: Path, data: bytes) -> None:
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  temporary.write_bytes(data)
  temporary.replace(path)


_worker: tuple[soundfont.SoundfontRenderer, SpectrogramConfig]
"""What a worker process keeps from song to song."""


def _start_worker(soundfont_path: Path, config: SpectrogramConfig) -> None:
  global _worker
  rate = config.sample_rate
  _worker = soundfont.SoundfontRenderer(soundfont_path, rate), config


def _prepare(task: tuple[Path, Piece]) -> tuple[str, float]:
  """Renders one piece, writes its file and returns its name and duration."""
  directory, piece = task
  renderer, config = _worker
  if isinstance(piece, int):
    notes = generator.generate_piece(piece)
  else:
    notes = notes_lib.read_midi(piece)
    notes = notes_lib.to_slakh_classes(notes)
  samples = renderer.render(notes)
  columns = {
    field.name: np.ascontiguousarray(getattr(notes, field.name))
    for field in dataclasses.fields(notes)
  }
  log_mel = np.float16(audio.log_mel(samples, config))
  name = song_name(piece)
  data = safetensors.numpy.save(columns | {"log_mel": log_mel})
  _write_whole(directory / f"{name}{_SUFFIX}", data)
  return name, len(samples) / config.sample_rate
