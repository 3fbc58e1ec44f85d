import jax
from jax import numpy as jnp
import numpy as np
import optax
import pytest

from music_spectrogram_diffusion.training import optimizers


@pytest.fixture(autouse=True)
def standard_promotion():
  """What Optax counts on."""
  with jax.numpy_dtype_promotion("standard"):
    yield


SCHEDULE = dict(peak=2e-3, num_steps=1000, warmup_steps=100, decay_steps=400)


@pytest.mark.parametrize(
  ("step", "expected"),
  [
    (0, 2e-5),
    (49, 1e-3),
    (99, 2e-3),
    (350, 2e-3),
    (599, 2e-3),
    (799, 2e-3 * (1 + 0.03) / 2),
    (999, 2e-3 * 0.03),
    (5000, 2e-3 * 0.03),
  ],
)
def test_the_learning_rate_rises_stays_and_falls(step, expected):
  rate = optimizers.warm_up_then_decay(**SCHEDULE)
  np.testing.assert_allclose(rate(step), expected, rtol=1e-5)
  np.testing.assert_allclose(rate(jnp.int32(step)), expected, rtol=1e-5)


def test_without_decay_the_learning_rate_stays():
  rate = optimizers.warm_up_then_decay(peak=1.0, num_steps=200)
  assert rate(149) == rate(199) == 1.0


def test_a_short_run_warms_up_to_its_end():
  rate = optimizers.warm_up_then_decay(peak=1.0, num_steps=10, decay_steps=6)
  rates = [rate(0), rate(3), rate(9)]
  np.testing.assert_allclose(rates, [0.25, 1.0, 0.03], rtol=1e-5)


def test_a_decay_that_is_longer_than_the_run_is_an_error():
  with pytest.raises(ValueError, match="num_steps = 10, got 11"):
    optimizers.warm_up_then_decay(peak=1.0, num_steps=10, decay_steps=11)


PARAMETERS = {
  "layer": {"kernel": jnp.full((3, 2), 2.0)},
  "norm": {"scale": jnp.ones(3)},
  "Embed_0": {"embedding": jnp.full((4, 3), 0.5)},
}


def test_weight_decay_applies_to_kernels_alone():
  optimizer = optimizers.adamw(0.1, weight_decay=0.01)
  nothing = jax.tree.map(jnp.zeros_like, PARAMETERS)
  updates, _ = optimizer.update(nothing, optimizer.init(PARAMETERS), PARAMETERS)
  np.testing.assert_allclose(
    updates["layer"]["kernel"], -0.1 * 0.01 * 2.0, rtol=1e-6
  )
  assert not updates["norm"]["scale"].any()
  assert not updates["Embed_0"]["embedding"].any()


def test_adamw_clips_the_norm_of_all_gradients_together():
  # The first two moments of a constant gradient g give m / sqrt(v) = 1
  # whatever its size; a spike after small ones tells whether it was clipped.
  optimizer = optimizers.adamw(1.0, b1=0.0, b2=0.5, clip_norm=1.0)
  parameters = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
  state = optimizer.init(parameters)
  small = {"a": jnp.full(1, 0.6), "b": jnp.full(1, 0.8)}
  spike = jax.tree.map(lambda g: 1000.0 * g, small)
  _, state = optimizer.update(small, state, parameters)
  updates, _ = optimizer.update(spike, state, parameters)
  # Clipped, the spike is the small gradient again.
  np.testing.assert_allclose([updates["a"], updates["b"]], -1.0, rtol=1e-5)


def test_adafactor_s_second_moment_decays_with_power_0_8():
  # Unfactored, because the parameter is small.
  gradients = [1.0, 0.25, 0.5]
  parameter = jnp.full(4, 3.0)
  optimizer = optimizers.adafactor(1e-3)
  state, second_moment = optimizer.init(parameter), 0.0
  for step, gradient in enumerate(gradients, start=1):
    update, state = optimizer.update(jnp.full(4, gradient), state, parameter)
    decay = 1.0 - step**-0.8
    second_moment = decay * second_moment + (1.0 - decay) * gradient**2
    expected = min(1.0, gradient / np.sqrt(second_moment))
    np.testing.assert_allclose(update, -1e-3 * 3.0 * expected, rtol=1e-4)


@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
def test_adafactor_s_steps_are_relative_to_the_size_of_a_parameter(scale):
  parameter = scale * jax.random.normal(jax.random.key(0), (128, 130))
  gradient = jax.random.normal(jax.random.key(1), (128, 1))
  optimizer = optimizers.adafactor(1e-3)
  update, _ = optimizer.update(
    jnp.broadcast_to(gradient, (128, 130)),
    optimizer.init(parameter),
    parameter,
  )

  def rms(x):
    return float(jnp.sqrt(jnp.mean(x**2)))

  # A gradient of rank 1 is factored exactly: every element moves equally far.
  assert rms(update) == pytest.approx(1e-3 * rms(parameter), rel=1e-3)
  np.testing.assert_allclose(
    -jnp.sign(update), jnp.broadcast_to(jnp.sign(gradient), (128, 130))
  )


def test_adafactor_keeps_rows_and_columns_of_large_matrices_only():
  state = optimizers.adafactor().init(jnp.zeros((256, 512)))
  assert sum(leaf.size for leaf in jax.tree.leaves(state)) < 256 * 512 / 100


def test_an_optimizer_takes_a_schedule():
  rate = optimizers.warm_up_then_decay(peak=1.0, num_steps=8, warmup_steps=4)
  optimizer = optimizers.adamw(rate)
  parameters = {"kernel": jnp.zeros((1, 1))}
  state, sizes = optimizer.init(parameters), []
  for _ in range(5):
    updates, state = optimizer.update(
      jax.tree.map(jnp.ones_like, parameters), state, parameters
    )
    parameters = optax.apply_updates(parameters, updates)
    sizes.append(-float(updates["kernel"][0, 0]))
  np.testing.assert_allclose(sizes, [0.25, 0.5, 0.75, 1.0, 1.0], rtol=1e-4)
