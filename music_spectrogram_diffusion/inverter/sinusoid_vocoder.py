"""The fast inverter: a network over frames, and sinusoids by inverse STFT.

Trunk and head are those of Vocos (Siuzdak 2023,
https://arxiv.org/abs/2306.00814): ConvNeXt blocks over the frames of a log-mel
spectrogram, then one inverse Fourier transform a frame. A network that sees
only frames gives equal frames for a steady tone, and so can only hold tones
whose period divides the hop. Here the head does not say phases but frequencies:
every bin has a sinusoid of its own (see `sinusoids`). Noise and attacks are a
second, free spectrum. Both start from the linear magnitudes that the mel bins
suggest.
At the end, as in Griffin and Lim 1984, magnitudes are brought to those that the
spectrogram asks for, with the phases as they are; training goes through that,
too.
"""

import dataclasses
import functools
from typing import Any

from flax import linen as nn
import jax
from jax import lax
from jax import numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray
import numpy as np

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.inverter import mel_magnitudes, sinusoids

_KERNEL = 7
_EPSILON = 1e-6
_LARGEST_MAGNITUDE = float(np.exp(6.0))
_START_LOG_GAIN = -1.0
_LOG_GAIN_RANGE = (-8.0, 4.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SinusoidVocoder:
  """A generator of waveforms that works at the rate of frames.

  Attributes:
    spectrogram: The features that it reads; frames have to overlap by half.
    channels: Channels of the trunk.
    num_blocks: Blocks of the trunk; each sees 3 frames farther to both sides.
    expansion: Hidden channels of a block, over `channels`.
    num_corrections: How often magnitudes are corrected at the end.
    follows_notes: See `streaming.Generator`.
    dtype: Name of the dtype of the trunk's products; their sums, all between
      them and the parameters are float32.
  """

  spectrogram: audio.SpectrogramConfig = audio.SpectrogramConfig()
  channels: int = 256
  num_blocks: int = 7
  expansion: int = 3
  num_corrections: int = 2
  follows_notes: bool = True
  dtype: str = "float32"

  def __post_init__(self):
    hop, win_length = self.spectrogram.hop_length, self.spectrogram.win_length
    if win_length != 2 * hop:
      raise ValueError(
        "Expected frames that overlap by half, got hop_length ="
        f" {hop}, win_length = {win_length}."
      )
    for name in ("channels", "num_blocks", "expansion"):
      if getattr(self, name) < 1:
        raise ValueError(f"Expected {name} from 1, got {getattr(self, name)}.")
    if self.num_corrections < 0:
      raise ValueError(
        f"Expected num_corrections from 0, got {self.num_corrections}."
      )

  @functools.cached_property
  def module(self) -> "Trunk":
    """The Flax module that parameters belong to."""
    return Trunk(
      self._num_bins,
      self.channels,
      self.num_blocks,
      self.expansion,
      jnp.dtype(self.dtype),
    )

  def uncorrected(self) -> "SinusoidVocoder":
    """See `streaming.Generator`."""
    return dataclasses.replace(self, num_corrections=0)

  @property
  def receptive_frames(self) -> tuple[int, int]:
    """How many frames before and after a frame its samples depend on.

    Apart from the phases that sinusoids have run up to, which are the state.
    """
    side = self._trunk_reach + self.num_corrections
    return side + 1, side  # A frame lies in its own hop and the next.

  @property
  def _trunk_reach(self) -> int:
    return _KERNEL // 2 * self.num_blocks

  @property
  def _num_bins(self) -> int:
    return self.spectrogram.n_fft // 2 + 1

  def init(self, key: PRNGKeyArray) -> dict[str, Any]:
    """Draws parameters; wrap it in `jax.eval_shape` for their shapes alone."""
    frames = jnp.zeros((1, 2 * self._trunk_reach + 1, self.spectrogram.n_mels))
    return self.module.init(key, _features(frames, self.spectrogram))["params"]

  def initial_state(self) -> Float[Array, "batch bins"]:
    """Phases before the first frame, in cycles: spread evenly, each its own."""
    golden_ratio = (np.sqrt(5) - 1) / 2
    spread = np.arange(self._num_bins) * golden_ratio
    return jnp.asarray(spread % 1.0, jnp.float32)[None]

  def invert(
    self,
    parameters: dict[str, Any],
    log_mel: Float[Array, "batch frames mel_bins"],
    state: Float[Array, "batch bins"],
    num_frames: Int[Array, ""] | int,
  ) -> tuple[Float[Array, "batch samples"], Float[Array, "batch bins"]]:
    """Makes the samples of frames between their neighbours.

    Args:
      parameters: The generator's.
      log_mel: Natural logarithm of mel magnitudes: the frames to invert, with
        as many around them as `receptive_frames` says.
      state: Phases of the sinusoids at the first frame that the trunk gives, in
        cycles.
      num_frames: After how many frames the next call begins.

    Returns:
      `hop_length` samples for each frame, without those around them; and the
      state for the next call.
    """
    samples, phases, _ = self._synthesize(parameters, log_mel, state)
    return samples, lax.dynamic_index_in_dim(
      phases, num_frames, axis=1, keepdims=False
    )

  def training_output(
    self,
    parameters: dict[str, Any],
    log_mel: Float[Array, "batch frames mel_bins"],
    samples: Float[Array, "batch samples"],
    key: PRNGKeyArray,
  ) -> tuple[Float[Array, "batch inner_samples"], dict[str, Float[Array, ""]]]:
    """Samples as `invert` makes them, from random phases, and further losses.

    Args:
      parameters: The generator's.
      log_mel: As of `invert`.
      samples: The audio that it was computed from, of these frames or more.
      key: Draws the phases.

    Returns:
      The samples, and the loss `frequency`: how far sinusoids lie from the
      frequencies in the audio, in bins; see `frequency_loss`.
    """
    phases = jax.random.uniform(key, (len(log_mel), self._num_bins))
    generated, _, deviation = self._synthesize(parameters, log_mel, phases)
    config = self.spectrogram
    first = self._trunk_reach * config.hop_length
    first += (config.win_length - config.n_fft) // 2
    loss = frequency_loss(deviation, samples[:, max(first, 0) :], config)
    return generated, {"frequency": loss}

  def _synthesize(self, parameters, log_mel, phases):
    """Samples, and of all frames the phases and the deviations."""
    config, reach = self.spectrogram, self._trunk_reach
    log_mel = log_mel.astype(jnp.float32)
    spectra = self.module.apply(
      {"params": parameters}, _features(log_mel, config)
    )
    mel = jnp.exp(log_mel[:, reach : log_mel.shape[1] - reach])
    phases = sinusoids.running_phases(spectra.deviation, phases, config)
    magnitude = jnp.minimum(
      mel_magnitudes.spread_mel(mel, config), _LARGEST_MAGNITUDE
    )
    samples = sinusoids.draw(spectra, magnitude, phases, config)
    hop, last = config.hop_length, mel.shape[1]
    samples = samples[:, hop:-hop]  # One frame alone is no signal yet.
    for i in range(1, self.num_corrections + 1):
      samples = mel_magnitudes.correct(samples, mel[:, i : last - i], config)
    return samples, phases, spectra.deviation


class Trunk(nn.Module):
  """The layers of `SinusoidVocoder`, without padding."""

  num_bins: int
  channels: int
  num_blocks: int
  expansion: int
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, features: Float[Array, "batch frames channels"]
  ) -> sinusoids.Spectra:
    dense = functools.partial(nn.Dense, dot_general=_product_in(self.dtype))
    norm = functools.partial(nn.LayerNorm, epsilon=_EPSILON)
    x = dense(2 * self.channels, name="embed_0")(features)
    x = dense(self.channels, name="embed_1")(nn.gelu(x))
    x = norm(name="embed_norm")(x)
    for i in range(self.num_blocks):
      x = ConvNeXtBlock(
        self.expansion, 1 / self.num_blocks, self.dtype, name=f"block_{i}"
      )(x)
    head = dense(
      4 * self.num_bins,
      kernel_init=nn.initializers.normal(0.02),
      name="head",
    )
    y = head(norm(name="head_norm")(x))
    log_gain, deviation, real, imaginary = jnp.split(y, 4, axis=-1)
    return sinusoids.Spectra(
      log_gain=jnp.clip(log_gain + _START_LOG_GAIN, *_LOG_GAIN_RANGE),
      deviation=sinusoids.FARTHEST * jnp.tanh(deviation),
      real=real,
      imaginary=imaginary,
    )


class ConvNeXtBlock(nn.Module):
  """Each channel over time, then all channels of a frame; a residual block.

  Liu et al. 2022, https://arxiv.org/abs/2201.03545, over time instead of
  pictures. Gives `_KERNEL - 1` frames less than it is given.
  """

  expansion: int
  initial_scale: float
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, "batch frames channels"]
  ) -> Float[Array, "batch fewer_frames channels"]:
    channels, side = x.shape[-1], _KERNEL // 2
    kernel = self.param(
      "kernel", nn.initializers.normal(_KERNEL**-0.5), (_KERNEL, channels)
    )
    bias = self.param("bias", nn.initializers.zeros, (channels,))
    num_frames = x.shape[1] - 2 * side
    # A sum of shifts: XLA's convolution of single channels is slow on CPU.
    y = sum(kernel[i] * x[:, i : i + num_frames] for i in range(_KERNEL))
    y = nn.LayerNorm(epsilon=_EPSILON, name="norm")(y + bias)
    dense = functools.partial(nn.Dense, dot_general=_product_in(self.dtype))
    y = dense(self.expansion * channels, name="expand")(y)
    y = dense(channels, name="project")(nn.gelu(y))
    scale = self.param(
      "scale", nn.initializers.constant(self.initial_scale), (channels,)
    )
    return x[:, side : side + num_frames] + scale * y


def _product_in(dtype):
  """`lax.dot_general` of factors that are rounded; sums are in float32."""

  def product(left, right, dimensions, precision=None, **_):
    return lax.dot_general(
      left.astype(dtype),
      right.astype(dtype),
      dimensions,
      precision=precision,
      preferred_element_type=jnp.float32,
    )

  return product


def frequency_loss(
  deviation: Float[Array, "batch frames bins"],
  samples: Float[Array, "batch samples"],
  config: audio.SpectrogramConfig,
) -> Float[Array, ""]:
  """How far sinusoids lie from the frequencies in the audio, in bins.

  A bin counts with the root of its magnitude, where the frequency that it hears
  is its own and not a neighbour's.

  Args:
    deviation: From the centre of each bin, in bins.
    samples: The audio, from half a transform before the centre of the first
      frame on.
    config: The features; windows are as long as their transform.
  """
  power, heard = sinusoids.reassigned(samples, deviation.shape[1], config)
  wanted = lax.stop_gradient(heard)
  own = jnp.abs(wanted) <= 0.55  # A little beyond the border between bins.
  weight = jnp.where(own, jnp.sqrt(jnp.sqrt(power)), 0.0)
  distance = weight * jnp.abs(deviation - jnp.clip(wanted, -0.55, 0.55))
  return distance.sum() / (weight.sum() + 1e-3)


def _features(log_mel, config):
  """What the network reads: levels, their slopes over mel bins, and loudness.

  A tone's frequency shows in how its mel bins differ, which is little beside
  their range.
  """
  slope = 0.7 * jnp.diff(log_mel, axis=-1, append=log_mel[..., -1:])
  curvature = jnp.diff(slope, axis=-1, prepend=slope[..., :1])
  loudness = (log_mel.mean(-1, keepdims=True) + 6.0) / 3.0
  scaled = 3.0 * audio.scale_log_mel(log_mel, config)
  limited = (jnp.clip(x, -3.0, 3.0) for x in (slope, curvature))
  return jnp.concatenate([scaled, *limited, loudness], axis=-1)
