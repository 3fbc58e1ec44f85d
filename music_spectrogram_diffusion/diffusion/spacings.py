"""Spacings: at which times a sampler's steps begin.

A spacing is a function `spacing(schedule, num_steps, end_time)` that gives a
falling grid of `num_steps` + 1 times. A prediction is made at each but the
last, to which, or to the clean array, the last step goes.
"""

from collections.abc import Callable

import jax
from jaxtyping import Float32
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
  """Equal steps of log-SNR, between the noise levels of Karras et al. 2022.

  Lu et al. 2022, https://arxiv.org/abs/2211.01095, for DPM-Solver++.
  """
  return _even(schedule, num_steps, end_time, np.log, np.exp)


def karras(schedule: Schedule, num_steps: int, end_time: float) -> Times:
  """Equal steps of the seventh root of sigma / alpha.

  Karras et al. 2022, https://arxiv.org/abs/2206.00364, equation 5. There the
  least noise is the last prediction's; here it is the end of the grid, as in
  the other spacings, so that few steps are not spent on it.
  """
  return _even(
    schedule,
    num_steps,
    end_time,
    lambda ratio: ratio ** (1.0 / _RHO),
    lambda root: root**_RHO,
  )


def _even(
  schedule: Schedule,
  num_steps: int,
  end_time: float,
  function: Callable,
  inverse: Callable,
) -> Times:
  """A grid that is even in some function of sigma / alpha."""
  schedule.check_num_steps(num_steps)
  with jax.ensure_compile_time_eval():
    logsnr = schedule.logsnr(np.asarray([1.0, end_time], np.float32))
    ratio = np.exp(-0.5 * np.asarray(logsnr, np.float64))
  first = min(ratio[0], _MAX_RATIO)
  last = min(max(ratio[1], _MIN_RATIO), first)
  grid = np.linspace(function(first), function(last), num_steps + 1)
  times = schedule.times_at(-2.0 * np.log(inverse(grid[:-1])))
  # A discrete schedule may have had to go further down than the end.
  return np.append(times, min(end_time, times[-1])).astype(np.float32)
