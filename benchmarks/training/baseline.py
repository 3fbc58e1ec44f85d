"""The same loss as one would first write it: the textbook's network, in JAX.

Takes the parameters of `models.paper_network` with context. Attention projects
queries, keys and values by kernels [emb, heads, head_dim], adds a mask as large
as its logits, and dropout draws a number for every element.
"""

from typing import Any

import jax
from jax import numpy as jnp
import numpy as np

from music_spectrogram_diffusion import audio, diffusion, models
from music_spectrogram_diffusion.models import decoders

Tree = dict[str, Any]


class Baseline:
  """Computes the loss of a diffusion model with context.

  Args:
    model: The model; its loss without dropout is the same.
  """

  def __init__(self, model: models.DiffusionModel):
    self.model = model
    self.config = model.network

  def loss(self, parameters: Tree, batch: Tree, key, *, train: bool = True):
    """Loss of a batch; with `train`, dropout of activations is on."""
    keys = iter(jax.random.split(key, 1000))
    time_key, noise_key = jax.random.split(key, 6)[:2]
    rate = self.config.dropout_rate if train else 0.0

    def dropout(x):
      if rate == 0.0:
        return x
      kept = jax.random.bernoulli(next(keys), 1.0 - rate, x.shape)
      return jnp.where(kept, x / (1.0 - rate), 0.0)

    spectrogram = self.model.spectrogram
    x0 = audio.scale_log_mel(batch["targets"], spectrogram, clip=True)
    context = audio.scale_log_mel(batch["context"], spectrogram, clip=True)
    time = diffusion.losses.stratified_times(time_key, len(x0))
    eps = jax.random.normal(noise_key, x0.shape)
    z_t, _ = diffusion.losses.noised(x0, time, eps, self.model.schedule)

    notes = self._notes(
      parameters["token_encoder"], batch["note_tokens"], dropout
    )
    before = self._context(
      parameters["continuous_encoder"], context, batch["context_mask"], dropout
    )
    encoded = jnp.concatenate([notes, before], axis=1)
    valid = jnp.concatenate(
      [batch["note_tokens"] > 0, batch["context_mask"]], axis=1
    )
    output = self._decoder(
      parameters["decoder"], z_t, time, encoded, valid, dropout
    )
    mask = jnp.broadcast_to(batch["targets_mask"][..., None], eps.shape)
    error = jnp.where(mask, jnp.abs(output - eps), 0.0)
    return error.sum() / mask.sum(), {}

  def _norm(self, parameters, x):
    variance = jnp.mean(x**2, axis=-1, keepdims=True)
    return x / jnp.sqrt(variance + 1e-6) * parameters["scale"]

  def _attention(self, parameters, queries, keys, mask, dropout):
    config = self.config
    shape = (config.emb_dim, config.num_heads, config.head_dim)

    def project(name, x):
      kernel = parameters[name]["kernel"].reshape(shape)
      return jnp.einsum("ble,ehd->blhd", x, kernel)

    query = project("query", queries)
    key, value = project("key", keys), project("value", keys)
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, key)
    bias = jnp.where(mask, 0.0, -1e10)[:, None]
    bias = jnp.broadcast_to(bias, logits.shape)
    weights = dropout(jax.nn.softmax(logits + bias, axis=-1))
    attended = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
    some = jnp.any(mask, axis=-1)[..., None, None]
    attended = jnp.where(some, attended, 0.0)
    out = parameters["out"]["kernel"].reshape(shape[1:] + shape[:1])
    return jnp.einsum("bqhd,hde->bqe", attended, out)

  def _mlp(self, parameters, x, dropout):
    gate = jax.nn.gelu(x @ parameters["wi_0"]["kernel"], approximate=True)
    hidden = dropout(gate * (x @ parameters["wi_1"]["kernel"]))
    return hidden @ parameters["wo"]["kernel"]

  def _encoder(self, parameters, x, valid, num_layers, dropout):
    mask = valid[:, :, None] & valid[:, None, :]
    x = dropout(x)
    for i in range(num_layers):
      layer = parameters[f"layers_{i}"]
      normed = self._norm(layer["pre_attention_layer_norm"], x)
      attended = self._attention(
        layer["attention"], normed, normed, mask, dropout
      )
      x = x + dropout(attended)
      normed = self._norm(layer["pre_mlp_layer_norm"], x)
      x = x + dropout(self._mlp(layer["mlp"], normed, dropout))
    return dropout(self._norm(parameters["encoder_norm"], x))

  def _notes(self, parameters, tokens, dropout):
    x = parameters["token_embedder"]["embedding"][tokens]
    table = jax.lax.stop_gradient(parameters["Embed_0"]["embedding"])
    x = x + table[: tokens.shape[1]]
    layers = self.config.num_encoder_layers
    return self._encoder(parameters, x, tokens > 0, layers, dropout)

  def _context(self, parameters, context, valid, dropout):
    x = context @ parameters["input_proj"]["kernel"]
    frames = context.shape[1]
    rolled = jnp.arange(frames) - jnp.argmin(valid, axis=1)[:, None]
    table = jax.lax.stop_gradient(parameters["Embed_0"]["embedding"])
    x = x + table[rolled % frames]
    layers = self.config.num_context_layers
    return self._encoder(parameters, x, valid, layers, dropout)

  def _decoder(self, parameters, z_t, time, encoded, valid, dropout):
    emb_dim = self.config.emb_dim
    scale = decoders.MAX_NOISE_TIME
    step = np.log(scale) / (emb_dim // 2 - 1)
    frequencies = np.exp(-step * np.arange(emb_dim // 2)).astype(np.float32)
    angles = time[:, None] * scale * frequencies
    condition = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    for i in range(2):
      kernel = parameters[f"time_emb_dense{i}"]["kernel"]
      condition = jax.nn.swish(condition @ kernel)

    def film(parameters, x):
      both = condition @ parameters["DenseGeneral_0"]["kernel"]
      scale, shift = jnp.split(both[:, None], 2, axis=-1)
      return x * (scale + 1.0) + shift

    x = z_t @ parameters["continuous_inputs_projection"]["kernel"]
    table = jax.lax.stop_gradient(parameters["Embed_0"]["embedding"])
    x = dropout(x + table[: x.shape[1]])
    batch, frames = x.shape[:2]
    everything = jnp.ones((batch, frames, frames), bool)
    cross = jnp.broadcast_to(valid[:, None], (batch, frames, valid.shape[1]))
    for i in range(self.config.num_decoder_layers):
      layer = parameters[f"layers_{i}"]
      normed = self._norm(layer["pre_self_attention_layer_norm"], x)
      normed = film(layer["FiLMLayer_0"], normed)
      x = x + dropout(
        self._attention(
          layer["self_attention"], normed, normed, everything, dropout
        )
      )
      normed = self._norm(layer["pre_cross_attention_layer_norm"], x)
      x = x + dropout(
        self._attention(
          layer["MultiHeadDotProductAttention_0"],
          normed,
          encoded,
          cross,
          dropout,
        )
      )
      normed = self._norm(layer["pre_mlp_layer_norm"], x)
      normed = film(layer["FiLMLayer_1"], normed)
      x = x + dropout(self._mlp(layer["mlp"], normed, dropout))
    x = dropout(self._norm(parameters["decoder_norm"], x))
    return x @ parameters["spec_out_dense"]["kernel"]
