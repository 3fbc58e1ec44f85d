"""What the library has no option for: tried here, and kept out of it."""

import re
from typing import Any

from flax import traverse_util
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from music_spectrogram_diffusion import models


def partly_harmonic_init(
  key: PRNGKeyArray, model: models.DiffusionModel, *, pattern: str
) -> dict[str, Any]:
  """Random parameters, but harmonic ones where `pattern` is in their name."""
  chosen = re.compile(pattern)

  def choose(path, plain, harmonic):
    return harmonic if chosen.search("/".join(path)) else plain

  return _map_named(choose, model.init(key), models.harmonic_init(key, model))


def flat_bias_init(
  key: PRNGKeyArray, model: models.DiffusionModel
) -> dict[str, Any]:
  """Harmonic parameters with a relative-time bias of zero."""

  def flatten(path, value):
    is_bias = path[0] == "relative_time_bias"
    return jnp.zeros_like(value) if is_bias else value

  return _map_named(flatten, models.harmonic_init(key, model))


def louder_init(
  key: PRNGKeyArray, model: models.DiffusionModel, *, gain: float
) -> dict[str, Any]:
  """Harmonic parameters whose last projection is `gain` times as large."""

  def scale(path, value):
    return gain * value if "spec_out_dense" in path else value

  return _map_named(scale, models.harmonic_init(key, model))


def log_normal_times(
  key: PRNGKeyArray, batch: int, *, mean: float, deviation: float = 1.2
) -> Float[Array, " batch"]:
  """Times whose noise level ln(sigma / alpha) is normal, stratified.

  The distribution of Karras et al. 2022, https://arxiv.org/abs/2206.00364,
  table 1, whose mean is -1.2, for the cosine schedule: sigma / alpha is
  tan(pi t / 2).
  """
  key_order, key_place = jax.random.split(key)
  stratum = jax.random.permutation(key_order, jnp.arange(float(batch)))
  place = (stratum + jax.random.uniform(key_place, (batch,))) / batch
  normal = jax.scipy.special.ndtri(jnp.clip(place, 1e-6, 1.0 - 1e-6))
  return 2.0 / jnp.pi * jnp.arctan(jnp.exp(mean + deviation * normal))


def _map_named(function, tree, *others):
  flat = [traverse_util.flatten_dict(tree) for tree in (tree, *others)]
  found = {
    path: function(path, *(values[path] for values in flat)) for path in flat[0]
  }
  return traverse_util.unflatten_dict(found)
