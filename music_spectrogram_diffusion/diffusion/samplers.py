"""Samplers: from noise to a clean array, one noise level at a time.

A step is a function `step(z_t, x0, *, logsnr_t, logsnr_s, key, before)` that
moves z_t to the lower noise level s; its other settings are bound with
`functools.partial`, as in `partial(ddpm_step, variance=small_variance)`.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import itertools
import operator
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key
import numpy as np

from music_spectrogram_diffusion.diffusion import schedules

Keys = Key[Array, ""] | Key[Array, " batch"]
Denoise = Callable[..., Array]
Step = Callable[..., Array]
Variance = Callable[[Array, Array], Array]


class Before(NamedTuple):
  """What a step is told of the one before it; of itself where it is the first.

  Attributes:
    x0: Clean array that was predicted there.
    logsnr: Log-SNR of the noisy array there, in nats.
  """

  x0: Float[Array, "batch *dims"]
  logsnr: Float[Array, " batch"]


def noise(key: Keys, shape: tuple[int, ...]) -> Float[Array, "batch *dims"]:
  """Gaussian noise of a batch.

  Args:
    key: One key for all of it; or one for each example, whose noise does not
      depend then on its place in the batch, and is that of a batch of its own.
    shape: Shape of the noise, the batch first.
  """
  if key.ndim == 0:
    return jax.random.normal(key, shape)
  return jax.vmap(lambda own: jax.random.normal(own, shape[1:]))(key)


def fold_in(key: Keys, number: Int[Array, ""] | int) -> Keys:
  """`jax.random.fold_in` of each key."""
  if key.ndim == 0:
    return jax.random.fold_in(key, number)
  return jax.vmap(lambda own: jax.random.fold_in(own, number))(key)


def large_variance(
  logsnr_t: Float[Array, " batch"], logsnr_s: Float[Array, " batch"]
) -> Float[Array, " batch"]:
  """Variance of z_s given z_t, exact where x0 is standard Gaussian."""
  return -jnp.expm1(logsnr_t - logsnr_s) * jax.nn.sigmoid(-logsnr_t)


def small_variance(
  logsnr_t: Float[Array, " batch"], logsnr_s: Float[Array, " batch"]
) -> Float[Array, " batch"]:
  """Variance of z_s given z_t, exact where x0 is a single point."""
  return -jnp.expm1(logsnr_t - logsnr_s) * jax.nn.sigmoid(-logsnr_s)


@dataclasses.dataclass(frozen=True)
class MediumVariance:
  """Between the small and the large variance, on a logarithmic scale.

  Attributes:
    fraction: 0 is the small variance, 1 the large one.
  """

  fraction: float

  def __call__(
    self, logsnr_t: Float[Array, " batch"], logsnr_s: Float[Array, " batch"]
  ) -> Float[Array, " batch"]:
    large = large_variance(logsnr_t, logsnr_s)
    small = small_variance(logsnr_t, logsnr_s)
    return large**self.fraction * small ** (1.0 - self.fraction)


def ddpm_step(
  z_t: Float[Array, "batch *dims"],
  x0: Float[Array, "batch *dims"],
  *,
  logsnr_t: Float[Array, " batch"],
  logsnr_s: Float[Array, " batch"],
  key: Keys,
  before: Before | None = None,
  variance: Variance = large_variance,
) -> Float[Array, "batch *dims"]:
  """Draws the array at the lower noise level `logsnr_s`, given `z_t` and `x0`.

  Ho et al. 2020, https://arxiv.org/abs/2006.11239, eq. 6 and 7.

  Args:
    z_t: Noisy array.
    x0: Clean array predicted from `z_t`.
    logsnr_t: Log-SNR of `z_t`, in nats.
    logsnr_s: Log-SNR to reach, at least `logsnr_t`.
    key: Key of the fresh `noise`, or one for each example.
    before: Not used; accepted because every step is given it.
    variance: Variance of that noise, a function of `logsnr_t` and `logsnr_s`.

  Returns:
    The array at `logsnr_s`; `z_t` itself when both levels are equal.
  """
  del before
  alpha_t, _ = schedules.alpha_sigma(logsnr_t, z_t.ndim)
  alpha_s, _ = schedules.alpha_sigma(logsnr_s, z_t.ndim)
  axes = range(1, z_t.ndim)
  log_ratio = lax.expand_dims(logsnr_t - logsnr_s, axes)
  kept = jnp.exp(log_ratio) * alpha_s / alpha_t
  mean = kept * z_t - jnp.expm1(log_ratio) * alpha_s * x0
  deviation = jnp.sqrt(lax.expand_dims(variance(logsnr_t, logsnr_s), axes))
  return mean + deviation * noise(key, z_t.shape)


def ddim_step(
  z_t: Float[Array, "batch *dims"],
  x0: Float[Array, "batch *dims"],
  *,
  logsnr_t: Float[Array, " batch"],
  logsnr_s: Float[Array, " batch"],
  key: Keys | None = None,
  before: Before | None = None,
) -> Float[Array, "batch *dims"]:
  """Moves `z_t` to the lower noise level `logsnr_s`, adding no fresh noise.

  Song et al. 2021, https://arxiv.org/abs/2010.02502, eq. 12 with sigma = 0.

  Args:
    z_t: Noisy array.
    x0: Clean array predicted from `z_t`.
    logsnr_t: Log-SNR of `z_t`, in nats.
    logsnr_s: Log-SNR to reach, at least `logsnr_t`.
    key: Not used; accepted because every step is given one.
    before: Likewise.

  Returns:
    The array at `logsnr_s`; `z_t` itself when both levels are equal.
  """
  del key, before
  alpha_t, sigma_t = schedules.alpha_sigma(logsnr_t, z_t.ndim)
  alpha_s, sigma_s = schedules.alpha_sigma(logsnr_s, z_t.ndim)
  eps = (z_t - alpha_t * x0) / sigma_t
  return alpha_s * x0 + sigma_s * eps


def extrapolated(
  x0: Float[Array, "batch *dims"],
  *,
  logsnr_t: Float[Array, " batch"],
  logsnr_s: Float[Array, " batch"],
  before: Before,
) -> Float[Array, "batch *dims"]:
  """x0 in the middle between t and s, on the line through the last two.

  The linear multistep of DPM-Solver++ (2M): Lu et al. 2022,
  https://arxiv.org/abs/2211.01095, algorithm 2, in log-SNR time. A first-order
  step with it in place of x0 is of second order. x0 itself where there is
  nothing before, and towards an infinite log-SNR.
  """
  ahead, past = logsnr_s - logsnr_t, logsnr_t - before.logsnr
  known = (past > 0.0) & jnp.isfinite(ahead)
  share = jnp.where(known, ahead, 0.0) / jnp.where(known, 2.0 * past, 1.0)
  return x0 + lax.expand_dims(share, range(1, x0.ndim)) * (x0 - before.x0)


def dpm_solver_step(
  z_t: Float[Array, "batch *dims"],
  x0: Float[Array, "batch *dims"],
  *,
  logsnr_t: Float[Array, " batch"],
  logsnr_s: Float[Array, " batch"],
  before: Before,
  key: Keys | None = None,
) -> Float[Array, "batch *dims"]:
  """`ddim_step` of second order: DPM-Solver++ (2M), see `extrapolated`."""
  middle = extrapolated(x0, logsnr_t=logsnr_t, logsnr_s=logsnr_s, before=before)
  return ddim_step(z_t, middle, logsnr_t=logsnr_t, logsnr_s=logsnr_s, key=key)


def sde_dpm_solver_step(
  z_t: Float[Array, "batch *dims"],
  x0: Float[Array, "batch *dims"],
  *,
  logsnr_t: Float[Array, " batch"],
  logsnr_s: Float[Array, " batch"],
  before: Before,
  key: Keys,
) -> Float[Array, "batch *dims"]:
  """`ddpm_step` of second order: SDE-DPM-Solver++ (2M), with fresh noise.

  Lu et al. 2022, https://arxiv.org/abs/2211.01095, section 4.2; the variance is
  the small one.
  """
  middle = extrapolated(x0, logsnr_t=logsnr_t, logsnr_s=logsnr_s, before=before)
  return ddpm_step(
    z_t,
    middle,
    logsnr_t=logsnr_t,
    logsnr_s=logsnr_s,
    key=key,
    variance=small_variance,
  )


def sample(
  denoise: Denoise | Sequence[Denoise],
  key: Keys,
  shape: tuple[int, ...],
  *,
  schedule: schedules.Schedule,
  num_steps: int | None = None,
  times: Float[Array | np.ndarray, " levels"] | None = None,
  step: Step = ddpm_step,
  clip: float | None = 1.0,
  initial: Float[Array, "batch *dims"] | None = None,
  per_step: Any = None,
) -> Float[Array, "batch *dims"]:
  """Draws an array of `shape` by denoising noise step by step.

  The last step returns x0 as it was predicted there, so the end of the grid
  does not matter, and a grid may stop early:
  `times=jnp.append(jnp.linspace(1.0, 0.5, 6), 0.0)` predicts six times, at 1.0,
  0.9, ..., 0.5.

  Args:
    denoise: Predicts x0 from z_t [batch, ...] and time [batch]; guidance is
      its own affair. Or S functions, one for each prediction, where some cost
      less than others: equal ones that follow each other share a loop.
    key: Step i of 1 to S draws from `jax.random.fold_in(key, i)`, the initial
      noise from `fold_in(key, 0)`. One for all, or one for each example.
    shape: Shape of the result, the batch first.
    schedule: Log-SNR over time.
    num_steps: Number S of predictions, on the schedule's own grid of times.
    times: Grid of S + 1 falling times to use in place of `num_steps`.
    step: How z_t and x0 make the next z_t.
    clip: Largest magnitude of x0 at every step, or None.
    initial: The array at the first time, in place of Gaussian noise.
    per_step: Arrays [S, ...] in any nesting, of which `denoise` is given row i
      as a third argument at its i-th prediction; None for none.

  Returns:
    The clean array, float32.
  """
  if (num_steps is None) == (times is None):
    raise ValueError(
      f"Expected either num_steps or times, got {num_steps=} and {times=}."
    )
  if times is None:
    times = schedule.times(num_steps)
  if initial is None:
    initial = noise(fold_in(key, 0), shape)
  logsnr = schedule.logsnr(jnp.asarray(times))
  num_steps = len(times) - 1
  denoisers = [denoise] * num_steps if callable(denoise) else denoise

  def batched(value: Float[Array, ""]) -> Float[Array, " batch"]:
    return jnp.broadcast_to(value, shape[:1])

  def body(predict, carry, level):
    z_t, x0_before = carry
    index, time, logsnr_before, logsnr_t, logsnr_s, rows = level
    given = () if rows is None else (rows,)
    x0 = predict(z_t, batched(time), *given)
    if clip is not None:
      x0 = jnp.clip(x0, -clip, clip)
    z_s = step(
      z_t,
      x0,
      logsnr_t=batched(logsnr_t),
      logsnr_s=batched(logsnr_s),
      key=fold_in(key, index),
      before=Before(x0_before, batched(logsnr_before)),
    )
    return (z_s, x0), None

  levels = (
    jnp.arange(1, num_steps + 1),
    jnp.asarray(times[:-1]),
    jnp.insert(logsnr[:-2], 0, logsnr[0]),
    logsnr[:-1],
    logsnr[1:],
    per_step,
  )
  carry, start = (initial, jnp.zeros_like(initial)), 0
  for predict, group in itertools.groupby(denoisers):
    part = slice(start, start + len(list(group)))
    rows = jax.tree.map(operator.itemgetter(part), levels)
    carry, _ = lax.scan(functools.partial(body, predict), carry, rows)
    start = part.stop
  return carry[1]
