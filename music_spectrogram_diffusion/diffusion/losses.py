"""Training objectives: noise an example, compare, average over valid frames.

An objective compares a network's output with the truth element by element:
`objective(parameterization, output, x0, eps, z_t, logsnr)`. Another distance
than its default is bound with `functools.partial`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from music_spectrogram_diffusion.diffusion import schedules
from music_spectrogram_diffusion.diffusion.parameterization import (
  Data,
  LogSNR,
  Output,
  Parameterization,
)
from music_spectrogram_diffusion.diffusion.schedules import Schedule

Distance = Callable[[Array, Array], Array]


def stratified_times(
  key: PRNGKeyArray, batch: int, *, exponent: float = 1.0
) -> Float[Array, " batch"]:
  """Times in [0, 1], one from each `batch`-th of their distribution, shuffled.

  Each time alone is random, but a batch covers all noise levels evenly, which
  lowers the variance of its loss (Kingma et al. 2021,
  https://arxiv.org/abs/2107.00630, appendix I).

  Args:
    key: Draws them.
    batch: How many.
    exponent: Times are powers of numbers uniform in [0, 1]: with 1 they are
      uniform, with 0.5 the density of t is 2 t, with more noise more often.
  """
  key_order, key_place = jax.random.split(key)
  stratum = jax.random.permutation(key_order, jnp.arange(float(batch)))
  uniform = (stratum + jax.random.uniform(key_place, (batch,))) / batch
  return uniform if exponent == 1.0 else uniform**exponent


def noised(
  x0: Float[Array, "batch *dims"],
  time: Float[Array, " batch"],
  eps: Float[Array, "batch *dims"],
  schedule: Schedule,
) -> tuple[Float[Array, "batch *dims"], Float[Array, " batch"]]:
  """The forward process: z_t = alpha * x0 + sigma * eps, and its log-SNR."""
  logsnr = schedule.logsnr(time)
  alpha, sigma = schedules.alpha_sigma(logsnr, x0.ndim)
  return alpha * x0 + sigma * eps, logsnr


def l1(
  predicted: Float[Array, "*shape"], actual: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
  """Absolute error of each element."""
  return jnp.abs(predicted - actual)


def l2(
  predicted: Float[Array, "*shape"], actual: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
  """Squared error of each element."""
  return jnp.square(predicted - actual)


def output_loss(
  parameterization: Parameterization,
  output: Output,
  x0: Data,
  eps: Data,
  z_t: Data,
  logsnr: LogSNR,
  *,
  distance: Distance = l2,
) -> Output:
  """Distance of the output from its target."""
  target = parameterization.target(x0, eps, z_t, logsnr)
  return distance(output, target)


def eps_loss(
  parameterization: Parameterization,
  output: Output,
  x0: Data,
  eps: Data,
  z_t: Data,
  logsnr: LogSNR,
  *,
  distance: Distance = l1,
) -> Data:
  """Distance between predicted and true noise: the paper's objective."""
  del x0
  _, predicted = parameterization.predict(output, z_t, logsnr)
  return distance(predicted, eps)


def x0_loss(
  parameterization: Parameterization,
  output: Output,
  x0: Data,
  eps: Data,
  z_t: Data,
  logsnr: LogSNR,
  *,
  distance: Distance = l1,
) -> Data:
  """Distance between predicted and true clean arrays."""
  del eps
  predicted, _ = parameterization.predict(output, z_t, logsnr)
  return distance(predicted, x0)


def max_loss(
  parameterization: Parameterization,
  output: Output,
  x0: Data,
  eps: Data,
  z_t: Data,
  logsnr: LogSNR,
  *,
  distance: Distance = l1,
) -> Data:
  """The larger of `x0_loss` and `eps_loss`.

  The truncated SNR weighting of Salimans and Ho 2022,
  https://arxiv.org/abs/2202.00512: x0 counts where z_t is mostly noise, eps
  where it is mostly signal.
  """
  x0_hat, eps_hat = parameterization.predict(output, z_t, logsnr)
  return jnp.maximum(distance(x0_hat, x0), distance(eps_hat, eps))


def sum_loss(
  parameterization: Parameterization,
  output: Output,
  x0: Data,
  eps: Data,
  z_t: Data,
  logsnr: LogSNR,
  *,
  distance: Distance = l1,
) -> Data:
  """The sum of `x0_loss` and `eps_loss`.

  With `l2` this is the SNR + 1 weighting of Salimans and Ho 2022,
  https://arxiv.org/abs/2202.00512, the same as an `l2` loss on v.
  """
  x0_hat, eps_hat = parameterization.predict(output, z_t, logsnr)
  return distance(x0_hat, x0) + distance(eps_hat, eps)


def masked_mean(
  values: Float[Array, "batch frames channels"],
  mask: Bool[Array, "batch frames"],
) -> Float[Array, ""]:
  """Mean over the frames where `mask` holds; 0 where it never does."""
  total = jnp.sum(jnp.where(mask[..., None], values, 0.0))
  count = jnp.sum(mask, dtype=values.dtype) * values.shape[-1]
  return total / jnp.maximum(count, 1.0)
