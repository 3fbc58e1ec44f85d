import jax
from jax import numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion.models import attention

BATCH, QUERIES, KEYS, HEADS, HEAD_DIM = 2, 6, 10, 3, 4


@pytest.fixture(scope="module")
def arrays():
  rng = np.random.default_rng(0)

  def draw(length):
    shape = (BATCH, length, HEADS, HEAD_DIM)
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  return draw(QUERIES), draw(KEYS), draw(KEYS)


def by_hand(query, key, value, mask, scale):
  """One query after the other, in float64."""
  query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
  mask = np.broadcast_to(mask, (BATCH, QUERIES, KEYS))
  result = np.zeros((BATCH, QUERIES, HEADS, HEAD_DIM))
  for b, q, h in np.ndindex(BATCH, QUERIES, HEADS):
    admitted = mask[b, q]
    if admitted.any():
      logits = scale * key[b, admitted, h] @ query[b, q, h]
      weights = np.exp(logits - logits.max())
      weights /= weights.sum()
      result[b, q, h] = weights @ value[b, admitted, h]
  return result


RNG = np.random.default_rng(1)
MASKS = {
  "none": None,
  "keys": RNG.random((BATCH, 1, KEYS)) < 0.5,
  "pairs": RNG.random((BATCH, QUERIES, KEYS)) < 0.2,
  "causal": (np.arange(KEYS) <= np.arange(QUERIES)[:, None])[None],
  "nothing": np.zeros((BATCH, 1, KEYS), bool),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("block_logits", [1 << 20, 2 * KEYS])
def test_attention_is_its_definition_in_blocks_and_at_once(
  arrays, name, block_logits, monkeypatch
):
  monkeypatch.setattr(attention, "_BLOCK_LOGITS", block_logits)
  mask = MASKS[name]
  expected = by_hand(*arrays, True if mask is None else mask, 0.7)
  mask = None if mask is None else jnp.asarray(mask)
  found = attention.attend(*arrays, mask, scale=0.7)
  np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["keys", "pairs"])
def test_gradients_do_not_depend_on_blocks(arrays, name, monkeypatch):
  mask = jnp.asarray(MASKS[name])

  def gradients():
    def total(arrays):
      return jnp.sum(jnp.sin(attention.attend(*arrays, mask)))

    return jax.jit(jax.grad(total))(arrays)

  at_once = gradients()
  monkeypatch.setattr(attention, "_BLOCK_LOGITS", 3 * KEYS)
  for found, expected in zip(gradients(), at_once, strict=True):
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_logits_in_blocks_are_never_kept(monkeypatch):
  monkeypatch.setattr(attention, "_BLOCK_LOGITS", 4 * 256)
  long = jnp.zeros((1, 256, 2, 4))
  _, backward = jax.eval_shape(
    lambda *arrays: jax.vjp(attention.attend, *arrays), long, long, long
  )
  sizes = [leaf.size for leaf in jax.tree.leaves(backward)]
  assert max(sizes) < 256 * 256
