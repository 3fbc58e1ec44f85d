"""Inverters on disk: inverter.safetensors, and "inverter" in config.json."""

import os
from pathlib import Path
from typing import Any

import jax
from jaxtyping import DTypeLike
import numpy as np

from music_spectrogram_diffusion import inverter
from music_spectrogram_diffusion.checkpoints import directory, pretrained

WEIGHTS = "inverter.safetensors"
_KEY = "inverter"


def save_inverter(
  path: str | os.PathLike,
  generator: inverter.Generator,
  parameters: dict[str, Any],
  *,
  dtype: DTypeLike = np.float32,
) -> None:
  """Writes an inverter into a directory of its own, or into a model's.

  Args:
    path: A model directory, whose inverter this becomes; or a new directory.
    generator: What the parameters belong to.
    parameters: Arrays under nested names.
    dtype: float16 or float32, to store them in.

  Raises:
    directory.CheckpointError: The directory's config cannot be read, or a value
      is beyond the range of `dtype`.
  """
  described = Path(path, directory.CONFIG)
  config = directory.read_config(described) if described.exists() else {}
  config[_KEY] = inverter.to_config(generator)
  directory.save_model_directory(
    path, config, parameters, filename=WEIGHTS, dtype=dtype
  )


def has_inverter(path: str | os.PathLike) -> bool:
  """Whether a directory carries the weights of an inverter of ours."""
  return Path(path, WEIGHTS).is_file()


def find_inverter(name: str | os.PathLike | None = None) -> Path:
  """The directory of an inverter, or of a model that has one.

  Args:
    name: As of `pretrained.find_model`.

  Raises:
    directory.CheckpointError: There is none.
  """
  path = pretrained.find_model(name)
  if not has_inverter(path):
    raise directory.CheckpointError(
      f"Expected a directory with {WEIGHTS}, got {path}."
    )
  return path


def load_inverter(
  path: str | os.PathLike,
) -> tuple[inverter.Generator, dict[str, Any]]:
  """Reads the inverter of a directory.

  Args:
    path: Where `save_inverter` wrote.

  Returns:
    The generator, and its parameters as float32.

  Raises:
    directory.CheckpointError: Something is missing, damaged or does not fit.
  """
  config, parameters = directory.load_model_directory(path, filename=WEIGHTS)
  described = Path(path, directory.CONFIG)
  if _KEY not in config:
    raise directory.CheckpointError(
      f"Expected {_KEY} in {described}, beside {WEIGHTS}; it is not there."
    )
  try:
    generator = inverter.from_config(config[_KEY])
  except ValueError as error:
    raise directory.CheckpointError(
      f"Expected an inverter in {described}: {error}"
    ) from error
  if not isinstance(generator, inverter.Generator):
    raise directory.CheckpointError(
      f"Expected an inverter in {described}, got {type(generator).__name__}."
    )
  directory.check_parameters(
    jax.eval_shape(generator.init, jax.random.key(0)),
    parameters,
    Path(path, WEIGHTS),
  )
  return generator, parameters
