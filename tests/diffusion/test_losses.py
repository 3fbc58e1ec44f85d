import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion.diffusion import (
  losses,
  parameterization,
  schedules,
)

LOGSNR = jnp.array([-4.0, 4.0])
OBJECTIVES = [
  losses.output_loss,
  losses.eps_loss,
  losses.x0_loss,
  losses.max_loss,
  losses.sum_loss,
]


def draw():
  """Output, x0, eps and z_t [2, 5, 3], at the log-SNRs of `LOGSNR`."""
  keys = jax.random.split(jax.random.key(0), 3)
  output, x0, eps = (jax.random.normal(key, (2, 5, 3)) for key in keys)
  alpha, sigma = schedules.alpha_sigma(LOGSNR, x0.ndim)
  return output, x0, eps, alpha * x0 + sigma * eps


def test_times_fall_one_in_each_stratum():
  times = losses.stratified_times(jax.random.key(3), 64)
  strata = np.sort(np.floor(np.asarray(times) * 64))
  np.testing.assert_array_equal(strata, np.arange(64))


def test_times_do_not_depend_on_the_place_in_the_batch():
  keys = jax.random.split(jax.random.key(0), 4000)
  times = jax.vmap(lambda key: losses.stratified_times(key, 4))(keys)
  np.testing.assert_allclose(times.mean(axis=0), 0.5, atol=0.02)
  np.testing.assert_allclose(times.var(axis=0), 1 / 12, atol=0.004)


def test_an_exponent_of_a_half_draws_times_in_proportion_to_themselves():
  times = losses.stratified_times(jax.random.key(3), 10_000, exponent=0.5)
  # The share of times below t is t squared.
  for t in (0.2, 0.5, 0.9):
    assert float((times < t).mean()) == pytest.approx(t**2, abs=1e-3)


def test_noise_at_time_0_is_nothing_and_at_time_1_everything():
  _, x0, eps, _ = draw()
  schedule = schedules.CosineSchedule()
  z_t, logsnr = losses.noised(x0, jnp.array([0.0, 1.0]), eps, schedule)
  np.testing.assert_allclose(z_t[0], x0[0], atol=2e-4)
  np.testing.assert_allclose(z_t[1], eps[1], atol=2e-4)
  np.testing.assert_allclose(logsnr, [20.0, -20.0], atol=1e-4)


def test_noising_keeps_unit_variance():
  key_x0, key_eps = jax.random.split(jax.random.key(0))
  x0 = jax.random.normal(key_x0, (5, 20000))
  eps = jax.random.normal(key_eps, x0.shape)
  time = jnp.linspace(0.0, 1.0, 5)
  z_t, _ = losses.noised(x0, time, eps, schedules.CosineSchedule())
  np.testing.assert_allclose(z_t.std(axis=1), 1.0, atol=0.03)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_target_has_no_loss(objective):
  _, x0, eps, z_t = draw()
  kind = parameterization.V()
  output = kind.target(x0, eps, z_t, LOGSNR)
  loss = objective(kind, output, x0, eps, z_t, LOGSNR)
  np.testing.assert_allclose(loss, 0.0, atol=2e-6)


def test_eps_and_x0_losses_differ_by_the_snr():
  output, x0, eps, z_t = draw()
  arguments = (parameterization.Eps(), output, x0, eps, z_t, LOGSNR)
  eps_loss, x0_loss = losses.eps_loss(*arguments), losses.x0_loss(*arguments)
  ratio = jnp.exp(LOGSNR / 2)[:, None, None]
  np.testing.assert_allclose(eps_loss, jnp.abs(output - eps), rtol=1e-6)
  np.testing.assert_allclose(eps_loss, ratio * x0_loss, rtol=1e-3, atol=1e-5)
  maximum, total = losses.max_loss(*arguments), losses.sum_loss(*arguments)
  np.testing.assert_allclose(maximum[0], x0_loss[0], rtol=1e-6)
  np.testing.assert_allclose(maximum[1], eps_loss[1], rtol=1e-6)
  np.testing.assert_allclose(total, eps_loss + x0_loss, rtol=1e-6)


def test_sum_of_squares_is_the_squared_error_of_v():
  output, x0, eps, z_t = draw()
  arguments = (parameterization.V(), output, x0, eps, z_t, LOGSNR)
  squares = losses.sum_loss(*arguments, distance=losses.l2)
  expected = losses.output_loss(*arguments)
  np.testing.assert_allclose(squares, expected, rtol=1e-4, atol=1e-5)


def test_distance_is_bound_with_partial():
  output, x0, eps, z_t = draw()
  squared = functools.partial(losses.eps_loss, distance=losses.l2)
  loss = squared(parameterization.Eps(), output, x0, eps, z_t, LOGSNR)
  np.testing.assert_allclose(loss, jnp.square(output - eps), rtol=1e-6)


def test_masked_mean_ignores_padding_even_if_it_is_nan():
  values = jax.random.normal(jax.random.key(0), (2, 5, 3))
  mask = jnp.array([[True] * 5, [True, True, False, False, False]])
  padded = jnp.where(mask[..., None], values, jnp.nan)
  expected = np.asarray(values)[np.asarray(mask)].mean()
  np.testing.assert_allclose(losses.masked_mean(padded, mask), expected, 1e-6)
  gradient = jax.grad(losses.masked_mean)(padded, mask)
  assert np.isfinite(gradient).all()
  assert (np.asarray(gradient)[~np.asarray(mask)] == 0.0).all()


def test_masked_mean_of_nothing_is_zero():
  values = jnp.ones((2, 5, 3))
  assert losses.masked_mean(values, jnp.zeros((2, 5), bool)) == 0.0
