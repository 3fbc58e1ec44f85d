"""The attention of queries to keys, as arrays: one way for each device."""

import jax
from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float

MASKED_LOGIT = -1e10

_BLOCK_LOGITS = 1 << 20
"""Logits that a CPU's cache holds beside what they are made of: 4 MiB."""


def attend(
  query: Float[Array, "batch queries heads head_dim"],
  key: Float[Array, "batch keys heads head_dim"],
  value: Float[Array, "batch keys heads head_dim"],
  mask: Bool[Array, "#batch #queries keys"] | None = None,
  bias: Float[Array, "batch heads queries keys"] | None = None,
  *,
  scale: float = 1.0,
) -> Float[Array, "batch queries heads head_dim"]:
  """Means of values, weighted by the softmax of products with their keys.

  Args:
    query: What asks.
    key: What is compared with it.
    value: What is averaged.
    mask: True where a query may attend to a key; None admits all. A query that
      may attend to nothing yields zero.
    bias: Added to the logits.
    scale: What logits are multiplied with before.

  Returns:
    The means, in the dtype of the values; logits and weights are float32.
  """
  per_example = query.shape[1] * query.shape[2] * key.shape[1]
  query, key, value = (x.swapaxes(1, 2) for x in (query * scale, key, value))
  # Each pass over logits that do not fit into the cache costs a CPU as much
  # as their products; other devices are quicker the more there is at once.
  in_blocks = (
    bias is None
    and per_example > _BLOCK_LOGITS
    and jax.default_backend() == "cpu"
  )
  if in_blocks:
    attended = _by_blocks(query, key, value, mask)
  else:
    if mask is not None:
      admitted = mask_bias(mask)[:, None]
      bias = admitted if bias is None else bias + admitted
    attended = weighted_means(query, key, value, bias)
  attended = attended.swapaxes(1, 2)
  if mask is not None:
    some = mask.any(-1)[..., None, None]
    attended = jnp.where(some, attended, jnp.zeros((), attended.dtype))
  return attended


def mask_bias(mask: Bool[Array, "*shape"]) -> Float[Array, "*shape"]:
  """What a mask adds to logits: nothing, or so much that no weight is left."""
  return jnp.where(mask, jnp.float32(0.0), jnp.float32(MASKED_LOGIT))


def weighted_means(
  query: Float[Array, "*batch queries head_dim"],
  key: Float[Array, "*batch keys head_dim"],
  value: Float[Array, "*batch keys head_dim"],
  bias: Float[Array, "..."] | None = None,
) -> Float[Array, "*batch queries head_dim"]:
  """`attend` in one piece, and in the layout that is multiplied fastest.

  XLA's CPU backend makes one kernel of it: a mask has to be added for that,
  and it is the means that are divided by the sums of weights.

  Args:
    query: What asks.
    key: What is compared with it.
    value: What is averaged.
    bias: Added to the logits, which it can be broadcast to.
  """
  logits = jnp.einsum(
    "...qd,...kd->...qk", query, key, preferred_element_type=jnp.float32
  )
  if bias is not None:
    logits = logits + bias
  largest = lax.stop_gradient(logits.max(-1, keepdims=True))
  weights = jnp.exp(logits - largest)
  sums = jnp.einsum(
    "...qk,...kd->...qd",
    weights.astype(value.dtype),
    value,
    preferred_element_type=jnp.float32,
  )
  return (sums / weights.sum(-1, keepdims=True)).astype(value.dtype)


def _by_blocks(query, key, value, mask):
  """One head's logits of some queries after the other; heads come first.

  The gradient computes them again: they are never kept.
  """
  batch, num_heads, num_queries, head_dim = query.shape
  num_keys = key.shape[2]
  num_blocks = next(
    count
    for count in range(1, num_queries + 1)
    if num_queries % count == 0
    and num_queries // count * num_keys <= _BLOCK_LOGITS
    or count == num_queries
  )
  length = num_queries // num_blocks
  if mask is None:
    mask = jnp.ones((1, 1, num_keys), bool)
  mask = jnp.broadcast_to(mask, (batch, mask.shape[1], num_keys))

  @jax.checkpoint
  def block(query, key, value, mask):
    return weighted_means(query, key, value, mask_bias(mask))

  def example(arrays):
    queries, keys, values, mask = arrays
    if mask.shape[0] > 1:
      masks = mask.reshape(num_blocks, length, num_keys)
    else:
      masks = jnp.broadcast_to(mask, (num_blocks, 1, num_keys))

    def head(arrays):
      queries, key, value = arrays
      attended = lax.map(
        lambda part: block(part[0], key, value, part[1]),
        (queries.reshape(num_blocks, length, head_dim), masks),
      )
      return attended.reshape(num_queries, head_dim)

    return lax.map(head, (queries, keys, values))

  return lax.map(example, (query, key, value, mask))
