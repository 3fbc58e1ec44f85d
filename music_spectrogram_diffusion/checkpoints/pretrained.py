"""What a model is called: a name or a path, to a model directory.

Published weights are converted on first use, into the cache directory.
"""

from collections.abc import Callable, Mapping
import hashlib
import os
from pathlib import Path
import re
import shutil
from typing import Any
import warnings

from flax import traverse_util
from jaxtyping import DTypeLike
import numpy as np

from music_spectrogram_diffusion import cache
from music_spectrogram_diffusion.checkpoints import (
  diffusers,
  directory,
  downloads,
  registry,
  t5x,
)

ONNX_INVERTER = "inverter.onnx"
"""In a model directory: an inverter that was published with the weights."""

_CONVERSION = 1
"""To be raised when conversions change, so that earlier ones are not used."""

_Read = Callable[[Path], tuple[dict[str, Any], dict[str, Any]]]


def find_model(name: str | os.PathLike | None = None) -> Path:
  """Finds a model directory; downloads and converts what is not there yet.

  Args:
    name: A model directory, the directory of a diffusers pipeline or of a t5x
      checkpoint, or the name of a published model; None for the model that
      the package carries. A path that exists comes before a name.

  Raises:
    CheckpointError: There is no such model, or it cannot be converted.
    downloads.DownloadError: It cannot be downloaded.
    OSError: The cache directory cannot be written.
  """
  path = None if name is None else Path(name)
  name = name or "default"
  if path is None or not path.exists():
    published = registry.published_models()
    if str(name) not in published:
      raise directory.CheckpointError(
        f"Expected the directory of a model or one of {', '.join(published)};"
        f" got {name}."
      )
    path = published[str(name)].fetch()
  if (path / directory.CONFIG).exists():
    return path
  source, read = _recognize(path)
  readable = re.sub(r"[^\w.-]+", "-", str(name)).strip("-.")[-64:]
  target = cache.cache_directory() / "converted"
  target /= f"{readable}-{_fingerprint(source)}"
  if not target.is_dir():
    with downloads.lock(target.with_name(".lock")):
      if not target.is_dir():
        inverter = "its own" if _has_inverter(source) else "Griffin-Lim"
        downloads.say(
          f"Converting {name} into {target}, once; inverter: {inverter}."
        )
        _convert(source, read, target)
  return target


def convert_published(
  source: str | os.PathLike,
  target: str | os.PathLike,
  *,
  dtype: DTypeLike = np.float32,
) -> None:
  """Makes a model directory of published weights.

  Args:
    source: The directory of a diffusers pipeline or of a t5x checkpoint.
    target: The model directory, which must not exist.
    dtype: float16 or float32, to store the weights in.

  Raises:
    CheckpointError: The weights cannot be read, or `target` exists.
    OSError: `target` cannot be written.
  """
  if os.path.exists(target):
    raise directory.CheckpointError(f"Expected a new directory, got {target}.")
  _convert(*_recognize(Path(source)), Path(target), dtype)


def _recognize(path: Path) -> tuple[Path, _Read]:
  """The directory that holds published weights, and what reads it."""
  if (path / diffusers.PIPELINE).exists():
    return path, diffusers.load_diffusers_pipeline
  # An archive may have a folder of its own around everything.
  for folder in (path, *sorted(path.glob("*/"))):
    if (
      (folder / t5x.STATE).is_file()
      or (folder / t5x.ORBAX_STATE).is_dir()
      or any(folder.glob("checkpoint_*"))
    ):
      return folder, t5x.load_t5x_checkpoint
  raise directory.CheckpointError(
    f"Expected a model in {path}: {directory.CONFIG}, {diffusers.PIPELINE} of"
    " a diffusers pipeline, or a t5x checkpoint; found none of them."
  )


def _fingerprint(path: Path) -> str:
  """Tells directories apart, and states of one, by sizes and times of files."""
  path = path.resolve()
  digest = hashlib.sha256(f"{_CONVERSION} {path}".encode())
  # The config of t5x lies above the directory of a step.
  for file in sorted([*path.parent.glob("*.gin"), *path.rglob("*")]):
    if file.is_file():
      state = file.stat()
      digest.update(f"\0{file} {state.st_size} {state.st_mtime_ns}".encode())
  return digest.hexdigest()[:16]


def _convert(
  source: Path, read: _Read, target: Path, dtype: DTypeLike = np.float32
) -> None:
  config, parameters = read(source)
  _warn_of_nan(parameters, source)
  with downloads.whole_directory(target) as partial:
    directory.save_model_directory(
      partial, {"model": config}, parameters, dtype=dtype
    )
    if _has_inverter(source):
      shutil.copyfile(source / diffusers.INVERTER, partial / ONNX_INVERTER)


def _has_inverter(source: Path) -> bool:
  return (source / diffusers.INVERTER).exists()


def _warn_of_nan(parameters: Mapping[str, Any], source: Path) -> None:
  flat = traverse_util.flatten_dict(parameters, sep="/")
  spoilt = [name for name, array in flat.items() if np.isnan(array).any()]
  if spoilt:
    warnings.warn(
      f"{source} has weights that are NaN, in {', '.join(spoilt)}; what this"
      " model renders will be, too.",
      stacklevel=2,
    )
