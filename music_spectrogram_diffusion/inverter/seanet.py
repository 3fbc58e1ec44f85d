"""The paper's inverter: SoundStream's decoder, fed with log-mel frames.

Hawthorne et al. 2022, https://arxiv.org/abs/2206.05408, after SEANet
(Tagliasacchi et al. 2020, https://arxiv.org/abs/2009.02095) and SoundStream
(Zeghidour et al. 2021, https://arxiv.org/abs/2107.03312). The paper gives
kernels, dilations and the product of the strides; channels and the order of the
strides are SoundStream's.
"""

import dataclasses
import functools
import math
from typing import Any

from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.inverter import streaming

_KERNEL = 3
_DILATIONS = (1, 3, 9)

_fan_in = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
# A generator begins far quieter than music, and not far louder.
_quiet = nn.initializers.variance_scaling(1e-4, "fan_in", "truncated_normal")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeaNet(streaming.ConvolutionalGenerator):
  """A generator of waveforms by transposed and dilated convolutions.

  Attributes:
    spectrogram: The features that it reads.
    channels: Channels at the full sample rate; twice as many before each
      upsampling.
    strides: Factors of upsampling, whose product is the hop.
    dtype: Name of the dtype of the computation; parameters are float32.
  """

  spectrogram: audio.SpectrogramConfig = audio.SpectrogramConfig()
  channels: int = 32
  strides: tuple[int, ...] = (8, 5, 4, 2)
  dtype: str = "float32"

  def __post_init__(self):
    hop = self.spectrogram.hop_length
    if math.prod(self.strides) != hop or min(self.strides, default=1) < 1:
      raise ValueError(
        f"Expected strides whose product is the hop of {hop} samples, got"
        f" {self.strides}."
      )
    if self.channels < 1:
      raise ValueError(f"Expected channels from 1, got {self.channels}.")

  @functools.cached_property
  def module(self) -> "SeaNetModule":
    """The Flax module that parameters belong to."""
    return SeaNetModule(self.channels, self.strides, jnp.dtype(self.dtype))

  @functools.cached_property
  def receptive_frames(self) -> tuple[int, int]:
    """How many frames before and after a frame its samples depend on.

    Followed from the samples of frame 0 through the layers in reverse.
    """
    side = _KERNEL // 2
    first, last = -side, self.spectrogram.hop_length - 1 + side
    for stride in reversed(self.strides):
      reach = side * sum(_DILATIONS)
      cut = stride // 2
      # Sample j of a transposed convolution hears inputs (j + cut) // stride
      # and the one before.
      first = (first - reach + cut) // stride - 1
      last = (last + reach + cut) // stride
    return side - first, last + side

  def init(self, key: PRNGKeyArray) -> dict[str, Any]:
    """Draws parameters; wrap it in `jax.eval_shape` for their shapes alone."""
    frame = jnp.zeros((1, 1, self.spectrogram.n_mels))
    return self.module.init(key, frame)["params"]

  def apply(
    self,
    parameters: dict[str, Any],
    log_mel: Float[Array, "batch frames mel_bins"],
  ) -> Float[Array, "batch samples"]:
    """Makes samples, `hop_length` a frame.

    Args:
      parameters: The generator's.
      log_mel: Natural logarithm of mel magnitudes.

    Returns:
      Audio, nominally in [-1, 1] and not clipped.
    """
    scaled = audio.scale_log_mel(log_mel, self.spectrogram)
    return self.module.apply({"params": parameters}, scaled)


PAPER = SeaNet()
SMALL = SeaNet(channels=16)


class SeaNetModule(nn.Module):
  """The layers of `SeaNet`, from features scaled to about [-1, 1]."""

  channels: int
  strides: tuple[int, ...]
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, features: Float[Array, "batch frames mel_bins"]
  ) -> Float[Array, "batch samples"]:
    channels = self.channels * 2 ** len(self.strides)
    x = features.astype(self.dtype)
    x = _conv(channels, _KERNEL, 1, self.dtype, "first")(x)
    for i, stride in enumerate(self.strides):
      channels //= 2
      upsample = TransposedConv(
        channels, stride, self.dtype, name=f"upsample_{i}"
      )
      x = upsample(nn.elu(x))
      for j, dilation in enumerate(_DILATIONS):
        x = _ResidualUnit(dilation, self.dtype, name=f"residual_{i}_{j}")(x)
    x = _conv(1, _KERNEL, 1, self.dtype, "last", _quiet)(nn.elu(x))
    return x[..., 0].astype(jnp.float32)


class TransposedConv(nn.Module):
  """Upsamples by a transposed convolution whose kernel is two strides long.

  Written as one product of matrices and a sum of shifted reshapes: the gradient
  of XLA's own is many times slower on CPU. Of the samples beyond `stride` for
  each of input, `stride // 2` are cut at the start, the others at the end.

  Attributes:
    features: Channels of the output.
    stride: Samples of output for each of input.
    dtype: Dtype of the computation.
  """

  features: int
  stride: int
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, "batch time channels"]
  ) -> Float[Array, "batch more_time features"]:
    batch, time, channels = x.shape
    # Each sample of output is a sum over two of input.
    init = nn.initializers.variance_scaling(0.5, "fan_in", "truncated_normal")
    kernel = self.param(
      "kernel", init, (channels, 2 * self.stride * self.features)
    )
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    y = jnp.dot(x, kernel.astype(self.dtype))
    y = y.reshape(batch, time, 2, self.stride, self.features)
    own = jnp.pad(y[:, :, 0], ((0, 0), (0, 1), (0, 0), (0, 0)))
    earlier = jnp.pad(y[:, :, 1], ((0, 0), (1, 0), (0, 0), (0, 0)))
    summed = (own + earlier).reshape(batch, -1, self.features)
    cut = self.stride // 2
    return summed[:, cut:][:, : time * self.stride] + bias.astype(self.dtype)


class _ResidualUnit(nn.Module):
  """Adds a dilated convolution, mixed by one of a single sample."""

  dilation: int
  dtype: DTypeLike

  @nn.compact
  def __call__(
    self, x: Float[Array, "batch time channels"]
  ) -> Float[Array, "batch time channels"]:
    channels = x.shape[-1]
    y = _conv(channels, _KERNEL, self.dilation, self.dtype, "dilated")
    mix = _conv(channels, 1, 1, self.dtype, "mix")
    return x + mix(nn.elu(y(nn.elu(x))))


def _conv(features, kernel, dilation, dtype, name, init=_fan_in):
  return nn.Conv(
    features,
    (kernel,),
    kernel_dilation=(dilation,),
    kernel_init=init,
    dtype=dtype,
    name=name,
  )
