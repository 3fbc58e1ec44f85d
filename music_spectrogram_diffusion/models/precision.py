"""Which denoising steps low precision would spoil."""

import jax
from jax import numpy as jnp
from jaxtyping import Bool, Float
import numpy as np

from music_spectrogram_diffusion import diffusion

MAX_GAIN = 8.0
"""How many times an output's error x0's may be, where products are rounded."""


def needs_float32(
  times: Float[np.ndarray, " steps"],
  *,
  dtype: str,
  schedule: diffusion.schedules.Schedule,
  parameterization: diffusion.parameterization.Parameterization,
  n_mels: int,
) -> Bool[np.ndarray, " steps"]:
  """Whether products at these noise times have to be in full float32.

  That is so where x0 is an output's error times more than `MAX_GAIN`: if the
  output is eps, at much noise, where x0 is a small difference of large numbers.

  Args:
    times: Noise times.
    dtype: What products are in otherwise. On other devices than CPUs, float32
      is rounded as well, unless more is asked for.
    schedule: Log-SNR over time.
    parameterization: What outputs mean.
    n_mels: Channels of x0.
  """
  if dtype == "float32" and jax.default_backend() == "cpu":
    return np.zeros(len(times), bool)  # They are.
  shape = (len(times), 1, n_mels)
  # Whatever it means, x0 is linear in the output.
  with jax.ensure_compile_time_eval():
    logsnr = schedule.logsnr(jnp.asarray(times))
    ones = jnp.ones((*shape[:2], parameterization.num_outputs * n_mels))
    one, zero = (
      parameterization.predict(output, jnp.zeros(shape), logsnr)[0]
      for output in (ones, jnp.zeros_like(ones))
    )
    return np.asarray(jnp.abs(one - zero).max((1, 2))) > MAX_GAIN
