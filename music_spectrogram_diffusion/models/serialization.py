"""Models as JSON: every part a dict of its fields and its `type`."""

import dataclasses
from typing import Any, get_args, get_type_hints

import jax
import numpy as np

from music_spectrogram_diffusion import audio, diffusion, notes
from music_spectrogram_diffusion.models import configs
from music_spectrogram_diffusion.models.autoregressive_model import (
  AutoregressiveModel,
)
from music_spectrogram_diffusion.models.diffusion_model import DiffusionModel

_PARTS = {
  part.__name__: part
  for part in (
    AutoregressiveModel,
    DiffusionModel,
    audio.SpectrogramConfig,
    configs.NetworkConfig,
    configs.SamplingConfig,
    diffusion.parameterization.EDM,
    diffusion.parameterization.Eps,
    diffusion.parameterization.V,
    diffusion.parameterization.X0,
    diffusion.parameterization.X0AndEps,
    diffusion.schedules.CosineSchedule,
    diffusion.schedules.LinearBetaSchedule,
    diffusion.schedules.SquaredCosineSchedule,
    notes.Vocabulary,
  )
}


def to_config(part: Any) -> Any:
  """Describes a model, or a part of one, in JSON's types.

  Args:
    part: A dataclass that `from_config` knows, or a value of its fields.

  Returns:
    A dict with `type` for a dataclass, a list for an array.
  """
  if dataclasses.is_dataclass(part):
    fields = {
      field.name: to_config(getattr(part, field.name))
      for field in dataclasses.fields(part)
    }
    return {"type": type(part).__name__} | fields
  if isinstance(part, np.ndarray | jax.Array):
    # Nine digits tell every float32 from its neighbours.
    return [float(f"{value:.9g}") for value in np.asarray(part, np.float64)]
  return part


def from_config(config: Any) -> Any:
  """Builds what `to_config` described; only known types are made.

  Args:
    config: The description.

  Returns:
    The part.

  Raises:
    ValueError: The type is not known, or a field is missing, unknown or wrong.
  """
  if isinstance(config, list):
    try:
      return np.asarray(config, np.float32)
    except TypeError as error:
      raise ValueError(f"Expected a list of numbers: {error}.") from error
  if not isinstance(config, dict):
    return config
  kind = str(config.get("type"))
  if kind not in _PARTS:
    raise ValueError(
      f"Expected a part of type {', '.join(sorted(_PARTS))}; got {kind!r}."
    )
  part = _PARTS[kind]
  hints = get_type_hints(part)
  fields = {
    name: from_config(value) for name, value in config.items() if name != "type"
  }
  unknown = fields.keys() - {field.name for field in dataclasses.fields(part)}
  if unknown:
    raise ValueError(f"{kind} has no field {', '.join(sorted(unknown))}.")
  for name, value in fields.items():
    if hints[name] is float and type(value) is int:  # JSON lost the point.
      fields[name] = value = float(value)
    allowed = get_args(hints[name]) or (hints[name],)
    if not isinstance(value, allowed):
      wanted = " or ".join(option.__name__ for option in allowed)
      raise ValueError(f"Expected {name} of {kind} as {wanted}; got {value!r}.")
  try:
    return part(**fields)
  except TypeError as error:  # A field is missing.
    raise ValueError(f"{kind} cannot be built: {error}.") from error
