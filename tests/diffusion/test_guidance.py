import jax
import jax.numpy as jnp
import numpy as np

from music_spectrogram_diffusion.diffusion import guidance, parameterization


def draw():
  keys = jax.random.split(jax.random.key(0), 3)
  return (jax.random.normal(key, (2, 5, 3)) for key in keys)


def test_weight_1_is_no_guidance_and_0_no_condition():
  conditional, unconditional, _ = draw()
  one = guidance.guided(conditional, unconditional, 1.0)
  zero = guidance.guided(conditional, unconditional, 0.0)
  np.testing.assert_array_equal(one, conditional)
  np.testing.assert_array_equal(zero, unconditional)


def test_weight_2_doubles_the_effect_of_the_condition():
  conditional, unconditional, _ = draw()
  guided = guidance.guided(conditional, unconditional, jnp.array(2.0))
  effect = conditional - unconditional
  np.testing.assert_allclose(guided, unconditional + 2.0 * effect, atol=1e-6)


def test_guiding_eps_or_x0_is_the_same():
  conditional, unconditional, z_t = draw()
  logsnr = jnp.array([-3.0, 2.0])
  eps = guidance.guided(conditional, unconditional, 2.5)
  x0 = guidance.guided(
    parameterization.eps_to_x0(conditional, z_t, logsnr),
    parameterization.eps_to_x0(unconditional, z_t, logsnr),
    2.5,
  )
  expected = parameterization.eps_to_x0(eps, z_t, logsnr)
  np.testing.assert_allclose(x0, expected, rtol=1e-4, atol=1e-4)


def test_only_predictions_in_the_interval_are_guided():
  times = np.asarray([1.0, 0.8, 0.6, 0.2], np.float32)
  assert guidance.weights_at(times, 2.0, (0.3, 0.8125)) == (1.0, 2.0, 2.0, 1.0)
  assert guidance.weights_at(times, 2.0, (0.0, 1.0)) == (2.0,) * 4
