import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion.diffusion import schedules

ALL = [
  schedules.CosineSchedule(),
  schedules.LinearBetaSchedule(),
  schedules.SquaredCosineSchedule(),
]


@pytest.mark.parametrize("logsnr", [-20.0, -3.0, 0.0, 3.0, 20.0])
def test_alpha_and_sigma_keep_relative_precision_at_both_ends(logsnr):
  alpha, sigma = schedules.alpha_sigma(jnp.array([logsnr]), 3)
  assert alpha.shape == sigma.shape == (1, 1, 1)
  expected_alpha = (1.0 + math.exp(-logsnr)) ** -0.5
  expected_sigma = (1.0 + math.exp(logsnr)) ** -0.5
  np.testing.assert_allclose(alpha.item(), expected_alpha, rtol=1e-6)
  np.testing.assert_allclose(sigma.item(), expected_sigma, rtol=1e-6)


def test_infinite_logsnr_is_clean():
  alpha, sigma = schedules.alpha_sigma(jnp.array([jnp.inf]), 1)
  assert alpha.item() == 1.0
  assert sigma.item() == 0.0


@pytest.mark.parametrize("schedule", ALL)
def test_logsnr_never_rises_with_time(schedule):
  logsnr = schedule.logsnr(jnp.linspace(0.0, 1.0, 2001))
  assert np.isfinite(logsnr).all()
  assert (np.diff(logsnr) <= 0.0).all()
  assert (np.abs(logsnr) <= 20.0).all()


@pytest.mark.parametrize("schedule", ALL)
def test_logsnr_is_elementwise(schedule):
  time = jax.random.uniform(jax.random.key(0), (3, 4))
  whole = jax.jit(schedule.logsnr)(time)
  single = [schedule.logsnr(t) for t in time.ravel()]
  np.testing.assert_allclose(whole.ravel(), single, rtol=1e-5)


def test_cosine_is_the_tangent_formula_in_float64():
  time = np.linspace(0.0, 1.0, 101).astype(np.float32)
  start = math.atan(math.exp(-10.0))
  span = math.atan(math.exp(10.0)) - start
  expected = -2.0 * np.log(np.tan(span * time.astype(np.float64) + start))
  logsnr = schedules.CosineSchedule().logsnr(jnp.asarray(time))
  np.testing.assert_allclose(logsnr, expected, atol=1e-4)


def test_cosine_reaches_its_bounds_and_is_zero_in_the_middle():
  schedule = schedules.CosineSchedule()
  logsnr = schedule.logsnr(jnp.array([0.0, 0.5, 1.0]))
  np.testing.assert_allclose(logsnr, [20.0, 0.0, -20.0], atol=1e-5)


def test_cosine_bounds_need_not_be_symmetric():
  schedule = schedules.CosineSchedule(logsnr_min=-8.0, logsnr_max=12.0)
  logsnr = schedule.logsnr(jnp.array([0.0, 1.0]))
  np.testing.assert_allclose(logsnr, [12.0, -8.0], atol=1e-5)


def test_linear_betas_by_hand():
  schedule = schedules.LinearBetaSchedule(0.2, 0.6, num_levels=3)
  signal = np.array([0.8, 0.8 * 0.6, 0.8 * 0.6 * 0.4])
  levels = np.log(signal / (1.0 - signal))
  logsnr = schedule.logsnr(jnp.array([0.0, 0.25, 0.5, 1.0]))
  halfway = (levels[0] + levels[1]) / 2
  expected = [levels[0], halfway, levels[1], levels[2]]
  np.testing.assert_allclose(logsnr, expected, rtol=1e-5)


def test_linear_betas_near_their_continuous_limit():
  logsnr = schedules.LinearBetaSchedule().logsnr(jnp.array([0.3, 0.6]))
  time = np.array([0.3, 0.6])
  integral = 0.1 * time + 9.95 * time**2
  np.testing.assert_allclose(logsnr, -np.log(np.expm1(integral)), atol=0.03)


def test_squared_cosine_by_hand():
  def signal(level):  # Telescopes while no beta is capped.
    def f(u):
      return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    return f((level + 1) / 1000) / f(0.0)

  levels = np.array([0, 1, 250, 500, 900, 998])
  expected = [math.log(signal(i) / (1.0 - signal(i))) for i in levels]
  schedule = schedules.SquaredCosineSchedule()
  logsnr = schedule.logsnr(jnp.asarray(levels / 1000, jnp.float32))
  np.testing.assert_allclose(logsnr, expected, rtol=1e-5)
  # The last beta would be 1 and is capped at 0.999.
  last = math.log(signal(998) * 0.001)
  np.testing.assert_allclose(schedule.logsnr(jnp.array(0.999)), last, rtol=1e-5)


def test_squared_cosine_constants():
  logsnr = schedules.SquaredCosineSchedule().logsnr(jnp.array([0.0, 0.999]))
  np.testing.assert_allclose(1.0 / (1.0 + np.exp(logsnr[0])), 4.128e-5, 1e-3)
  np.testing.assert_allclose(1.0 / (1.0 + np.exp(-logsnr[1])), 2.428e-9, 1e-3)


def test_squared_cosine_is_clean_below_its_levels():
  schedule = schedules.SquaredCosineSchedule()
  assert schedule.logsnr(jnp.array(-0.001)) == jnp.inf


def test_squared_cosine_times_of_all_levels_are_exact():
  times = schedules.SquaredCosineSchedule().times(1000)
  expected = (np.arange(999, -2, -1) / 1000).astype(np.float32)
  np.testing.assert_array_equal(times, expected)


def test_squared_cosine_times_of_few_steps_begin_at_the_noisiest_level():
  schedule = schedules.SquaredCosineSchedule()
  times = schedule.times(4)
  np.testing.assert_allclose(times, [0.999, 0.749, 0.499, 0.249, -0.001])
  np.testing.assert_allclose(schedule.times(1), [0.999, -0.001])


def test_continuous_times_are_even_and_exact():
  times = schedules.CosineSchedule().times(1000)
  expected = (np.arange(1000, -1, -1) / 1000).astype(np.float32)
  np.testing.assert_array_equal(times, expected)


@pytest.mark.parametrize("schedule", ALL)
def test_no_steps_is_an_error(schedule):
  with pytest.raises(ValueError, match="got 0"):
    schedule.times(0)


def test_more_steps_than_levels_is_an_error():
  with pytest.raises(ValueError, match="1 to 1000 .* got 1001"):
    schedules.SquaredCosineSchedule().times(1001)
