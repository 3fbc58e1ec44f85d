import jax
from jax import numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion.models import layers

X = jax.random.normal(jax.random.key(0), (2, 5, 8))
CONDITION = jax.random.normal(jax.random.key(1), (2, 3))


def init_and_apply(module, *args, **kwargs):
  variables = module.init(jax.random.key(2), *args, **kwargs)
  return variables["params"], module.apply(variables, *args, **kwargs)


def test_rms_norm_gives_every_position_the_root_mean_square_of_its_scale():
  _, y = init_and_apply(layers.RMSNorm(), 100.0 * X)
  np.testing.assert_allclose(jnp.mean(y**2, axis=-1), 1.0, rtol=1e-5)
  scaled = layers.RMSNorm().apply(
    {"params": {"scale": 2.0 * jnp.ones(8)}}, 100.0 * X
  )
  np.testing.assert_allclose(scaled, 2.0 * y, rtol=1e-6)


def test_rms_norm_keeps_the_mean_and_leaves_zeros_alone():
  _, y = init_and_apply(layers.RMSNorm(), jnp.full((1, 8), 3.0))
  np.testing.assert_allclose(y, 1.0, rtol=1e-6)
  _, y = init_and_apply(layers.RMSNorm(), jnp.zeros((1, 8)))
  np.testing.assert_array_equal(y, 0.0)


def test_dropout_drops_a_channel_at_all_positions_alike():
  y = layers.Dropout(0.5).apply(
    {}, jnp.ones((4, 6, 32)), False, rngs={"dropout": jax.random.key(0)}
  )
  np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
  assert set(np.unique(y)) == {0.0, 2.0}
  assert not (y[0] == y[1]).all()


KEYS = jax.random.normal(jax.random.key(3), (2, 4, 8))


@pytest.fixture(scope="module", params=[False, True], ids=["t5", "scaled"])
def attention(request):
  """A function of keys, mask and bias; its kernels; the scale of its logits."""
  module = layers.Attention(num_heads=2, head_dim=3, scale_logits=request.param)
  variables = module.init(jax.random.key(4), X, KEYS, deterministic=True)
  kernels = {k: v["kernel"] for k, v in variables["params"].items()}

  def attend(keys=KEYS, mask=None, bias=None):
    return module.apply(variables, X, keys, mask, bias, deterministic=True)

  return attend, kernels, 3**-0.5 if request.param else 1.0


def test_attention_is_a_softmax_over_products_of_queries_and_keys(attention):
  attend, kernels, scale = attention

  def heads(x, name):
    return np.reshape(x @ kernels[name], (*x.shape[:2], 2, 3))

  query, key, value = (
    heads(x, name) for x, name in ((X, "query"), (KEYS, "key"), (KEYS, "value"))
  )
  expected = np.zeros((2, 5, 8))
  for head in range(2):
    q, k, v = (x[:, :, head] for x in (query, key, value))
    weights = np.exp(scale * q @ k.transpose(0, 2, 1))
    weights /= weights.sum(-1, keepdims=True)
    expected += weights @ v @ kernels["out"][3 * head : 3 * head + 3]
  np.testing.assert_allclose(attend(), expected, atol=1e-5)


def test_masked_keys_do_not_count(attention):
  attend, _, _ = attention
  mask = jnp.asarray([True, True, False, False])[None, None]
  np.testing.assert_allclose(attend(mask=mask), attend(KEYS[:, :2]), atol=1e-6)


def test_a_query_that_may_attend_to_nothing_yields_zero(attention):
  attend, _, _ = attention
  mask = jnp.broadcast_to(jnp.arange(5)[:, None] != 3, (1, 5, 4))
  y = attend(mask=mask)
  np.testing.assert_array_equal(y[:, 3], 0.0)
  np.testing.assert_allclose(
    np.delete(y, 3, 1), np.delete(attend(), 3, 1), atol=1e-6
  )


def test_the_order_of_keys_does_not_matter(attention):
  attend, _, _ = attention
  np.testing.assert_allclose(attend(KEYS[:, ::-1]), attend(), atol=1e-6)


def test_a_bias_decides_between_keys(attention):
  attend, _, _ = attention
  bias = jnp.zeros((2, 2, 5, 4)).at[..., 1].set(100.0)
  np.testing.assert_allclose(attend(bias=bias), attend(KEYS[:, 1:2]), atol=1e-6)


def test_initial_logits_have_unit_variance_with_either_scale():
  x = jax.random.normal(jax.random.key(5), (1, 64, 64))
  for scale_logits in (False, True):
    module = layers.Attention(
      num_heads=4, head_dim=16, scale_logits=scale_logits
    )
    kernels = module.init(jax.random.key(6), x, x, deterministic=True)["params"]
    query, key = (
      np.reshape(x[0] @ kernels[name]["kernel"], (64, 4, 16))
      for name in ("query", "key")
    )
    logits = np.einsum("qhd,khd->hqk", query, key)
    if scale_logits:
      logits /= 4.0
    assert logits.std() == pytest.approx(1.0, rel=0.2)


def test_the_gated_mlp_is_a_product_of_two_projections():
  parameters, y = init_and_apply(layers.GatedMLP(16), X, deterministic=True)
  w0, w1, wo = (parameters[n]["kernel"] for n in ("wi_0", "wi_1", "wo"))
  h = np.asarray(X @ w0)
  gelu = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
  np.testing.assert_allclose(y, (gelu * (X @ w1)) @ wo, atol=1e-5)


def test_film_scales_and_shifts_all_positions_alike():
  parameters, y = init_and_apply(layers.FiLM(), X, CONDITION)
  scale, shift = jnp.split(
    CONDITION @ parameters["DenseGeneral_0"]["kernel"], 2, axis=-1
  )
  np.testing.assert_allclose(
    y, X * (1 + scale[:, None]) + shift[:, None], atol=1e-6
  )


def test_film_without_condition_is_the_identity():
  _, y = init_and_apply(layers.FiLM(), X, jnp.zeros((2, 3)))
  np.testing.assert_array_equal(y, X)


def test_sinusoids_reach_from_timescale_1_to_the_longest():
  time = jnp.asarray([0.0, 1.0, 300.0])
  encoded = layers.sinusoids(time, 6, max_timescale=100.0)
  angles = np.asarray(time)[:, None] / np.array([1.0, 10.0, 100.0])
  np.testing.assert_allclose(
    encoded, np.concatenate([np.sin(angles), np.cos(angles)], 1), atol=2e-5
  )


def position_table(seed):
  table = layers.permuted_sinusoids(jax.random.key(seed), (64, 8))
  return np.asarray(table, np.float64)


def test_position_tables_hold_two_sinusoids_of_every_band():
  # x[t + 1] + x[t - 1] = 2 cos(frequency) x[t]
  table = position_table(0)
  around, x = table[2:] + table[:-2], table[1:-1]
  cosine = (around * x).sum(0) / (x * x).sum(0) / 2
  np.testing.assert_allclose(around, 2 * cosine * x, atol=1e-4)
  bands = np.exp(-np.log(10_000.0) * np.arange(4) / 3)
  np.testing.assert_allclose(
    np.sort(cosine), np.sort(np.repeat(np.cos(bands), 2)), atol=1e-4
  )


def test_position_tables_have_phases_of_their_own():
  rows = [np.sort(position_table(seed)[5]) for seed in (0, 1)]
  assert np.abs(rows[0] - rows[1]).max() > 0.05


def test_positions_are_rows_of_the_table_and_are_not_trained():
  module = layers.Positions(length=6, emb_dim=4)
  index = jnp.asarray([[5, 0], [2, 2]])
  parameters, rows = init_and_apply(module, index)
  np.testing.assert_array_equal(rows, parameters["embedding"][index])
  gradient = jax.grad(
    lambda p: jnp.sum(module.apply({"params": p}, index) ** 2)
  )(parameters)
  np.testing.assert_array_equal(gradient["embedding"], 0.0)
