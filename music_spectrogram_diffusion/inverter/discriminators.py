"""The discriminators that an inverter is trained against.

As in SoundStream (Zeghidour et al. 2021, https://arxiv.org/abs/2107.03312,
section III-D): one sees complex spectra, the others see the waveform at three
rates. What the paper leaves open is MelGAN's (Kumar et al. 2019,
https://arxiv.org/abs/1910.06711): kernels of the waveform discriminators,
leaky ReLUs, weight normalisation.
"""

import dataclasses

from flax import linen as nn
import jax
from jax import numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.inverter import stft

Logits = Float[Array, "batch _"]
Features = tuple[Float[Array, "batch ..."], ...]

# Growth of the channels and strides in time and frequency of each block of the
# STFT discriminator.
_STFT_BLOCKS = (
  (2, (1, 2)),
  (2, (2, 2)),
  (1, (1, 2)),
  (2, (2, 2)),
  (1, (1, 2)),
  (2, (2, 2)),
)
# The strided layers of a waveform discriminator.
_NUM_STRIDED, _STRIDE, _STRIDED_KERNEL, _GROUP_CHANNELS = 4, 4, 41, 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
  """Sizes of the discriminators; the defaults are the paper's.

  Attributes:
    stft_channels: Channels of the STFT discriminator's first layer.
    stft_window: Samples in one of its frames; a power of 2 from 128.
    stft_hop: Samples from one frame to the next.
    wave_channels: Channels of the first layer on the waveform, in fours.
    max_wave_channels: Most channels of a layer on the waveform, in fours.
    num_wave_scales: Waveform discriminators, each at half the rate of the one
      before it.
    dtype: Name of the dtype of the computation; parameters, transforms and
      logits are float32.
  """

  stft_channels: int = 32
  stft_window: int = 1024
  stft_hop: int = 256
  wave_channels: int = 16
  max_wave_channels: int = 1024
  num_wave_scales: int = 3
  dtype: str = "float32"

  def __post_init__(self):
    window = self.stft_window
    if window < 128 or window & (window - 1):
      raise ValueError(
        f"Expected a stft_window that is a power of 2 from 128, got {window}."
      )
    for name in ("wave_channels", "max_wave_channels"):
      value = getattr(self, name)
      if value < _GROUP_CHANNELS or value % _GROUP_CHANNELS:
        raise ValueError(
          f"Expected {name} as a multiple of {_GROUP_CHANNELS}, got {value}."
        )


PAPER = DiscriminatorConfig()
SMALL = DiscriminatorConfig(
  stft_channels=8, wave_channels=8, max_wave_channels=256
)


class Discriminators(nn.Module):
  """All discriminators: the one on spectra, then those on the waveform."""

  config: DiscriminatorConfig = PAPER

  @nn.compact
  def __call__(
    self, samples: Float[Array, "batch samples"]
  ) -> tuple[tuple[Logits, ...], tuple[Features, ...]]:
    """Judges audio.

    Args:
      samples: Audio in [-1, 1]; one sample or more at the lowest rate.

    Returns:
      Logits over time of each discriminator, high for real audio, and the
      outputs of each one's inner layers.
    """
    config = self.config
    judgements = [StftDiscriminator(config, name="stft")(samples)]
    for scale in range(config.num_wave_scales):
      if scale:
        samples = _halved(samples)
      judge = WaveDiscriminator(config, name=f"wave_{scale}")
      judgements.append(judge(samples))
    logits, features = zip(*judgements, strict=True)
    return logits, features


class StftDiscriminator(nn.Module):
  """Residual convolutions over complex spectra, real and imaginary parts.

  Six blocks halve the frequencies each, and time every other one; the last
  layer weighs all frequencies that are left.
  """

  config: DiscriminatorConfig = PAPER

  @nn.compact
  def __call__(
    self, samples: Float[Array, "batch samples"]
  ) -> tuple[Logits, Features]:
    dtype = jnp.dtype(self.config.dtype)
    x = self._spectra(samples).astype(dtype)
    channels = self.config.stft_channels
    x = Conv(channels, (7, 7), dtype=dtype, name="first")(x)
    features = [x]
    for i, (growth, strides) in enumerate(_STFT_BLOCKS):
      block = _ResidualBlock(
        channels, growth, strides, dtype, name=f"block_{i}"
      )
      x = block(x)
      channels *= growth
      features.append(x)
    last = Conv(1, (1, x.shape[2]), padding="VALID", dtype=dtype, name="last")
    logits = last(_activate(x))[:, :, 0, 0]
    return logits.astype(jnp.float32), tuple(features)

  def _spectra(self, samples):
    """[batch, frames, window / 2, 2], no Nyquist; noise keeps its power."""
    window = self.config.stft_window
    frames = audio.SpectrogramConfig(
      hop_length=self.config.stft_hop, win_length=window, n_fft=window
    )
    padded = stft.pad_end(samples.astype(jnp.float32), frames)
    spectra = stft.stft(padded, frames)[..., : window // 2]
    energy = float((audio.window(frames) ** 2).sum())
    return jnp.stack([spectra.real, spectra.imag], axis=-1) / energy**0.5


class _ResidualBlock(nn.Module):
  """Two convolutions, the second strided, beside a strided projection."""

  channels: int
  growth: int
  strides: tuple[int, int]
  dtype: DTypeLike

  @nn.compact
  def __call__(
    self, x: Float[Array, "batch frames bins channels"]
  ) -> Float[Array, "batch fewer_frames fewer_bins more_channels"]:
    kernel = tuple(stride + 2 for stride in self.strides)
    wide = self.channels * self.growth
    settings = {"strides": self.strides, "dtype": self.dtype}
    y = Conv(self.channels, (3, 3), dtype=self.dtype, name="inner")(
      _activate(x)
    )
    y = Conv(wide, kernel, **settings, name="strided")(_activate(y))
    return y + Conv(wide, (1, 1), **settings, name="shortcut")(x)


class WaveDiscriminator(nn.Module):
  """Strided grouped convolutions over the waveform at one rate."""

  config: DiscriminatorConfig = PAPER

  @nn.compact
  def __call__(
    self, samples: Float[Array, "batch samples"]
  ) -> tuple[Logits, Features]:
    dtype, most = jnp.dtype(self.config.dtype), self.config.max_wave_channels
    channels = self.config.wave_channels
    x = samples[..., None].astype(dtype)
    x = _activate(Conv(channels, (15,), dtype=dtype, name="first")(x))
    features = [x]
    for i in range(_NUM_STRIDED):
      groups = channels // _GROUP_CHANNELS
      channels = min(most, channels * _STRIDE)
      strided = GroupedConv(channels, groups, dtype, name=f"strided_{i}")
      x = _activate(strided(x))
      features.append(x)
    x = _activate(Conv(channels, (5,), dtype=dtype, name="mix")(x))
    features.append(x)
    logits = Conv(1, (3,), dtype=dtype, name="last")(x)[..., 0]
    return logits.astype(jnp.float32), tuple(features)


class Conv(nn.Module):
  """A convolution whose kernel is split into directions and lengths.

  Salimans and Kingma 2016, https://arxiv.org/abs/1602.07868.

  Attributes:
    features: Channels of the output.
    kernel_size: One number for each axis of time or frequency.
    strides: Likewise; None for 1.
    padding: Of `jax.lax`: "SAME" or "VALID".
    dtype: Dtype of the computation.
  """

  features: int
  kernel_size: tuple[int, ...]
  strides: tuple[int, ...] | None = None
  padding: str = "SAME"
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, "batch ... channels"]
  ) -> Float[Array, "batch ... features"]:
    shape = (*self.kernel_size, x.shape[-1], self.features)
    kernel, bias = _kernel_and_bias(self, shape, self.dtype)
    axes = "NWC WIO" if len(self.kernel_size) == 1 else "NHWC HWIO"
    data, weights = axes.split()
    y = jax.lax.conv_general_dilated(
      x,
      kernel,
      self.strides or (1,) * len(self.kernel_size),
      self.padding,
      dimension_numbers=(data, weights, data),
    )
    return y + bias


class GroupedConv(nn.Module):
  """A strided convolution over time, in groups of channels.

  Written as one product of matrices a group over shifted reshapes: XLA's own
  gradient of a grouped convolution is up to 40 times slower on CPU.

  Attributes:
    features: Channels of the output.
    groups: Groups, each of which sees its share of the channels.
    dtype: Dtype of the computation.
  """

  features: int
  groups: int
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, "batch time channels"]
  ) -> Float[Array, "batch less_time features"]:
    batch, time, channels = x.shape
    width = channels // self.groups
    shape = (_STRIDED_KERNEL, width, self.features)
    kernel, bias = _kernel_and_bias(self, shape, self.dtype)

    # A kernel of whole strides over an input of whole strides, padded as SAME.
    shorter = -(-time // _STRIDE)
    taps = -(-_STRIDED_KERNEL // _STRIDE)
    missing = max(0, (shorter - 1) * _STRIDE + _STRIDED_KERNEL - time)
    before = missing // 2
    after = (shorter + taps - 1) * _STRIDE - time - before
    x = jnp.pad(x, ((0, 0), (before, after), (0, 0)))
    x = x.reshape(batch, shorter + taps - 1, _STRIDE, self.groups, width)
    # Groups come first, where products are fast and little has to be moved.
    x = x.transpose(3, 0, 1, 2, 4).reshape(
      self.groups, batch, shorter + taps - 1, _STRIDE * width
    )
    seen = jnp.concatenate([x[:, :, i : i + shorter] for i in range(taps)], -1)

    kernel = jnp.pad(
      kernel, ((0, taps * _STRIDE - _STRIDED_KERNEL), (0, 0), (0, 0))
    )
    kernel = kernel.reshape(taps * _STRIDE * width, self.groups, -1)
    y = jnp.matmul(
      seen.reshape(self.groups, batch * shorter, -1), kernel.swapaxes(0, 1)
    )
    y = y.reshape(self.groups, batch, shorter, -1).transpose(1, 2, 0, 3)
    return y.reshape(batch, shorter, self.features) + bias


def _kernel_and_bias(module, shape, dtype):
  """Parameters `kernel`, `scale` and `bias` of a module, as kernel and bias.

  Each output channel's weights are `kernel` scaled to the length `scale`.
  """
  axes = tuple(range(len(shape) - 1))

  def lengths(kernel):
    return jnp.sqrt(jnp.square(kernel).sum(axes) + 1e-12)

  directions = module.param("kernel", nn.initializers.he_normal(), shape)
  scale = module.param("scale", lambda _: lengths(directions))
  bias = module.param("bias", nn.initializers.zeros, shape[-1:])
  kernel = directions * (scale / lengths(directions))
  return kernel.astype(dtype), bias.astype(dtype)


def _activate(x):
  return nn.leaky_relu(x, 0.2)


def _halved(samples):
  """Half the rate, by means over four samples, fewer at the ends."""
  pooled = nn.avg_pool(
    samples[..., None], (4,), (2,), ((1, 1),), count_include_pad=False
  )
  return pooled[..., 0]
