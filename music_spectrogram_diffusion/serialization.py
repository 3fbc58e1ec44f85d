"""Dataclasses as JSON: every part a dict of its fields and its `type`."""

from collections.abc import Mapping
import dataclasses
from typing import Any, get_args, get_origin, get_type_hints

import jax
import numpy as np


def to_config(part: Any) -> Any:
  """Describes a dataclass, or a part of one, in JSON's types.

  Args:
    part: A dataclass that `from_config` is told of, or a value of its fields.

  Returns:
    A dict with `type` for a dataclass, a list for an array or a tuple.
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
  if isinstance(part, tuple):
    return [to_config(value) for value in part]
  return part


def from_config(config: Any, parts: Mapping[str, type]) -> Any:
  """Builds what `to_config` described; only known types are made.

  Args:
    config: The description.
    parts: The dataclasses that may be built, by their names.

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
  if kind not in parts:
    raise ValueError(
      f"Expected a part of type {', '.join(sorted(parts))}; got {kind!r}."
    )
  part = parts[kind]
  hints = get_type_hints(part)
  unknown = config.keys() - {field.name for field in dataclasses.fields(part)}
  if unknown := unknown - {"type"}:
    raise ValueError(f"{kind} has no field {', '.join(sorted(unknown))}.")
  fields = {
    name: _field(f"{name} of {kind}", hints[name], value, parts)
    for name, value in config.items()
    if name != "type"
  }
  try:
    return part(**fields)
  except TypeError as error:  # A field is missing.
    raise ValueError(f"{kind} cannot be built: {error}.") from error


def _field(name: str, hint: Any, value: Any, parts: Mapping[str, type]) -> Any:
  """The value of a field, as its type hint wants it."""
  if get_origin(hint) is tuple and isinstance(value, list):
    return tuple(
      _field(f"each of {name}", get_args(hint)[0], item, parts)
      for item in value
    )
  value = from_config(value, parts)
  if hint is float and type(value) is int:  # JSON lost the point.
    return float(value)
  allowed = (get_origin(hint),) if get_origin(hint) is tuple else get_args(hint)
  allowed = allowed or (hint,)
  if not isinstance(value, allowed):
    wanted = " or ".join(option.__name__ for option in allowed)
    raise ValueError(f"Expected {name} as {wanted}; got {value!r}.")
  return value
