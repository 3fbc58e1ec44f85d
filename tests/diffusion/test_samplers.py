import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion.diffusion import samplers, schedules, spacings

COSINE = schedules.CosineSchedule()
SCHEDULES = [
  COSINE,
  schedules.LinearBetaSchedule(),
  schedules.SquaredCosineSchedule(),
]
STEPS = [
  samplers.ddpm_step,
  samplers.ddim_step,
  samplers.dpm_solver_step,
  samplers.sde_dpm_solver_step,
]

# Compiled as wholes: each operation on its own takes longer than all together.
compiled_sample = jax.jit(
  samplers.sample,
  static_argnames=(
    "denoise",
    "shape",
    "schedule",
    "num_steps",
    "step",
    "clip",
  ),
)
compiled_step = jax.jit(
  lambda step, *arrays, **settings: step(*arrays, **settings),
  static_argnames=("step", "variance"),
)


@functools.cache  # A program for each denoiser: not for each call of this.
def gaussian_denoiser(mean, deviation, schedule):
  """The exact one: the posterior mean of x0 ~ N(mean, deviation²) given z_t."""

  def denoise(z_t, time):
    alpha, sigma = schedules.alpha_sigma(schedule.logsnr(time), z_t.ndim)
    gain = alpha * deviation**2 / ((alpha * deviation) ** 2 + sigma**2)
    return mean + gain * (z_t - alpha * mean)

  return denoise


def draw():
  """x0 and eps [2, 8, 4]."""
  rng = np.random.default_rng(0)
  x0 = rng.uniform(-1.0, 1.0, (2, 8, 4)).astype(np.float32)
  return x0, rng.standard_normal(x0.shape, np.float32)


@jax.jit
def forward(x0, eps, logsnr):
  alpha, sigma = schedules.alpha_sigma(logsnr, x0.ndim)
  return alpha * x0 + sigma * eps


@pytest.mark.parametrize("logsnr_t, logsnr_s", [(-20, -19), (-2, 6), (18, 20)])
def test_ddim_step_with_exact_x0_stays_on_the_forward_process(
  logsnr_t, logsnr_s
):
  x0, eps = draw()
  t, s = np.full((2, 2), [[logsnr_t], [logsnr_s]], np.float32)
  z_t = forward(x0, eps, t)
  z_s = compiled_step(samplers.ddim_step, z_t, x0, logsnr_t=t, logsnr_s=s)
  np.testing.assert_allclose(z_s, forward(x0, eps, s), atol=1e-5)


@pytest.mark.parametrize("logsnr_t, logsnr_s", [(-20, -19), (-2, 6), (18, 20)])
def test_ddpm_step_with_exact_x0_has_the_law_of_the_forward_process(
  logsnr_t, logsnr_s
):
  x0 = np.full((1, 40000), 0.7, np.float32)
  t, s = np.asarray([[logsnr_t], [logsnr_s]], np.float32)
  eps = np.random.default_rng(0).standard_normal(x0.shape, np.float32)
  z_s = np.asarray(
    compiled_step(
      samplers.ddpm_step,
      forward(x0, eps, t),
      x0,
      logsnr_t=t,
      logsnr_s=s,
      key=jax.random.key(1),
      variance=samplers.small_variance,
    )
  )
  alpha, sigma = (1 + np.exp(-s)) ** -0.5, (1 + np.exp(s)) ** -0.5
  error = 4.0 / np.sqrt(z_s.size)
  assert abs(z_s.mean() - 0.7 * alpha[0]) < error * sigma[0] + 1e-6
  assert abs(z_s.std() / sigma[0] - 1.0) < error


@pytest.mark.parametrize("step", STEPS)
def test_step_to_the_same_level_changes_nothing(step):
  x0, eps = draw()
  t = np.asarray([-20.0, 3.0], np.float32)
  z_t = forward(x0, eps, t)
  z_s = compiled_step(
    step,
    z_t,
    x0,
    logsnr_t=t,
    logsnr_s=t,
    key=jax.random.key(0),
    before=samplers.Before(x0 + np.float32(0.1), t - np.float32(1.0)),
  )
  np.testing.assert_allclose(z_s, z_t, atol=1e-5)


@pytest.mark.parametrize("logsnr", [(-20.0, -19.0), (-1.0, 1.0), (19.0, 20.0)])
def test_variances_are_the_posterior_ones_of_a_gaussian_and_of_a_point(logsnr):
  t, s = np.asarray(logsnr)  # float64
  kept = (1 + np.exp(-s)) / (1 + np.exp(-t))  # (alpha_t / alpha_s)²
  sigma2_t, sigma2_s = 1 / (1 + np.exp(t)), 1 / (1 + np.exp(s))
  levels = jnp.array([t]), jnp.array([s])
  large = samplers.large_variance(*levels).item()
  small = samplers.small_variance(*levels).item()
  np.testing.assert_allclose(large, 1 - kept, rtol=1e-5)
  np.testing.assert_allclose(small, (1 - kept) * sigma2_s / sigma2_t, rtol=1e-5)
  middle = samplers.MediumVariance(0.5)(*levels).item()
  np.testing.assert_allclose(middle, np.sqrt(large * small), rtol=1e-5)
  for fraction, end in ((0.0, small), (1.0, large)):
    medium = samplers.MediumVariance(fraction)(*levels).item()
    np.testing.assert_allclose(medium, end, rtol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddpm_of_a_standard_gaussian_is_one_with_few_steps_too(schedule):
  num_steps = 30
  denoise = gaussian_denoiser(0.0, 1.0, schedule)
  x0 = compiled_sample(
    denoise,
    jax.random.key(0),
    (10000, 1),
    schedule=schedule,
    num_steps=num_steps,
    clip=None,
  )
  # The last x0 is a mean, not a draw: its variance is alpha² of the last level.
  logsnr = schedule.logsnr(schedule.times(num_steps)[-2:-1]).item()
  assert abs(np.mean(x0)) < 0.04
  assert abs(np.std(x0) - (1 + math.exp(-logsnr)) ** -0.5) < 0.03


@pytest.mark.parametrize(
  "variance",
  [
    samplers.large_variance,
    samplers.small_variance,
    samplers.MediumVariance(0.5),
  ],
)
def test_ddpm_with_many_steps_has_the_moments_of_the_data(variance):
  x0 = compiled_sample(
    gaussian_denoiser(0.2, 0.3, COSINE),
    jax.random.key(1),
    (8000, 1),
    schedule=COSINE,
    num_steps=250,
    step=functools.partial(samplers.ddpm_step, variance=variance),
    clip=None,
  )
  assert abs(np.mean(x0) - 0.2) < 4 * 0.3 / np.sqrt(8000)
  assert abs(np.std(x0) / 0.3 - 1.0) < 4 / np.sqrt(2 * 8000) + 0.02


def ddim_error(num_steps, schedule):
  """Largest distance of DDIM's x0 from the data's quantile of the noise."""
  mean, deviation = 0.2, 0.3
  initial = np.linspace(-2.0, 2.0, 9, dtype=np.float32)[:, None]
  x0 = compiled_sample(
    gaussian_denoiser(mean, deviation, schedule),
    jax.random.key(0),
    initial.shape,
    schedule=schedule,
    num_steps=num_steps,
    step=samplers.ddim_step,
    clip=None,
    initial=initial,
  )
  logsnr = schedule.logsnr(schedule.times(num_steps)[:1]).item()
  alpha, sigma = (1 + math.exp(-logsnr)) ** -0.5, (1 + math.exp(logsnr)) ** -0.5
  spread = math.hypot(alpha * deviation, sigma)
  quantile = mean + deviation * (initial - alpha * mean) / spread
  return np.abs(x0 - quantile).max()


def test_ddim_maps_noise_to_its_quantile_at_first_order():
  errors = [ddim_error(num_steps, COSINE) for num_steps in (25, 50, 100, 200)]
  ratios = np.divide(errors[:-1], errors[1:])
  np.testing.assert_allclose(ratios, 2.0, atol=0.15)
  assert errors[-1] < 0.01


@functools.partial(jax.jit, static_argnames=("num_steps", "step"))
def solver_error(num_steps, step):
  """Largest distance of the last x0 from the one on the exact trajectory.

  The last prediction is made at a log-SNR of 3, whatever the number of steps.
  """
  mean, deviation, first, last = 0.2, 0.3, -4.0, 3.0
  logsnr = np.linspace(first, last, num_steps)
  times = COSINE.times_at(np.append(logsnr, 20.0)).astype(np.float32)
  initial = jnp.linspace(-2.0, 2.0, 9)[:, None]
  denoise = gaussian_denoiser(mean, deviation, COSINE)
  x0 = samplers.sample(
    denoise,
    jax.random.key(0),
    initial.shape,
    schedule=COSINE,
    times=times,
    step=step,
    clip=None,
    initial=initial,
  )

  def moments(time):
    alpha, sigma = schedules.alpha_sigma(COSINE.logsnr(time[None]), 2)
    return alpha * mean, jnp.sqrt((alpha * deviation) ** 2 + sigma**2)

  (mean_t, spread_t), (mean_s, spread_s) = map(moments, times[[0, -2]])
  z_s = mean_s + spread_s * (initial - mean_t) / spread_t
  return jnp.abs(x0 - denoise(z_s, jnp.full(9, times[-2]))).max()


@pytest.mark.parametrize(
  ("step", "order"),
  [(samplers.ddim_step, 1), (samplers.dpm_solver_step, 2)],
)
def test_the_error_of_a_solver_falls_at_its_order(step, order):
  # Steps are one less than predictions.
  errors = [solver_error(n + 1, step) for n in (16, 32, 64)]
  orders = np.log2(np.divide(errors[:-1], errors[1:]))
  np.testing.assert_allclose(orders, order, atol=0.3)


def test_a_line_of_x0_in_logsnr_is_extrapolated_to_the_middle():
  x0 = np.full((2, 1), 2.0, np.float32)
  middle = jax.jit(samplers.extrapolated)(
    x0,
    logsnr_t=np.ones(2, np.float32),
    logsnr_s=np.full(2, 4.0, np.float32),
    before=samplers.Before(
      x0 - np.float32(0.5), np.asarray([-1.0, 1.0], np.float32)
    ),
  )
  # It rose 0.5 in 2 nats; the second example is its own predecessor.
  np.testing.assert_allclose(middle, [[2.0 + 0.25 * 1.5], [2.0]])


def test_sde_solver_with_few_steps_has_the_moments_of_the_data():
  x0 = compiled_sample(
    gaussian_denoiser(0.2, 0.3, COSINE),
    jax.random.key(1),
    (8000, 1),
    schedule=COSINE,
    times=spacings.uniform_logsnr(COSINE, 30, 0.0),
    step=samplers.sde_dpm_solver_step,
    clip=None,
  )
  assert abs(np.mean(x0) - 0.2) < 4 * 0.3 / np.sqrt(8000)
  assert abs(np.std(x0) / 0.3 - 1.0) < 4 / np.sqrt(2 * 8000) + 0.02


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("step", STEPS)
def test_one_step_is_the_posterior_mean_of_the_data(schedule, step):
  x0 = compiled_sample(
    gaussian_denoiser(0.2, 0.3, schedule),
    jax.random.key(0),
    (4, 3),
    schedule=schedule,
    num_steps=1,
    step=step,
  )
  np.testing.assert_allclose(x0, 0.2, atol=0.01)


def test_the_grid_may_stop_early_and_its_end_does_not_matter():
  def times_seen(z_t, time):
    # Writes each time into its own column; a column not yet visited is 0.
    return z_t.at[:, jnp.round(10 * time[0]).astype(int)].set(time)

  def keep(z_t, x0, **levels):
    return x0

  first = np.linspace(1.0, 0.5, 6, dtype=np.float32)
  results = [
    compiled_sample(
      times_seen,
      jax.random.key(0),
      (2, 11),
      schedule=COSINE,
      times=np.append(first, np.float32(end)),
      step=keep,
      initial=np.zeros((2, 11), np.float32),
    )
    for end in (0.0, 0.3)
  ]
  expected = np.where(np.arange(11) >= 5, np.arange(11) / 10, 0.0)
  np.testing.assert_allclose(results[0], np.tile(expected, (2, 1)), atol=1e-6)
  np.testing.assert_array_equal(*results)


def test_times_of_the_schedule_are_the_default():
  sample = functools.partial(
    samplers.sample,
    gaussian_denoiser(0.2, 0.3, COSINE),
    jax.random.key(0),
    (2, 3),
    schedule=COSINE,
    step=samplers.ddim_step,
  )
  # In one program, that there is no other rounding.
  both = jax.jit(lambda: (sample(times=COSINE.times(7)), sample(num_steps=7)))
  np.testing.assert_array_equal(*both())


def test_noise_of_each_step_is_that_of_the_key_folded_with_its_number():
  key, shape, num_steps = jax.random.key(5), (2, 3), 4
  denoise = gaussian_denoiser(0.2, 0.3, COSINE)
  predict = jax.jit(denoise)
  times = np.tile(COSINE.times(num_steps)[:, None], 2)
  logsnr = np.asarray(jax.jit(COSINE.logsnr)(times))
  z_t = jax.random.normal(jax.random.fold_in(key, 0), shape)
  for i in range(1, num_steps + 1):
    x0 = np.clip(predict(z_t, times[i - 1]), -1.0, 1.0)
    z_t = compiled_step(
      samplers.ddpm_step,
      z_t,
      x0,
      logsnr_t=logsnr[i - 1],
      logsnr_s=logsnr[i],
      key=jax.random.fold_in(key, i),
    )
  sampled = compiled_sample(
    denoise, key, shape, schedule=COSINE, num_steps=num_steps
  )
  np.testing.assert_allclose(sampled, x0, atol=1e-5)


@pytest.mark.parametrize("step", STEPS)
def test_clipping_bounds_x0_at_every_step(step):
  seen = []

  def spy(z_t, x0, **settings):
    jax.debug.callback(lambda value: seen.append(np.abs(value).max()), x0)
    return step(z_t, x0, **settings)

  x0 = compiled_sample(
    lambda z_t, time: 5.0 * z_t,
    jax.random.key(0),
    (2, 3),
    schedule=COSINE,
    num_steps=4,
    step=spy,
    clip=0.5,
  )
  jax.effects_barrier()
  assert len(seen) == 4
  assert max(seen) <= 0.5
  assert np.abs(x0).max() == 0.5


@pytest.mark.parametrize("step", STEPS)
def test_batch_neighbours_do_not_matter(step):
  initial = np.random.default_rng(1).standard_normal((3, 4), np.float32)
  moved = initial.copy()
  moved[1] = 0.0
  sample = functools.partial(
    compiled_sample,
    gaussian_denoiser(0.2, 0.3, COSINE),
    jax.random.key(0),
    (3, 4),
    schedule=COSINE,
    num_steps=5,
    step=step,
  )
  changed = sample(initial=moved)
  unchanged = sample(initial=initial)
  alike = (np.asarray(changed) == np.asarray(unchanged)).all(axis=1)
  np.testing.assert_array_equal(alike, [True, False, True])


@pytest.mark.parametrize("step", STEPS)
def test_with_a_key_each_an_example_is_as_in_a_batch_of_its_own(step):
  keys = jax.random.split(jax.random.key(1), 3)
  sample = functools.partial(
    compiled_sample,
    gaussian_denoiser(0.2, 0.3, COSINE),
    schedule=COSINE,
    num_steps=5,
    step=step,
  )
  together = np.asarray(sample(keys, (3, 4)))
  for own, row in zip(keys, together, strict=True):
    alone = np.asarray(sample(own, (1, 4)))
    np.testing.assert_allclose(alone[0], row, atol=1e-6)


def test_predictions_may_be_made_by_different_functions():
  denoise = gaussian_denoiser(0.2, 0.3, COSINE)
  traced = []

  def named(name):
    def predict(z_t, time):
      traced.append(name)
      return denoise(z_t, time) + float(name == "dear")

    return predict

  cheap, dear = named("cheap"), named("dear")
  shift = np.asarray([0.0, 0.0, 1.0, 1.0, 0.0], np.float32)
  sample = functools.partial(
    compiled_sample,
    key=jax.random.key(0),
    shape=(2, 3),
    schedule=COSINE,
    num_steps=5,
    step=samplers.dpm_solver_step,
    clip=None,
  )
  found = sample((cheap, cheap, dear, dear, cheap))
  # Each run of equal functions is one loop.
  assert [name for name, _ in itertools.groupby(traced)] == [
    "cheap",
    "dear",
    "cheap",
  ]
  expected = sample(
    lambda z_t, time, row: denoise(z_t, time) + row, per_step=shift
  )
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("step", STEPS)
def test_nothing_overflows_from_the_noisiest_to_the_cleanest_level(step):
  def worst(z_t, time):
    return 0.1 * z_t - 3.0

  for schedule in SCHEDULES:
    x0 = compiled_sample(
      worst,
      jax.random.key(0),
      (2, 3),
      schedule=schedule,
      num_steps=20,
      step=step,
    )
    assert np.isfinite(x0).all()


def test_either_num_steps_or_times_is_needed():
  sample = functools.partial(
    samplers.sample,
    gaussian_denoiser(0.2, 0.3, COSINE),
    jax.random.key(0),
    (2, 3),
    schedule=COSINE,
  )
  with pytest.raises(ValueError, match="num_steps or times"):
    sample()
  with pytest.raises(ValueError, match="num_steps or times"):
    sample(num_steps=2, times=COSINE.times(2))
