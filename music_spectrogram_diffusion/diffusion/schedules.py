"""Noise schedules: how the log-SNR falls as time goes from 0 to 1.

A noisy array is z_t = alpha * x0 + sigma * eps with alpha² + sigma² = 1, and
logsnr = ln(alpha² / sigma²), in nats (Kingma et al. 2021,
https://arxiv.org/abs/2107.00630).
"""

import abc
import dataclasses
import functools
import math

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32
import numpy as np

Time = Float[Array | np.ndarray, "*shape"]


def alpha_sigma(
  logsnr: Float[Array, " batch"], ndim: int
) -> tuple[Float[Array, "batch *ones"], Float[Array, "batch *ones"]]:
  """Signal and noise amplitudes, shaped to broadcast over `ndim` axes.

  Both keep full relative precision where they are small.

  Args:
    logsnr: Log-SNR of each example, in nats.
    ndim: Number of axes of the arrays to be scaled, the batch included.

  Returns:
    Alpha and sigma, of shape [batch, 1, ..., 1].
  """
  logsnr = lax.expand_dims(logsnr, range(1, ndim))
  return jnp.sqrt(jax.nn.sigmoid(logsnr)), jnp.sqrt(jax.nn.sigmoid(-logsnr))


class Schedule(abc.ABC):
  """Log-SNR as a function of time, and the times at which to sample."""

  @abc.abstractmethod
  def logsnr(self, time: Time) -> Float[Array, "*shape"]:
    """Log-SNR at `time`, in nats; never rises with time."""

  @abc.abstractmethod
  def times_at(
    self, logsnr: Float[np.ndarray, " levels"]
  ) -> Float[np.ndarray, " levels"]:
    """Falling times of rising log-SNRs, as near as the schedule has them."""

  def check_num_steps(self, num_steps: int) -> None:
    """Raises ValueError if one cannot sample in so many steps."""
    if num_steps < 1:
      raise ValueError(f"Expected at least 1 sampling step, got {num_steps}.")

  def times(self, num_steps: int) -> Float32[np.ndarray, " levels"]:
    """Times of `num_steps` equal steps and of their end, from 1 to 0."""
    self.check_num_steps(num_steps)
    # By NumPy: XLA divides by multiplying with an inexact reciprocal.
    return (np.arange(num_steps, -1, -1) / num_steps).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class CosineSchedule(Schedule):
  """Log-SNR of -2 ln tan(a t + b), the paper's schedule.

  Nichol and Dhariwal 2021, https://arxiv.org/abs/2102.09672, as a continuous
  function between two bounds (Salimans and Ho 2022,
  https://arxiv.org/abs/2202.00512).

  Attributes:
    logsnr_min: Log-SNR at time 1, in nats.
    logsnr_max: Log-SNR at time 0, in nats.
  """

  logsnr_min: float = -20.0
  logsnr_max: float = 20.0

  def logsnr(self, time: Time) -> Float[Array, "*shape"]:
    """Log-SNR at `time` in [0, 1]; exactly the bounds at both ends."""
    # The cosine of the angle is written as the sine of its complement: near
    # time 1 float32 does not resolve how far the angle is from pi / 2.
    first = math.atan(math.exp(-0.5 * self.logsnr_max))
    last = math.atan(math.exp(0.5 * self.logsnr_min))
    span = 0.5 * math.pi - first - last
    cosine = jnp.sin(span * (1.0 - time) + last)
    sine = jnp.sin(span * time + first)
    return 2.0 * (jnp.log(cosine) - jnp.log(sine))

  def times_at(
    self, logsnr: Float[np.ndarray, " levels"]
  ) -> Float[np.ndarray, " levels"]:
    """The inverse of `logsnr`, in float64; 0 and 1 beyond its bounds."""
    first = math.atan(math.exp(-0.5 * self.logsnr_max))
    last = math.atan(math.exp(0.5 * self.logsnr_min))
    angle = np.arctan(np.exp(-0.5 * np.asarray(logsnr, np.float64)))
    return np.clip((angle - first) / (0.5 * math.pi - first - last), 0.0, 1.0)


def _betas_to_logsnr(
  betas: Float[np.ndarray, " levels"],
) -> Float[np.ndarray, " levels"]:
  """Log-SNR of each level when level i removes betas[i] of the signal."""
  signal = np.cumprod(1.0 - betas)  # alpha²
  return np.log(signal) - np.log1p(-signal)


@dataclasses.dataclass(frozen=True)
class LinearBetaSchedule(Schedule):
  """Betas that grow linearly, their log-SNR interpolated over time.

  Ho et al. 2020, https://arxiv.org/abs/2006.11239, with the first level at
  time 0 and the last one at time 1.

  Attributes:
    first_beta: Beta of the least noisy level.
    last_beta: Beta of the noisiest level.
    num_levels: Number of noise levels.
    logsnr_min: Floor of the log-SNR, in nats.
    logsnr_max: Cap of the log-SNR, in nats.
  """

  first_beta: float = 1e-4
  last_beta: float = 0.02
  num_levels: int = 1000
  logsnr_min: float = -20.0
  logsnr_max: float = 20.0

  @functools.cached_property
  def _logsnr_table(self) -> Float[np.ndarray, " levels"]:
    betas = np.linspace(self.first_beta, self.last_beta, self.num_levels)
    table = _betas_to_logsnr(betas)
    return np.clip(table, self.logsnr_min, self.logsnr_max).astype(np.float32)

  def logsnr(self, time: Time) -> Float[Array, "*shape"]:
    """Log-SNR at `time` in [0, 1]."""
    level = time * (self.num_levels - 1)
    levels = jnp.arange(float(self.num_levels))
    return jnp.interp(level, levels, jnp.asarray(self._logsnr_table))

  def times_at(
    self, logsnr: Float[np.ndarray, " levels"]
  ) -> Float[np.ndarray, " levels"]:
    """The inverse of `logsnr`; 0 and 1 beyond its bounds."""
    levels = np.linspace(0.0, 1.0, self.num_levels)
    return np.interp(-logsnr, -self._logsnr_table, levels)


@dataclasses.dataclass(frozen=True)
class SquaredCosineSchedule(Schedule):
  """The discrete schedule of diffusers, `squaredcos_cap_v2`.

  Level i of `num_levels` has the time i / num_levels, so the noisiest one has
  0.999 and the least noisy one 0. Below it lies the clean level, at
  -1 / num_levels. Nichol and Dhariwal 2021, https://arxiv.org/abs/2102.09672.

  Attributes:
    num_levels: Number of noise levels.
    offset: Shift of the cosine, which keeps the first beta from vanishing.
    max_beta: Cap of the betas.
  """

  num_levels: int = 1000
  offset: float = 0.008
  max_beta: float = 0.999

  @functools.cached_property
  def _logsnr_table(self) -> Float[np.ndarray, " levels"]:
    """Log-SNR of the clean level, then of levels 0 to num_levels - 1."""
    progress = np.arange(self.num_levels + 1) / self.num_levels
    angle = (progress + self.offset) / (1.0 + self.offset) * np.pi / 2
    squared_cosine = np.cos(angle) ** 2
    betas = 1.0 - squared_cosine[1:] / squared_cosine[:-1]
    logsnr = _betas_to_logsnr(np.minimum(betas, self.max_beta))
    return np.append(np.inf, logsnr).astype(np.float32)

  def logsnr(self, time: Time) -> Float[Array, "*shape"]:
    """Log-SNR of the level nearest to `time`; infinite at the clean level."""
    level = jnp.round(time * self.num_levels).astype(jnp.int32)
    row = jnp.clip(level + 1, 0, self.num_levels)
    return jnp.asarray(self._logsnr_table)[row]

  def times_at(
    self, logsnr: Float[np.ndarray, " levels"]
  ) -> Float[np.ndarray, " levels"]:
    """Times of the nearest levels, none of them twice."""
    num_steps, noisiest = len(logsnr), self.num_levels - 1
    self.check_num_steps(num_steps)
    table = self._logsnr_table[1:].astype(np.float64)
    order = np.arange(num_steps)
    # Rounded, in falling order; then pushed apart, down and from the clean end.
    levels = np.rint(np.interp(-logsnr, -table, np.arange(self.num_levels)))
    levels = np.minimum.accumulate(np.minimum(levels, noisiest) + order) - order
    levels = np.maximum(levels, num_steps - 1 - order)
    return levels / self.num_levels

  def check_num_steps(self, num_steps: int) -> None:
    """Raises ValueError if one cannot sample in so many steps."""
    if not 1 <= num_steps <= self.num_levels:
      raise ValueError(
        f"Expected 1 to {self.num_levels} sampling steps, got {num_steps}."
      )

  def times(self, num_steps: int) -> Float32[np.ndarray, " levels"]:
    """`num_steps` evenly spaced levels from the noisiest, then the clean one.

    The spacing that diffusers calls "trailing". Its default, "leading", is the
    same for `num_levels` steps, but with fewer begins below the noisiest level,
    which biases samples (Lin et al. 2023, https://arxiv.org/abs/2305.08891).
    """
    self.check_num_steps(num_steps)
    levels = np.linspace(self.num_levels, 0, num_steps + 1).round() - 1
    return (levels / self.num_levels).astype(np.float32)
