"""What the axes of parameters mean, by their names, in T5X's vocabulary.

Models themselves are not annotated: published names say enough. How such
an axis lies on a mesh of devices is not decided here but in `training`.
"""

import re
from typing import Any

from flax import traverse_util

Axes = tuple[str | None, ...]

_RULES: tuple[tuple[str, Axes], ...] = (
  (r"token_embedder/embedding", ("vocab", "embed")),
  (r"pitch_embedder/embedding", ("vocab", "embed")),
  # Of a few rows, or an odd number of them.
  (r"(program|tied)_embedder/embedding", (None, "embed")),
  (r"relative_time_bias/embedding", (None, None)),
  (r"Embed_0/embedding", ("length", "embed")),
  (r"(query|key|value)/kernel", ("embed", "joined_kv")),
  (r"out/kernel", ("joined_kv", "embed")),
  (r"wi_[01]/kernel", ("embed", "mlp")),
  (r"wo/kernel", ("mlp", "embed")),
  (r"(input_proj|continuous_inputs_projection)/kernel", ("mel", "embed")),
  (r"spec_out_dense/kernel", ("embed", "mel")),
  (r"time_emb_dense0/kernel", ("embed", "mlp")),
  (r"time_emb_dense1/kernel", ("mlp", "cond")),
  (r"FiLMLayer_[01]/DenseGeneral_0/kernel", ("cond", "embed")),
  (r"(onset|offset|velocity)_proj/kernel", (None, "embed")),
  (r"(\w+_norm/scale|null_note)", ("embed",)),
)
_COMPILED = tuple(
  (re.compile(rf"(^|/){pattern}$"), axes) for pattern, axes in _RULES
)


def axes_of(path: str, num_axes: int) -> Axes | None:
  """The names of a parameter's axes.

  Args:
    path: The parameter's name, parts joined by slashes; what comes before it,
      as in the state of an optimizer, does not matter.
    num_axes: How many axes the array has.

  Returns:
    A name for each axis, None for one without a meaning of its own; None in
    all where no rule knows such an array.
  """
  for pattern, axes in _COMPILED:
    if pattern.search(path) and len(axes) == num_axes:
      return axes
  return None


def logical_axes(parameters: dict[str, Any]) -> dict[str, Any]:
  """Names the axes of every parameter of a network.

  `vocab` are tokens, `embed` the channels of a layer, `joined_kv` those of all
  heads together, `mlp` hidden channels, `cond` those of the noise time, `mel`
  the bins of a spectrogram, `length` positions.

  Args:
    parameters: A model's, or their shapes.

  Returns:
    The same tree of tuples of names; see `axes_of`.

  Raises:
    ValueError: A parameter is of no network of this room.
  """
  named = {}
  for path, leaf in traverse_util.flatten_dict(parameters, sep="/").items():
    axes = axes_of(path, len(leaf.shape))
    if axes is None:
      raise ValueError(
        f"Expected a parameter of a network of `models`; found {path} of shape"
        f" {tuple(leaf.shape)}. Add a rule to models/logical_axes.py."
      )
    named[path] = axes
  return traverse_util.unflatten_dict(named, sep="/")
