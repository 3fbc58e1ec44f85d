"""Layers of the T5.1.1 transformer and what diffusion adds to it.

Raffel et al. 2020, https://arxiv.org/abs/1910.10683, with the changes of T5.1.1
(gated MLP, no biases); FiLM and position tables of Hawthorne et al. 2022,
https://arxiv.org/abs/2206.05408. Parameters are named and shaped like the
published ones.
"""

import math

from flax import linen as nn
import jax
from jax import lax
from jax import numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from music_spectrogram_diffusion.models import attention

_fan_in = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")


def dense(features: int, name: str, dtype: DTypeLike, init=_fan_in) -> nn.Dense:
  """A projection without bias, as all of T5.1.1's."""
  return nn.Dense(
    features, use_bias=False, kernel_init=init, dtype=dtype, name=name
  )


def rms_norm(
  x: Float[Array, "*batch emb_dim"],
  scale: Float[Array, " emb_dim"],
  epsilon: float = 1e-6,
) -> Float[Array, "*batch emb_dim"]:
  """Divides by the root mean square of the channels and scales each channel.

  Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467, in float32.

  Args:
    x: What is normalised.
    scale: Factor of each channel.
    epsilon: Added to the mean square.
  """
  x = x.astype(jnp.float32)
  mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
  return x * lax.rsqrt(mean_square + epsilon) * scale


class RMSNorm(nn.Module):
  """The layer of `rms_norm`.

  Attributes:
    dtype: Dtype of the result.
    epsilon: Added to the mean square.
  """

  dtype: DTypeLike = jnp.float32
  epsilon: float = 1e-6

  @nn.compact
  def __call__(
    self, x: Float[Array, "... emb_dim"]
  ) -> Float[Array, "... emb_dim"]:
    scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
    return rms_norm(x, scale, self.epsilon).astype(self.dtype)


class Dropout(nn.Module):
  """Dropout whose mask is shared by all positions of a sequence."""

  rate: float

  @nn.compact
  def __call__(
    self, x: Float[Array, "batch length emb_dim"], deterministic: bool
  ) -> Float[Array, "batch length emb_dim"]:
    return nn.Dropout(self.rate, broadcast_dims=(1,))(
      x, deterministic=deterministic
    )


class Attention(nn.Module):
  """Multi-head attention; a query that may attend to nothing yields zero.

  Attributes:
    num_heads: Number of heads.
    head_dim: Channels of each head.
    scale_logits: Whether logits are divided by the root of `head_dim`; T5 has
      that factor in the initial queries instead.
    dropout_rate: Share of attention weights dropped in training.
    dtype: Dtype of the computation; logits and softmax are float32.
  """

  num_heads: int
  head_dim: int
  scale_logits: bool = False
  dropout_rate: float = 0.0
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    queries: Float[Array, "batch queries emb_dim"],
    keys: Float[Array, "batch keys emb_dim"],
    mask: Bool[Array, "#batch #queries attended"] | None = None,
    bias: Float[Array, "batch heads queries attended"] | None = None,
    *,
    deterministic: bool,
  ) -> Float[Array, "batch queries emb_dim"]:
    """Attends from every query to the keys that `mask` admits.

    Args:
      queries: What asks.
      keys: What is attended to, as keys and as values.
      mask: True where a query may attend to a key; None admits all.
      bias: Added to the logits.
      deterministic: Whether dropout is off.

    Returns:
      The attended values, projected to the channels of `queries`.
    """
    query_init = nn.initializers.variance_scaling(
      1.0 if self.scale_logits else 1.0 / self.head_dim,
      "fan_in",
      "truncated_normal",
    )

    query = self._heads(queries, "query", query_init)
    key, value = self._keys_and_values(keys)
    if self.dropout_rate > 0.0 and not deterministic:
      # A key is dropped for all queries of a head: so may its value be.
      ones = jnp.ones((*value.shape[:1], self.num_heads, 1, value.shape[1]))
      kept = nn.Dropout(self.dropout_rate, broadcast_dims=(2,))(
        ones, deterministic=False
      )
      value = value * kept.transpose(0, 3, 1, 2).astype(value.dtype)
    attended = attention.attend(
      query,
      key,
      value,
      mask,
      bias,
      scale=self.head_dim**-0.5 if self.scale_logits else 1.0,
    )
    attended = attended.reshape(*attended.shape[:-2], -1)
    return dense(queries.shape[-1], "out", self.dtype)(attended)

  def _heads(self, x: Array, name: str, init=_fan_in) -> Array:
    """Projects and splits: [batch, length, heads, head_dim]."""
    x = dense(self.num_heads * self.head_dim, name, self.dtype, init)(x)
    return x.reshape(*x.shape[:-1], self.num_heads, self.head_dim)

  def _keys_and_values(self, keys: Array) -> tuple[Array, Array]:
    return self._heads(keys, "key"), self._heads(keys, "value")


class GrowingAttention(Attention):
  """Self-attention to one position after the other, in the order of time.

  Each call brings the next position; keys and values of the earlier ones are
  kept in the collection `cache`, which `mutable=["cache"]` creates and updates.

  Attributes:
    length: Positions that there will be.
  """

  length: int = 256

  def _keys_and_values(self, keys: Array) -> tuple[Array, Array]:
    key, value = super()._keys_and_values(keys)
    position = self.variable("cache", "cache_index", jnp.zeros, (), jnp.int32)

    def grown(name, new):
      shape = (new.shape[0], self.length, *new.shape[2:])
      kept = self.variable("cache", name, jnp.zeros, shape, new.dtype)
      kept.value = lax.dynamic_update_slice_in_dim(
        kept.value, new, position.value, axis=1
      )
      return kept.value

    grown_key, grown_value = (
      grown("cached_key", key),
      grown("cached_value", value),
    )
    position.value = position.value + 1
    return grown_key, grown_value


class KeptAttention(Attention):
  """Cross-attention to keys that are projected once, by the first call.

  They are kept in the collection `cache`; later calls do not look at theirs.
  """

  def _keys_and_values(self, keys: Array) -> tuple[Array, Array]:
    if not self.has_variable("cache", "cached_key"):
      key, value = super()._keys_and_values(keys)
      self.put_variable("cache", "cached_key", key)
      self.put_variable("cache", "cached_value", value)
    return (
      self.get_variable("cache", "cached_key"),
      self.get_variable("cache", "cached_value"),
    )


def gated(
  gate: Float[Array, "*shape"], hidden: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
  """What is hidden, as far as its gate is open: gelu(gate) * hidden."""
  return nn.gelu(gate, approximate=True) * hidden


class GatedMLP(nn.Module):
  """gelu(x W0) * (x W1), projected back: Shazeer 2020, arXiv 2002.05202."""

  mlp_dim: int
  dropout_rate: float = 0.0
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, "batch length emb_dim"], *, deterministic: bool
  ) -> Float[Array, "batch length emb_dim"]:
    hidden = gated(
      dense(self.mlp_dim, "wi_0", self.dtype)(x),
      dense(self.mlp_dim, "wi_1", self.dtype)(x),
    )
    hidden = Dropout(self.dropout_rate)(hidden, deterministic)
    return dense(x.shape[-1], "wo", self.dtype)(hidden)


def film(
  x: Float[Array, "*batch emb_dim"], scale_shift: Float[Array, "*#batch both"]
) -> Float[Array, "*batch emb_dim"]:
  """Scales and shifts each channel: x * (scale + 1) + shift.

  Perez et al. 2018, https://arxiv.org/abs/1709.07871.

  Args:
    x: What is modulated.
    scale_shift: Scales of all channels, then their shifts.
  """
  scale, shift = jnp.split(scale_shift, 2, axis=-1)
  return x * (scale + 1) + shift


class FiLM(nn.Module):
  """The layer of `film`, whose scales and shifts depend on a condition."""

  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch length emb_dim"],
    condition: Float[Array, "batch cond_dim"],
  ) -> Float[Array, "batch length emb_dim"]:
    project = dense(2 * x.shape[-1], "DenseGeneral_0", self.dtype)
    return film(x, project(condition)[:, None, :])


def sinusoids(
  positions: Float[Array, "*batch"],
  num_channels: int,
  max_timescale: float = 10_000.0,
) -> Float[Array, "*batch channels"]:
  """Sines, then cosines, of positions over log-spaced timescales.

  Args:
    positions: Where to evaluate, in units of the shortest timescale, 1.
    num_channels: Even number of channels, at least 4.
    max_timescale: The longest timescale.

  Returns:
    Half sines, half cosines.
  """
  half = num_channels // 2
  # By NumPy: angles reach 20 000 radians, where XLA's exp is not exact enough.
  index = np.arange(half, dtype=np.float32)
  frequencies = np.exp(-math.log(max_timescale) * index / (half - 1))
  angles = positions[..., None] * frequencies
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def permuted_sinusoids(
  key: Array, shape: tuple[int, int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "positions emb_dim"]:
  """Initialises a position table: phases drawn per band, channels permuted.

  Each stack draws its own, so that the networks that read their sum or both
  can tell them apart; hence a table is part of a model's weights.
  """
  length, emb_dim = shape
  phase_key, order_key = jax.random.split(key)
  step = np.log(10_000.0) / (emb_dim // 2 - 1)
  frequencies = np.exp(-step * np.arange(emb_dim // 2))
  angles = jnp.asarray(np.arange(length)[:, None] * frequencies, jnp.float32)
  phases = jax.random.uniform(phase_key, (emb_dim,), maxval=2 * np.pi)
  sine_phases, cosine_phases = jnp.split(phases, 2)
  table = jnp.concatenate(
    [jnp.sin(angles + sine_phases), jnp.cos(angles + cosine_phases)], axis=-1
  )
  return jax.random.permutation(order_key, table, axis=1).astype(dtype)


class Positions(nn.Module):
  """A table of position encodings that is saved but never trained."""

  length: int
  emb_dim: int
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, positions: Int[Array, "*batch"]
  ) -> Float[Array, "*batch emb_dim"]:
    table = self.param(
      "embedding", permuted_sinusoids, (self.length, self.emb_dim)
    )
    return lax.stop_gradient(table)[positions].astype(self.dtype)
