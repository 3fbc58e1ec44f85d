import jax
import jax.numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion.diffusion import schedules, spacings

COSINE = schedules.CosineSchedule()
DISCRETE = schedules.SquaredCosineSchedule()
ALL = [COSINE, schedules.LinearBetaSchedule(), DISCRETE]
SPACINGS = [spacings.uniform_time, spacings.uniform_logsnr, spacings.karras]


@pytest.mark.parametrize("schedule", ALL)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("num_steps", [1, 7, 1000])
def test_a_grid_falls_from_much_noise_to_its_end(schedule, spacing, num_steps):
  for end_time in (0.0, 0.7):
    times = spacing(schedule, num_steps, end_time)
    assert times.shape == (num_steps + 1,) and times.dtype == np.float32
    assert (np.diff(times[:-1]) < 0.0).all() and times[-1] <= times[-2]
    assert 0.9 < times[0] <= 1.0
    if num_steps == 7:
      np.testing.assert_allclose(times[-1], end_time, atol=2e-3)


def test_uniform_time_with_an_end():
  times = spacings.uniform_time(COSINE, 3, 0.7)
  np.testing.assert_allclose(times, [1.0, 0.9, 0.8, 0.7], rtol=1e-6)


def test_uniform_logsnr_has_equal_steps():
  times = spacings.uniform_logsnr(COSINE, 10, 0.3)
  logsnr = COSINE.logsnr(times)
  first = -2.0 * np.log(80.0)
  expected = np.linspace(first, COSINE.logsnr(jnp.array(0.3)), 11)
  np.testing.assert_allclose(logsnr, expected, atol=1e-3)


def test_karras_by_hand():
  logsnr = COSINE.logsnr(spacings.karras(COSINE, 5, 0.0))
  ratio = np.exp(-0.5 * np.asarray(logsnr))
  root = 80 ** (1 / 7) + np.arange(5) / 5 * (0.002 ** (1 / 7) - 80 ** (1 / 7))
  np.testing.assert_allclose(ratio[:5], root**7, rtol=2e-3)


@pytest.mark.parametrize("schedule", ALL)
def test_times_are_the_inverse_of_log_snr(schedule):
  times = np.asarray([0.999, 0.8, 0.42, 0.1, 0.01], np.float32)
  logsnr = np.asarray(schedule.logsnr(times), np.float64)
  np.testing.assert_allclose(schedule.times_at(logsnr), times, atol=2e-6)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_discrete_schedule_gives_each_level_once(spacing):
  for num_steps in (1, 50, 999, 1000):
    levels = spacing(DISCRETE, num_steps, 0.0)[:-1] * 1000
    np.testing.assert_allclose(levels, levels.round(), atol=1e-3)
    assert len(set(levels.round())) == num_steps
    assert levels.min() > -0.5 and levels.max() < 999.5


@pytest.mark.parametrize("spacing", SPACINGS)
def test_steps_that_cannot_be_are_an_error(spacing):
  for num_steps in (0, -3):
    with pytest.raises(ValueError, match=f"sampling step.*, got {num_steps}"):
      spacing(COSINE, num_steps, 0.0)
  with pytest.raises(ValueError, match="1 to 1000 sampling steps, got 1001"):
    spacing(DISCRETE, 1001, 0.0)


def test_a_grid_can_be_made_while_a_function_is_traced():
  grid = jax.jit(lambda: jnp.asarray(spacings.karras(COSINE, 3, 0.5)))()
  np.testing.assert_array_equal(grid, spacings.karras(COSINE, 3, 0.5))
