"""Spacings: at which times a sampler's steps begin.

A spacing is a function `spacing(schedule, num_steps, end_time)` that gives a
falling grid of `num_steps` + 1 times. A prediction is made at each but the
last, to which, or to the clean array, the last step goes.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32
import numpy as np

from music_spectrogram_diffusion.diffusion.schedules import Schedule

Times = Float32[np.ndarray, " levels"]
Spacing = Callable[[Schedule, int, float], Times]

# Table 1 of Karras et al. 2022, https://arxiv.org/abs/2206.00364, of
# sigma / alpha: more noise hides everything, less is not seen.
_MAX_RATIO, _MIN_RATIO, _RHO = 80.0, 0.002, 7.0


def uniform_time(schedule: Schedule, num_steps: int, end_time: float) -> Times:
  """Equal steps of time from 1 to `end_time`: the paper's."""
  return np.float32(end_time) + np.float32(1.0 - end_time) * schedule.times(
    num_steps
  )


def uniform_logsnr(
  schedule: Schedule, num_steps: int, end_time: float
) -> Times:
  """Equal steps of log-SNR, of the noise levels of Karras et al. 2022.

  Lu et al. 2022, https://arxiv.org/abs/2211.01095, for DPM-Solver++.
  """
  first, last = _ratios(schedule, end_time)
  grid = np.linspace(np.log(first), np.log(last), num_steps + 1)
  return _grid(schedule, -2.0 * grid, end_time)


def karras(schedule: Schedule, num_steps: int, end_time: float) -> Times:
  """Equal steps of the seventh root of sigma / alpha.

  Karras et al. 2022, https://arxiv.org/abs/2206.00364, equation 5.
  There the least noise is the last prediction's; here it is the end of the
  grid, as in the other spacings, so that few steps are not spent on it.
  """
  first, last = _ratios(schedule, end_time)
  grid = np.linspace(first ** (1 / _RHO), last ** (1 / _RHO), num_steps + 1)
  return _grid(schedule, -2.0 * _RHO * np.log(grid), end_time)


def _ratios(schedule: Schedule, end_time: float) -> tuple[float, float]:
  """Sigma / alpha of the first time, and of the end of the grid."""
  with jax.ensure_compile_time_eval():
    logsnr = schedule.logsnr(jnp.asarray([1.0, end_time], jnp.float32))
    first, last = np.exp(-0.5 * np.asarray(logsnr, np.float64))
  return min(first, _MAX_RATIO), min(max(last, _MIN_RATIO), first)


def _grid(
  schedule: Schedule, logsnr: Float[np.ndarray, " levels"], end_time: float
) -> Times:
  """Times of all log-SNRs but the last, and the end."""
  schedule.check_num_steps(len(logsnr) - 1)
  times = schedule.times_at(logsnr[:-1])
  # A discrete schedule may have had to go further down.
  return np.append(times, min(end_time, times[-1])).astype(np.float32)
