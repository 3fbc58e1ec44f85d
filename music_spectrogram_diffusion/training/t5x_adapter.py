"""Our models as t5x trains them: `gin/t5x/` says how to start it.

The only file that imports t5x, which is on no package index: it comes from a
checkout. What t5x wants of a model and we do not have is made here.
"""

from collections.abc import Callable, Mapping
import json
import os
from pathlib import Path
from typing import Any

import flax
from flax import traverse_util
from flax.linen import partitioning as flax_partitioning
import jax
from jaxtyping import Array, Float, PRNGKeyArray
from t5x import adafactor, gin_utils, metrics
from t5x import models as t5x_models

from music_spectrogram_diffusion import models
from music_spectrogram_diffusion.training import layout, learners

Batch = Mapping[str, Array]

_NO_NAME = "unnamed"
"""Of axes without a meaning; t5x wants a name for each."""


class SpectrogramModel(t5x_models.BaseModel):
  """A model of the room `models` in the form that t5x trains.

  Batches are those of the training contract. What t5x keeps no average of are
  the parameters: its checkpoints hold these alone.
  """

  def __init__(
    self,
    model: models.DiffusionModel | models.AutoregressiveModel,
    optimizer_def: Any,
    feature_converter: Callable[[], Any],
    loss_options: Mapping[str, Any] | None = None,
  ):
    """Joins what is trained with how.

    Args:
      model: What is trained.
      optimizer_def: An optimizer of t5x.
      feature_converter: Makes a converter of seqio, such as
        `data.converters.ContextConverter`.
      loss_options: Keyword arguments of the model's `loss`.
    """
    super().__init__(optimizer_def)
    self.model = model
    self._loss_options = dict(loss_options or {})

    def make_converter(*, pack: bool = False, **_: Any) -> Any:
      if pack:
        raise ValueError(
          "Expected utils.DatasetConfig.pack = False: spectrograms are not"
          " packed."
        )
      return feature_converter()

    self.FEATURE_CONVERTER_CLS = make_converter  # As t5x calls it.

  def get_initial_variables(
    self,
    rng: PRNGKeyArray,
    input_shapes: Mapping[str, tuple[int, ...]],
    input_types: Mapping[str, Any] | None = None,
  ) -> flax.core.FrozenDict:
    """Draws parameters, and names their axes.

    Raises:
      ValueError: The data is not as long as the network.
    """
    del input_types
    batch = {
      name: jax.ShapeDtypeStruct(shape, "float32")
      for name, shape in input_shapes.items()
    }
    learners.check_batch(self.model, batch)
    parameters = self.model.init(_as_key(rng))
    return flax.core.freeze(
      {"params": parameters, "params_axes": _axes(parameters)}
    )

  def loss_fn(
    self,
    params: Mapping[str, Any],
    batch: Batch,
    dropout_rng: PRNGKeyArray | None,
  ) -> tuple[Float[Array, ""], dict[str, Any]]:
    """The model's loss, without dropout and with fixed noise if there is no
    key, and what to watch."""
    train = dropout_rng is not None
    key = _as_key(dropout_rng) if train else jax.random.key(0)
    value, watched = self.model.loss(
      flax.core.unfreeze(params), batch, key, train=train, **self._loss_options
    )
    return value, {
      name: metrics.AveragePerStep(total=metric)
      for name, metric in (watched | {"loss": value}).items()
    }

  def predict_batch_with_aux(
    self,
    params: Mapping[str, Any],
    batch: Batch,
    rng: PRNGKeyArray | None = None,
  ) -> tuple[Float[Array, "batch frames mel_bins"], dict[str, Array]]:
    """Generates log-mel spectrograms."""
    key = jax.random.key(0) if rng is None else _as_key(rng)
    parts = (batch[name] for name in ("note_tokens", "context", "context_mask"))
    return self.model.predict(flax.core.unfreeze(params), *parts, key), {}

  def score_batch(
    self, params: Any, batch: Batch, return_intermediates: bool = False
  ) -> Array:
    """There is no likelihood of a spectrogram.

    Raises:
      NotImplementedError: Always.
    """
    raise NotImplementedError("Spectrograms have no likelihood here.")


def factor_rules() -> Mapping[str, adafactor.FactorDim]:
  """How Adafactor averages over the axes of our parameters.

  Tables of positions and scales of norms are kept element by element.
  """
  return flax.core.freeze(
    {
      **adafactor.standard_logical_factor_rules(),
      "cond": adafactor.FactorDim.COLUMN,
      "mel": adafactor.FactorDim.COLUMN,
      "length": adafactor.FactorDim.COLUMN,
      _NO_NAME: adafactor.FactorDim.COLUMN,
    }
  )


def additional_axis_rules() -> list[tuple[str, str | None]]:
  """Where axes lie that t5x has no rule for."""
  return [("cond", "model"), ("mel", None), (_NO_NAME, None)]


def summarize_config(
  model_dir: str | os.PathLike,
  summary_writer: Any,
  step: int,
  *,
  model: SpectrogramModel,
) -> None:
  """Writes `config.gin` as t5x does, and beside it our `model.json`.

  By the latter `spec-diff convert t5x` knows what was trained.
  """
  gin_utils.summarize_gin_config(os.fspath(model_dir), summary_writer, step)
  if jax.process_index() == 0:
    text = json.dumps(models.to_config(model.model), indent=2)
    Path(model_dir, layout.MODEL).write_text(f"{text}\n", "utf-8")


def _as_key(rng: PRNGKeyArray) -> PRNGKeyArray:
  """A key of today's kind of what may be one of the old kind."""
  if jax.dtypes.issubdtype(rng.dtype, jax.dtypes.prng_key):
    return rng
  return jax.random.wrap_key_data(rng)


def _axes(parameters: Mapping[str, Any]) -> dict[str, Any]:
  """Names of the axes, each tuple beside its parameter's name and `_axes`."""
  named = traverse_util.flatten_dict(
    models.logical_axes(parameters), is_leaf=lambda _, leaf: type(leaf) is tuple
  )
  return traverse_util.unflatten_dict(
    {
      (*path[:-1], f"{path[-1]}_axes"): flax_partitioning.AxisMetadata(
        names=tuple(name or _NO_NAME for name in names)
      )
      for path, names in named.items()
    }
  )
