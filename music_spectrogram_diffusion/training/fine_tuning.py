"""Fine-tuning: a run that starts from weights that are there."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from flax import traverse_util
import numpy as np
import optax

from music_spectrogram_diffusion.training import layout, restoring

Parameters = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class InitialModel:
  """The weights that a run starts from.

  Attributes:
    path: A model directory, the name of a published model, a checkpoint of t5x
      or the directory of another run, of which the average is taken; None for
      none.
    find: Gives the model directory of a name or a path:
      `checkpoints.find_model`.
    read: Reads a model directory, as `checkpoints.load_model_directory` does.
    part: What of the directory's config the weights are of.
    fresh: Beginnings of names, such as `continuous_encoder`, of what starts
      anew all the same.
  """

  path: str | os.PathLike | None
  find: Callable[[str | os.PathLike], Path]
  read: Callable[[Path], tuple[Mapping[str, Any], Parameters]]
  part: str = "model"
  fresh: Sequence[str] = ()

  def load(self) -> tuple[Mapping[str, Any], Parameters]:
    """Reads the weights, and what they are of: see `Learner.describe`.

    Raises:
      ValueError: There is no such model, or it cannot be read.
    """
    if layout.is_run(self.path):
      text = Path(self.path, layout.MODEL).read_text("utf-8")
      found = restoring.restore_average(layout.checkpoints(self.path))
      return json.loads(text), found
    config, found = self.read(self.find(self.path))
    return config.get(self.part, {}), found

  def fitted(
    self, parameters: Parameters, expected: Parameters
  ) -> dict[str, Any]:
    """The weights in the place of `expected`: see `fitted` of this module."""
    return fitted(parameters, expected, source=self.path, fresh=self.fresh)


def fitted(
  parameters: Parameters,
  expected: Parameters,
  *,
  source: str | os.PathLike,
  fresh: Sequence[str] = (),
) -> dict[str, Any]:
  """Puts given weights in the place of a new model's.

  Args:
    parameters: What is given.
    expected: The new model's, or their shapes.
    source: Where `parameters` come from, for the message.
    fresh: Beginnings of names, such as `continuous_encoder`, of what stays as
      it is in `expected`, given or not.

  Returns:
    A tree like `expected`.

  Raises:
    ValueError: Names or shapes differ; the message lists all that do.
  """
  want = traverse_util.flatten_dict(expected, sep="/")
  have = {
    name: value
    for name, value in traverse_util.flatten_dict(parameters, sep="/").items()
    if not _begins(name, fresh)
  }
  kept = {name: want[name] for name in want if _begins(name, fresh)}
  problems = []
  for name in sorted(want.keys() | have.keys()):
    if name in kept:
      continue
    if name not in have:
      problems.append(f"{name} {_shape(want[name])} is missing")
    elif name not in want:
      problems.append(f"{name} {_shape(have[name])} is not in the model")
    elif have[name].shape != want[name].shape:
      problems.append(
        f"{name} is {_shape(have[name])}, expected {_shape(want[name])}"
      )
  if problems:
    raise ValueError(
      f"The weights of {source} do not fit the model that is to be trained:"
      f" {'; '.join(problems)}. Train a model of the same sizes, or list in"
      " FRESH the beginnings of names that shall start anew."
    )
  return traverse_util.unflatten_dict(
    {
      name: kept[name]
      if name in kept
      else np.asarray(have[name], want[name].dtype)
      for name in want
    },
    sep="/",
  )


def frozen(
  optimizer: optax.GradientTransformation, parts: Sequence[str] = ()
) -> optax.GradientTransformation:
  """An optimizer that leaves some parameters as they are, and keeps no state
  for them.

  Args:
    optimizer: What updates the others; a clip of the gradient's norm sees
      these alone.
    parts: Beginnings of names, such as `token_encoder`; with none, `optimizer`
      itself is returned.

  Returns:
    The optimizer. Its `init` raises ValueError where a part is no parameter's.
  """
  if not parts:
    return optimizer

  def labels(parameters: Parameters) -> dict[str, Any]:
    flat = traverse_util.flatten_dict(parameters, sep="/")
    for part in parts:
      if not any(_begins(name, [part]) for name in flat):
        raise ValueError(
          "Expected FROZEN to hold beginnings of the names of parameters, such"
          f" as {', '.join(sorted(parameters))}; got {part!r}."
        )
    return traverse_util.unflatten_dict(
      {name: "frozen" if _begins(name, parts) else "trained" for name in flat},
      sep="/",
    )

  return optax.multi_transform(
    {"trained": optimizer, "frozen": optax.set_to_zero()}, labels
  )


def _begins(name: str, parts: Sequence[str]) -> bool:
  return any(f"{name}/".startswith(f"{part.strip('/')}/") for part in parts)


def _shape(value: Any) -> list[int]:
  return list(value.shape)
