import jax
import jax.numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion.diffusion import parameterization, schedules

LOGSNR = jnp.array([-20.0, -6.0, 0.0, 6.0, 20.0])
MEAN = np.array([-0.6, 0.0, 0.3], np.float32)
DEVIATION = np.array([0.05, 0.2, 1.0], np.float32)
EDM = parameterization.EDM(MEAN, DEVIATION)
STANDARDIZED = parameterization.StandardizedX0(MEAN, DEVIATION)
ALL = [
  parameterization.Eps(),
  parameterization.X0(),
  parameterization.V(),
  parameterization.X0AndEps(),
  EDM,
  STANDARDIZED,
]
# These never divide by a small alpha or sigma.
STABLE = [parameterization.V(), parameterization.X0AndEps(), EDM]


def draw(seed=0):
  """x0, eps and z_t [5, 7, 3], one log-SNR of `LOGSNR` per example."""
  key_x0, key_eps = jax.random.split(jax.random.key(seed))
  x0 = jax.random.uniform(key_x0, (5, 7, 3), minval=-1.0)
  eps = jax.random.normal(key_eps, x0.shape)
  alpha, sigma = schedules.alpha_sigma(LOGSNR, x0.ndim)
  return x0, eps, alpha * x0 + sigma * eps


@pytest.mark.parametrize("kind", STABLE)
def test_round_trip_is_exact_at_every_logsnr(kind):
  x0, eps, z_t = draw()
  output = kind.target(x0, eps, z_t, LOGSNR)
  x0_hat, eps_hat = kind.predict(output, z_t, LOGSNR)
  np.testing.assert_allclose(x0_hat, x0, atol=3e-6)
  np.testing.assert_allclose(eps_hat, eps, atol=3e-6)


@pytest.mark.parametrize("kind", [ALL[0], ALL[1], STANDARDIZED])
def test_round_trip_of_eps_and_x0_is_exact_up_to_amplified_rounding(kind):
  x0, eps, z_t = draw()
  output = kind.target(x0, eps, z_t, LOGSNR)
  x0_hat, eps_hat = kind.predict(output, z_t, LOGSNR)
  np.testing.assert_allclose(x0_hat, x0, atol=22026 * 3e-7)
  np.testing.assert_allclose(eps_hat, eps, atol=22026 * 3e-7)
  middle = slice(1, 4)
  np.testing.assert_allclose(x0_hat[middle], x0[middle], atol=1e-5)
  np.testing.assert_allclose(eps_hat[middle], eps[middle], atol=1e-5)


@pytest.mark.parametrize("kind", ALL)
def test_predictions_of_any_output_add_up_to_z_t(kind):
  _, _, z_t = draw()
  shape = (5, 7, 3 * kind.num_outputs)
  output = jax.random.normal(jax.random.key(1), shape)
  x0, eps = kind.predict(output, z_t, LOGSNR)
  alpha, sigma = schedules.alpha_sigma(LOGSNR, z_t.ndim)
  np.testing.assert_allclose(alpha * x0 + sigma * eps, z_t, atol=2e-6)


@pytest.mark.parametrize("kind", ALL)
def test_target_has_the_channels_of_the_output(kind):
  x0, eps, z_t = draw()
  target = kind.target(x0, eps, z_t, LOGSNR)
  assert target.shape == (5, 7, 3 * kind.num_outputs)
  assert target.dtype == jnp.float32


def test_v_converts_to_x0_and_eps():
  x0, eps, z_t = draw()
  v = parameterization.x0_eps_to_v(x0, eps, LOGSNR)
  x0_hat = parameterization.v_to_x0(v, z_t, LOGSNR)
  eps_hat = parameterization.v_to_eps(v, z_t, LOGSNR)
  np.testing.assert_allclose(x0_hat, x0, atol=1e-6)
  np.testing.assert_allclose(eps_hat, eps, atol=1e-6)


def test_x0_and_eps_trusts_each_half_where_it_is_the_better_one():
  kind = parameterization.X0AndEps()
  x0, eps, z_t = draw()
  wrong = jnp.ones_like(x0)
  only_x0 = jnp.concatenate([x0, eps + wrong], axis=-1)
  only_eps = jnp.concatenate([x0 + wrong, eps], axis=-1)
  noisiest, cleanest = 0, -1
  x0_hat, _ = kind.predict(only_x0, z_t, LOGSNR)
  np.testing.assert_allclose(x0_hat[noisiest], x0[noisiest], atol=1e-4)
  _, eps_hat = kind.predict(only_eps, z_t, LOGSNR)
  np.testing.assert_allclose(eps_hat[cleanest], eps[cleanest], atol=1e-4)


def test_edm_is_the_formula_of_karras():
  _, _, z_t = draw()
  output = np.asarray(jax.random.normal(jax.random.key(1), z_t.shape))
  logsnr = np.asarray(LOGSNR, np.float64)[:, None, None]
  alpha2, sigma2 = 1 / (1 + np.exp(-logsnr)), 1 / (1 + np.exp(logsnr))
  alpha, mean, s = np.sqrt(alpha2), MEAN, DEVIATION.astype(np.float64)
  total = alpha2 * s**2 + sigma2
  rest = np.asarray(z_t) - alpha * mean
  c_skip, c_out = alpha * s**2 / total, s * np.sqrt(sigma2 / total)
  expected = mean + c_skip * rest + c_out * output
  x0, _ = EDM.predict(jnp.asarray(output), z_t, LOGSNR)
  np.testing.assert_allclose(x0, expected, atol=1e-6)
  np.testing.assert_allclose(
    EDM.network_input(z_t, LOGSNR), rest / np.sqrt(total), atol=1e-5
  )


def test_edm_input_and_target_have_unit_variance_at_every_logsnr():
  key_x0, key_eps = jax.random.split(jax.random.key(0))
  shape = (5, 20000, 3)
  x0 = MEAN + DEVIATION * jax.random.normal(key_x0, shape)
  eps = jax.random.normal(key_eps, shape)
  alpha, sigma = schedules.alpha_sigma(LOGSNR, 3)
  z_t = alpha * x0 + sigma * eps
  network_input = EDM.network_input(z_t, LOGSNR)
  target = EDM.target(x0, eps, z_t, LOGSNR)
  for values in (network_input, target):
    np.testing.assert_allclose(values.mean(axis=1), 0.0, atol=0.04)
    np.testing.assert_allclose(values.std(axis=1), 1.0, atol=0.03)
  # What the input already tells is not asked for again.
  covariance = jnp.mean(network_input * target, axis=1)
  np.testing.assert_allclose(covariance, 0.0, atol=0.04)


def test_edm_with_zero_mean_and_unit_deviation_is_minus_v():
  unit = parameterization.EDM(np.zeros(3, np.float32), np.ones(3, np.float32))
  x0, eps, z_t = draw()
  target = unit.target(x0, eps, z_t, LOGSNR)
  v = parameterization.V().target(x0, eps, z_t, LOGSNR)
  np.testing.assert_allclose(target, -v, atol=1e-6)
  np.testing.assert_allclose(unit.network_input(z_t, LOGSNR), z_t, atol=1e-6)


def test_a_standardized_x0_of_nothing_is_the_mean_at_every_logsnr():
  _, _, z_t = draw()
  x0, _ = STANDARDIZED.predict(jnp.zeros_like(z_t), z_t, LOGSNR)
  np.testing.assert_allclose(x0, np.broadcast_to(MEAN, x0.shape))


def test_a_standardized_x0_has_the_input_and_at_all_noise_the_x0_of_edm():
  _, _, z_t = draw()
  np.testing.assert_array_equal(
    STANDARDIZED.network_input(z_t, LOGSNR), EDM.network_input(z_t, LOGSNR)
  )
  noise = jnp.full(5, -40.0)
  output = jax.random.normal(jax.random.key(1), z_t.shape)
  np.testing.assert_allclose(
    STANDARDIZED.predict(output, z_t, noise)[0],
    EDM.predict(output, z_t, noise)[0],
    atol=1e-6,
  )
