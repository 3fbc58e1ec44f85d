from flax import linen as nn
import jax
from jax import numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion.models import rematerialization

NUM_LAYERS = 6


class Layer(nn.Module):
  @nn.compact
  def __call__(self, x, mask, deterministic):
    hidden = nn.gelu(nn.Dense(8 * x.shape[-1])(x))
    hidden = nn.Dropout(0.5)(hidden, deterministic=deterministic)
    return x + jnp.where(mask, nn.Dense(x.shape[-1])(hidden), 0.0)


class Stack(nn.Module):
  remat: bool

  @nn.compact
  def __call__(self, x, mask, deterministic=False):
    layer = rematerialization.rematerialized(Layer, self.remat)
    for i in range(NUM_LAYERS):
      x = layer(name=f"layers_{i}")(x, mask, deterministic)
    return x


@pytest.fixture(scope="module")
def optimized():
  """Compiles as a user would; what a compiler removes is the matter here."""
  before = jax.config.read("jax_disable_most_optimizations")
  jax.config.update("jax_disable_most_optimizations", False)
  yield
  jax.config.update("jax_disable_most_optimizations", before)


def compiled(remat):
  """The gradient's program, and what it is a gradient of."""
  x = jnp.linspace(-1.0, 1.0, 64 * 16).reshape(64, 16)
  mask = jnp.arange(64)[:, None] % 5 > 0
  parameters = Stack(remat=False).init(jax.random.key(0), x, mask, True)

  def loss(parameters, x):
    rngs = {"dropout": jax.random.key(1)}
    return jnp.sum(Stack(remat).apply(parameters, x, mask, rngs=rngs) ** 2)

  gradient = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(parameters, x)
  return gradient.compile(), (parameters, x)


@pytest.fixture(scope="module")
def plain(optimized):
  return compiled(remat=False)


@pytest.fixture(scope="module")
def again(optimized):
  return compiled(remat=True)


def test_gradients_are_the_same_with_the_same_dropped(plain, again):
  results = [program(*arguments) for program, arguments in (plain, again)]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
    *results,
  )


def test_the_compiled_gradient_needs_less_than_half_of_the_memory(plain, again):
  kept, computed = (
    program.memory_analysis().temp_size_in_bytes
    for program, _ in (plain, again)
  )
  assert computed < 0.5 * kept


def test_the_compiled_gradient_does_compute_again(plain, again):
  once, twice = (
    program.cost_analysis()["flops"] for program, _ in (plain, again)
  )
  assert twice > 1.1 * once


def test_a_gradient_that_is_not_a_number_stays_so(again):
  program, (parameters, x) = again
  found, _ = program(parameters, x.at[0, 0].set(jnp.nan))
  kernel = found["params"]["layers_0"]["Dense_0"]["kernel"]
  assert np.isnan(kernel).any()
