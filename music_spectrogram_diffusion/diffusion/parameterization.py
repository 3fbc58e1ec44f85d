"""What a network's output means: eps, x0, both, v, or a preconditioned x0.

All of them are linear in x0 and eps, so given z_t and its log-SNR each one
converts into the others. `logsnr` has one value per example, in nats.
"""

import abc
import dataclasses
from typing import ClassVar

from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, Float32
import numpy as np

from music_spectrogram_diffusion.diffusion import schedules

Data = Float[Array, "batch *dims channels"]
Output = Float[Array, "batch *dims outputs"]
LogSNR = Float[Array, " batch"]
Bins = Float32[Array | np.ndarray, " mel_bins"]


def eps_to_x0(eps: Data, z_t: Data, logsnr: LogSNR) -> Data:
  """Clean array; an error of eps grows by sigma / alpha, 22026 at -20 nats."""
  alpha, sigma = schedules.alpha_sigma(logsnr, z_t.ndim)
  return (z_t - sigma * eps) / alpha


def x0_to_eps(x0: Data, z_t: Data, logsnr: LogSNR) -> Data:
  """Noise; an error of x0 grows by alpha / sigma, 22026 at +20 nats."""
  alpha, sigma = schedules.alpha_sigma(logsnr, z_t.ndim)
  return (z_t - alpha * x0) / sigma


def x0_eps_to_v(x0: Data, eps: Data, logsnr: LogSNR) -> Data:
  """v = alpha * eps - sigma * x0: how z_t turns from x0 towards eps.

  Salimans and Ho 2022, https://arxiv.org/abs/2202.00512, section 4.
  """
  alpha, sigma = schedules.alpha_sigma(logsnr, x0.ndim)
  return alpha * eps - sigma * x0


def v_to_x0(v: Data, z_t: Data, logsnr: LogSNR) -> Data:
  """Clean array; errors of v never grow."""
  alpha, sigma = schedules.alpha_sigma(logsnr, z_t.ndim)
  return alpha * z_t - sigma * v


def v_to_eps(v: Data, z_t: Data, logsnr: LogSNR) -> Data:
  """Noise; errors of v never grow."""
  alpha, sigma = schedules.alpha_sigma(logsnr, z_t.ndim)
  return sigma * z_t + alpha * v


def _standardized(
  z_t: Data, logsnr: LogSNR, mean: Bins, deviation: Bins
) -> Data:
  """`z_t` at zero mean and unit variance, if x0 has this mean and deviation."""
  alpha, _ = schedules.alpha_sigma(logsnr, z_t.ndim)
  return (z_t - alpha * mean) / _deviation_at(logsnr, deviation, z_t.ndim)


def _deviation_at(
  logsnr: LogSNR, deviation: Bins, ndim: int
) -> Float[Array, "batch *ones mel_bins"]:
  """Deviation of z_t in each bin, if x0 has this one."""
  alpha, sigma = schedules.alpha_sigma(logsnr, ndim)
  return jnp.sqrt((alpha * deviation) ** 2 + sigma**2)


class Parameterization(abc.ABC):
  """How a network sees z_t, and what its output says about x0 and eps.

  Attributes:
    num_outputs: Channels of the output, in multiples of those of z_t.
  """

  num_outputs: ClassVar[int] = 1

  def network_input(self, z_t: Data, logsnr: LogSNR) -> Data:
    """What the network is given for `z_t`: `z_t` itself, unless overridden."""
    del logsnr
    return z_t

  @abc.abstractmethod
  def predict(
    self, output: Output, z_t: Data, logsnr: LogSNR
  ) -> tuple[Data, Data]:
    """The x0 and the eps that an output stands for; they add up to `z_t`."""

  @abc.abstractmethod
  def target(self, x0: Data, eps: Data, z_t: Data, logsnr: LogSNR) -> Output:
    """The output for which `predict` gives back `x0` and `eps`."""


@dataclasses.dataclass(frozen=True)
class Eps(Parameterization):
  """The output is the noise, as in the paper."""

  def predict(
    self, output: Output, z_t: Data, logsnr: LogSNR
  ) -> tuple[Data, Data]:
    return eps_to_x0(output, z_t, logsnr), output

  def target(self, x0: Data, eps: Data, z_t: Data, logsnr: LogSNR) -> Output:
    del x0, z_t, logsnr
    return eps


@dataclasses.dataclass(frozen=True)
class X0(Parameterization):
  """The output is the clean array."""

  def predict(
    self, output: Output, z_t: Data, logsnr: LogSNR
  ) -> tuple[Data, Data]:
    return output, x0_to_eps(output, z_t, logsnr)

  def target(self, x0: Data, eps: Data, z_t: Data, logsnr: LogSNR) -> Output:
    del eps, z_t, logsnr
    return x0


@dataclasses.dataclass(frozen=True, eq=False)
class StandardizedX0(Parameterization):
  """The output is the clean array, less its mean and over a deviation.

  The network sees the input of `EDM`, but z_t is not handed on to x0: where
  there is little noise, an error of the output is not divided by its deviation,
  and a loss on the output counts x0 alike at all noise levels.

  Attributes:
    mean: Mean of x0 in each bin.
    deviation: Deviation of x0 in each bin, above 0. Less than the marginal one
      where the condition tells much about x0.
  """

  mean: Bins
  deviation: Bins

  def network_input(self, z_t: Data, logsnr: LogSNR) -> Data:
    """`z_t` shifted to zero mean and scaled to unit variance."""
    return _standardized(z_t, logsnr, self.mean, self.deviation)

  def predict(
    self, output: Output, z_t: Data, logsnr: LogSNR
  ) -> tuple[Data, Data]:
    x0 = self.mean + self.deviation * output
    return x0, x0_to_eps(x0, z_t, logsnr)

  def target(self, x0: Data, eps: Data, z_t: Data, logsnr: LogSNR) -> Output:
    del eps, z_t, logsnr
    return (x0 - self.mean) / self.deviation


@dataclasses.dataclass(frozen=True)
class V(Parameterization):
  """The output is v = alpha * eps - sigma * x0."""

  def predict(
    self, output: Output, z_t: Data, logsnr: LogSNR
  ) -> tuple[Data, Data]:
    return v_to_x0(output, z_t, logsnr), v_to_eps(output, z_t, logsnr)

  def target(self, x0: Data, eps: Data, z_t: Data, logsnr: LogSNR) -> Output:
    del z_t
    return x0_eps_to_v(x0, eps, logsnr)


@dataclasses.dataclass(frozen=True)
class X0AndEps(Parameterization):
  """The output is x0, then eps, along the channels; sigma² weighs the two.

  x0 = sigma² * x0_output + alpha² * (x0 of eps_output): each half counts where
  it is the better one (Salimans and Ho 2022, https://arxiv.org/abs/2202.00512,
  section 4).
  """

  num_outputs: ClassVar[int] = 2

  def predict(
    self, output: Output, z_t: Data, logsnr: LogSNR
  ) -> tuple[Data, Data]:
    x0, eps = jnp.split(output, 2, axis=-1)
    alpha, sigma = schedules.alpha_sigma(logsnr, z_t.ndim)
    return (
      sigma**2 * x0 + alpha * (z_t - sigma * eps),
      alpha**2 * eps + sigma * (z_t - alpha * x0),
    )

  def target(self, x0: Data, eps: Data, z_t: Data, logsnr: LogSNR) -> Output:
    del z_t, logsnr
    return jnp.concatenate([x0, eps], axis=-1)


@dataclasses.dataclass(frozen=True, eq=False)
class EDM(Parameterization):
  """Preconditioning that keeps input and target at unit variance.

  Karras et al. 2022, https://arxiv.org/abs/2206.00364, section 5, around a
  mean and for alpha² + sigma² = 1. With s the deviation, r = z_t - alpha * mean
  and d² = alpha² s² + sigma², the paper's

    x0 = mean + (alpha s² / d²) r + (s sigma / d) output

  is one row of an orthogonal map of (r / d, output) to ((x0 - mean) / s, eps),
  the reflection [[cos, sin], [sin, -cos]] of the angle whose cosine is
  alpha s / d and whose sine is sigma / d. Written so, x0, eps and target are
  exact at every log-SNR, and the map is its own inverse.

  Attributes:
    mean: Mean of x0 in each bin.
    deviation: Deviation of x0 in each bin, above 0: sigma_data. Less than the
      marginal one where the condition tells much about x0.
  """

  mean: Bins
  deviation: Bins

  def _angle(
    self, logsnr: LogSNR, ndim: int
  ) -> tuple[Float[Array, "batch *ones mel_bins"], ...]:
    """Cosine and sine of the angle; [batch, 1, ..., mel_bins]."""
    alpha, sigma = schedules.alpha_sigma(logsnr, ndim)
    scale = 1.0 / _deviation_at(logsnr, self.deviation, ndim)
    return alpha * self.deviation * scale, sigma * scale

  def network_input(self, z_t: Data, logsnr: LogSNR) -> Data:
    """`z_t` shifted to zero mean and scaled to unit variance."""
    return _standardized(z_t, logsnr, self.mean, self.deviation)

  def predict(
    self, output: Output, z_t: Data, logsnr: LogSNR
  ) -> tuple[Data, Data]:
    cosine, sine = self._angle(logsnr, z_t.ndim)
    unit = self.network_input(z_t, logsnr)
    x0 = self.mean + self.deviation * (cosine * unit + sine * output)
    return x0, sine * unit - cosine * output

  def target(self, x0: Data, eps: Data, z_t: Data, logsnr: LogSNR) -> Output:
    del z_t
    cosine, sine = self._angle(logsnr, x0.ndim)
    return sine * (x0 - self.mean) / self.deviation - cosine * eps
