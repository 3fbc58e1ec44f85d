"""Model directories: config.json beside weights in safetensors.

Nothing in a model directory is executed when it is loaded, and a pickle is
never read.
"""

from collections.abc import Mapping
import hashlib
import json
import os
from pathlib import Path
import shutil
import tempfile
from typing import Any

from flax import traverse_util
from jax import numpy as jnp
from jaxtyping import DTypeLike
import numpy as np
import safetensors
import safetensors.numpy

# A reader takes every minor version of its own major version, and older ones.
FORMAT_VERSION = "1.0"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"


class CheckpointError(ValueError):
  """A model directory cannot be read as what it should be."""


def save_model_directory(
  path: str | os.PathLike,
  config: Mapping[str, Any],
  parameters: Mapping[str, Any],
  *,
  filename: str = WEIGHTS,
  dtype: DTypeLike = np.float32,
) -> None:
  """Writes a model directory, or replaces the model in an existing one.

  Each file is complete before it gets its name, so that a failed or interrupted
  call leaves the model that was there. Other files of the directory stay.

  Args:
    path: The directory; it and its parents are made if need be.
    config: What to build, as JSON values.
    parameters: Arrays under nested names, which are joined by "/".
    filename: Name of the weights in the directory.
    dtype: float16 or float32, to store the floating arrays in.

  Raises:
    CheckpointError: A value is beyond the range of `dtype`.
  """
  tensors = {
    name: _store(name, array, jnp.dtype(dtype))
    for name, array in traverse_util.flatten_dict(parameters, sep="/").items()
  }
  versioned = {"format_version": FORMAT_VERSION, **config}
  text = json.dumps(versioned, indent=2, allow_nan=False) + "\n"
  path = Path(path)
  is_new = not path.exists()
  path.mkdir(parents=True, exist_ok=True)
  try:
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=path) as partial:
      safetensors.numpy.save_file(tensors, os.path.join(partial, filename))
      Path(partial, CONFIG).write_text(text, encoding="utf-8")
      # safetensors 0.8 makes files that only their owner may read.
      shutil.copymode(
        os.path.join(partial, CONFIG), os.path.join(partial, filename)
      )
      for name in (filename, CONFIG):
        os.replace(os.path.join(partial, name), path / name)
  except BaseException:
    if is_new:
      path.rmdir()
    raise


def _store(name: str, array: Any, dtype: np.dtype) -> np.ndarray:
  """The array as it is stored: contiguous, floats in `dtype`."""
  array = np.asarray(array)
  if not jnp.issubdtype(array.dtype, jnp.floating):
    return np.ascontiguousarray(array)
  with np.errstate(over="ignore"):
    stored = np.ascontiguousarray(array, dtype)
  if np.isfinite(array).all() and not np.isfinite(stored).all():
    raise CheckpointError(
      f"Expected values of {name} within {jnp.finfo(dtype).max}, the largest"
      f" {dtype}, got {np.abs(array).max()}; store the model as float32."
    )
  return stored


def load_model_directory(
  path: str | os.PathLike, *, filename: str = WEIGHTS
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Reads a model directory.

  Args:
    path: The directory.
    filename: Name of the weights in the directory.

  Returns:
    The config without its format version, and the parameters under nested
    names, floating ones as float32.

  Raises:
    CheckpointError: A file is missing, damaged, or of a newer major version.
  """
  config = read_config(Path(path, CONFIG))
  weights_path = Path(path, filename)
  tensors = read_tensors(weights_path)
  for name in tensors:
    parents = name.split("/")[:-1]
    for depth in range(1, len(parents) + 1):
      if (parent := "/".join(parents[:depth])) in tensors:
        raise CheckpointError(
          f"Expected nested names in {weights_path}, got both a tensor {parent}"
          f" and a tensor {name}."
        )
  return config, traverse_util.unflatten_dict(tensors, sep="/")


def read_config(path: Path) -> dict[str, Any]:
  """Reads a config.json, and returns it without its format version.

  Raises:
    CheckpointError: It cannot be read, or is of a newer major version.
  """
  config = read_json(path)
  version = config.pop("format_version", None)
  major, dot, minor = str(version).partition(".")
  if not (dot and major.isdecimal() and minor.isdecimal()):
    raise CheckpointError(
      f"Expected a format_version like {FORMAT_VERSION!r} in {path},"
      f" got {version!r}."
    )
  if int(major) > int(FORMAT_VERSION.partition(".")[0]):
    raise CheckpointError(
      f"Expected a format_version up to {FORMAT_VERSION} in {path}, got"
      f" {version}; update music_spectrogram_diffusion to read it."
    )
  return config


def read_json(path: Path) -> dict[str, Any]:
  """Reads a JSON object."""
  try:
    value = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError, RecursionError) as error:
    raise CheckpointError(f"Cannot read {path}: {error}") from error
  if not isinstance(value, dict):
    raise CheckpointError(
      f"Expected a JSON object in {path}, got {type(value).__name__}."
    )
  return value


def read_tensors(path: Path) -> dict[str, np.ndarray]:
  """Reads a safetensors file; floats come as float32."""
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      names = list(file.keys())
    tensors = {name: _read_tensor(path, name) for name in names}
  # AttributeError is how it says that NumPy has no such dtype.
  except (OSError, safetensors.SafetensorError, AttributeError) as error:
    raise CheckpointError(f"Cannot read {path}: {error}") from error
  return {
    name: array.astype(np.float32, copy=False)
    if jnp.issubdtype(array.dtype, jnp.floating)
    else array
    for name, array in tensors.items()
  }


def _read_tensor(path: Path, name: str) -> np.ndarray:
  """One tensor of a file, which is mapped for it alone.

  What was read of a mapped file counts as memory until it is closed: large
  models would be there twice.
  """
  with safetensors.safe_open(path, framework="numpy") as file:
    return file.get_tensor(name)


def weights_hash(path: str | os.PathLike, *, filename: str = WEIGHTS) -> str:
  """The SHA-256 of a directory's weights, in hexadecimal: the model's name."""
  with open(Path(path, filename), "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def check_parameters(
  expected: Mapping[str, Any],
  found: Mapping[str, Any],
  path: str | os.PathLike,
) -> None:
  """Checks that parameters have the names and shapes that a model expects.

  Args:
    expected: Nested arrays or `jax.ShapeDtypeStruct`s.
    found: Nested arrays.
    path: Where `found` comes from, for the message.

  Raises:
    CheckpointError: Parameters are missing, unexpected or misshapen; the
      message names all of them.
  """
  want = _shapes(expected)
  have = _shapes(found)
  problems = [
    *(f"{name} {want[name]} is missing" for name in want if name not in have),
    *(
      f"{name} {have[name]} is unexpected" for name in have if name not in want
    ),
    *(
      f"{name} is {have[name]}, expected {want[name]}"
      for name in want
      if name in have and have[name] != want[name]
    ),
  ]
  if problems:
    raise CheckpointError(
      f"Parameters in {path} do not fit the model: {'; '.join(problems)}."
    )


def _shapes(tree: Mapping[str, Any]) -> dict[str, list[int]]:
  flat = traverse_util.flatten_dict(tree, sep="/")
  return {name: list(leaf.shape) for name, leaf in sorted(flat.items())}
