"""The models that are measured, and the arithmetic that their steps need."""

import dataclasses
from typing import Any

import jax
import numpy as np

from music_spectrogram_diffusion import checkpoints, models

DEFAULT = "default"
"""The embedded model; the other names are the paper's sizes."""


def build(
  name: str, dtype: str = "float32"
) -> tuple[models.DiffusionModel, dict[str, Any]]:
  """A model and parameters in NumPy: the embedded one, or drawn at random."""
  if name == DEFAULT:
    config, parameters = checkpoints.load_model_directory(
      checkpoints.find_model(None)
    )
    model = models.from_config(config["model"])
  else:
    model = models.DiffusionModel(network=models.paper_network(name))
    parameters = draw(model)
  network = dataclasses.replace(model.network, dtype=dtype)
  return dataclasses.replace(model, network=network), parameters


def draw(model: models.DiffusionModel) -> dict[str, Any]:
  """Parameters that keep activations in their range, as trained ones do."""
  rng = np.random.default_rng(0)

  def array(path, shape):
    value = rng.standard_normal(shape.shape, np.float32)
    match path[-1].key:
      case "kernel":
        fan_in = len(value)
        if path[-2].key == "query" and not model.network.scale_logits:
          fan_in *= model.network.head_dim
        return value / np.sqrt(np.float32(fan_in))
      case "scale":
        return 1 + np.float32(0.1) * value
    return value

  shapes = jax.eval_shape(model.init, jax.random.key(0))
  return jax.tree_util.tree_map_with_path(array, shapes)


def dense_flops(network: models.NetworkConfig, rows: int) -> float:
  """Of the projections of self-attention and MLP, in all decoder layers."""
  inner = network.num_heads * network.head_dim
  weights = 4 * network.emb_dim * inner + 3 * network.emb_dim * network.mlp_dim
  return 2.0 * rows * weights * network.num_decoder_layers


def step_flops(
  network: models.NetworkConfig, num_keys: int, n_mels: int, batch: int = 1
) -> float:
  """What a guided step cannot do without.

  Both halves in all but the cross-attention, which only the conditional one
  has; keys, values, scales and shifts are there. What comes before the first
  cross-attention is the same for both.
  """
  frames, emb = network.segment_frames, network.emb_dim
  inner = network.num_heads * network.head_dim
  per_row = {
    "self-attention": 2 * emb * inner * 4 + 4 * frames * inner,
    "cross-attention": 2 * emb * inner * 2 + 4 * num_keys * inner,
    "MLP": 6 * emb * network.mlp_dim,
    "ends": 2 * emb * n_mels,
  }
  layers = network.num_decoder_layers
  halves = (
    (2 * layers - 1) * per_row["self-attention"]
    + layers * per_row["cross-attention"]
    + 2 * layers * per_row["MLP"]
    + 3 * per_row["ends"]
  )
  return float(batch * frames * halves)
