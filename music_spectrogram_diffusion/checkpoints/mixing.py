"""Weights between those of two models.

Of two runs that began alike, or of a run and what it began from, the average is
often better than either (Wortsman et al. 2022,
https://arxiv.org/abs/2203.05482).
"""

import os
from pathlib import Path
import shutil

import jax
from jaxtyping import DTypeLike
import numpy as np

from music_spectrogram_diffusion.checkpoints import (
  directory,
  downloads,
  inverters,
  pretrained,
)

_MEANING = ("type", "vocabulary", "spectrogram", "schedule", "parameterization")
"""Parts of a model's config on which the sense of its weights depends."""


def mix_models(
  path: str | os.PathLike,
  other: str | os.PathLike,
  target: str | os.PathLike,
  *,
  share: float = 0.5,
  dtype: DTypeLike = np.float32,
) -> None:
  """Writes a model as it is, but for weights on the way to another's.

  Args:
    path: The model directory that lends its config, its inverter, and 1 - share
      of its weights.
    other: The model directory whose weights have the rest.
    target: The model directory to make, which must not exist.
    share: From 0, all weights are those of `path`, to 1.
    dtype: float16 or float32, to store the weights in.

  Raises:
    CheckpointError: A model cannot be read, the two differ in the shapes of
      their weights or in what these mean, or `target` exists.
    ValueError: `share` is not between 0 and 1.
    OSError: `target` cannot be written.
  """
  if not 0 <= share <= 1:
    raise ValueError(f"Expected a share from 0 to 1, got {share}.")
  path, other, target = Path(path), Path(other), Path(target)
  if target.exists():
    raise directory.CheckpointError(f"Expected a new directory, got {target}.")
  config, parameters = _load(path)
  other_config, other_parameters = _load(other)
  for part in _MEANING:
    if config["model"].get(part) != other_config["model"].get(part):
      raise directory.CheckpointError(
        f"Expected {other} to have the {part} of {path}; it has another, so"
        " their weights cannot be mixed."
      )
  directory.check_parameters(parameters, other_parameters, other)
  mixed = jax.tree.map(
    lambda one, two: (1 - share) * one + share * two,
    parameters,
    other_parameters,
  )
  with downloads.whole_directory(target) as partial:
    directory.save_model_directory(partial, config, mixed, dtype=dtype)
    for name in (inverters.WEIGHTS, pretrained.ONNX_INVERTER):
      if (path / name).is_file():
        shutil.copyfile(path / name, partial / name)


def _load(path):
  config, parameters = directory.load_model_directory(path)
  if not isinstance(config.get("model"), dict):
    raise directory.CheckpointError(
      f"Expected a model in {path / directory.CONFIG}; it describes none."
    )
  return config, parameters
