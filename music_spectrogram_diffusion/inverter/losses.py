"""What an inverter is trained with: spectral, adversarial and feature losses.

As in SoundStream (Zeghidour et al. 2021, https://arxiv.org/abs/2107.03312,
section III-E). Losses are means over examples and over time, so that they do
not depend on the size of a batch or the length of its crops.

Discriminators are given as what `Discriminators` returns of real and of
generated audio: a sequence of logits, one array a discriminator, and a sequence
of the features of each, one array a layer.
"""

from collections.abc import Sequence
import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.inverter import stft

SCALES = (64, 128, 256, 512, 1024, 2048)
"""Windows of the spectral loss, in samples; hops are a quarter of them."""

RELATIVE_SCALES = ((128, 16), (256, 32), (512, 64), (1024, 80), (2048, 128))
"""Window, in samples, and mel bins of each term of `relative_spectral_loss`."""

RESOLUTIONS = ((512, 240, 50), (1024, 600, 120), (2048, 1200, 240))
"""Transform, window and hop of each term of `stft_distance`, in samples.

Those of Yamamoto et al. 2020, https://arxiv.org/abs/1910.11480, table 1.
"""

# Spectra are sums over a window: 16 bits' noise is 3e-4 in the longest.
_LOG_FLOOR = 1e-3


@dataclasses.dataclass(frozen=True)
class LossWeights:
  """How a generator's losses are added up; the defaults are SoundStream's."""

  adversarial: float = 1.0
  feature_matching: float = 100.0
  reconstruction: float = 1.0


def spectral_reconstruction_loss(
  real: Float[Array, "batch samples"],
  generated: Float[Array, "batch samples"],
  config: audio.SpectrogramConfig,
  *,
  scales: Sequence[int] = SCALES,
  n_mels: int = 64,
  log_floor: float = _LOG_FLOOR,
) -> Float[Array, ""]:
  """Distance of mel spectrograms at several scales, linear and logarithmic.

  Gritsenko et al. 2020, https://arxiv.org/abs/2008.01160, eq. 5, as SoundStream
  uses it: for windows of s samples, the L1 distance of two frames plus
  sqrt(s / 2) times the L2 distance of their logarithms; a mean over frames, a
  sum over scales, divided by the number of mel bins. (The paper sums over
  frames and bins alike, which leaves next to nothing to the other losses at
  SoundStream's weights.)

  Args:
    real: The wanted audio.
    generated: Audio of the same length.
    config: Gives the sample rate and the edges of the mel scale.
    scales: Windows, in samples; multiples of 4.
    n_mels: Mel bins at each scale.
    log_floor: Mel magnitude below which everything is silence.

  Returns:
    At least 0, which is for equal audio.
  """
  total = jnp.zeros(())
  for window in scales:
    scale = dataclasses.replace(
      config,
      hop_length=window // 4,
      win_length=window,
      n_fft=window,
      n_mels=n_mels,
      log_floor=log_floor,
    )
    log_real, log_generated = (
      audio.log_mel(jnp.asarray(samples), scale)
      for samples in (real, generated)
    )
    linear = jnp.abs(jnp.exp(log_real) - jnp.exp(log_generated)).sum(-1)
    logarithmic = _norm(log_real - log_generated)
    total += jnp.mean(linear + (window / 2) ** 0.5 * logarithmic)
  return total / n_mels


def relative_spectral_loss(
  real: Float[Array, "batch samples"],
  generated: Float[Array, "batch samples"],
  config: audio.SpectrogramConfig,
  *,
  scales: Sequence[tuple[int, int]] = RELATIVE_SCALES,
  linear_weight: float = 0.5,
  log_floor: float = 3e-2,
) -> Float[Array, ""]:
  """Distance of mel spectrograms at several scales, quiet clips as loud ones.

  As `spectral_reconstruction_loss`, but for a network that has minutes to
  learn: long windows have more mel bins, so that tones are told apart; the
  linear distance is relative to the level of the louder clip, so that one where
  nothing should sound does not outweigh all others; and the logarithm knows a
  floor some 80 dB below full scale.

  Args:
    real: The wanted audio, no shorter than the longest window.
    generated: Audio of the same length.
    config: Gives the sample rate and the edges of the mel scale.
    scales: Windows, in samples, and their mel bins.
    linear_weight: Weight of the linear distance.
    log_floor: Added to mel magnitudes before the logarithm.

  Returns:
    At least 0, which is for equal audio.
  """
  total = jnp.zeros(())
  for window, n_mels in scales:
    scale = dataclasses.replace(
      config,
      hop_length=window // 4,
      win_length=window,
      n_fft=window,
      n_mels=n_mels,
    )
    matrix = audio.mel_matrix(scale)
    a, b = (
      _magnitudes(samples, scale) @ matrix for samples in (real, generated)
    )
    total += jnp.abs(jnp.log(a + log_floor) - jnp.log(b + log_floor)).mean()
    level = jnp.maximum(a.sum((1, 2)), jax.lax.stop_gradient(b.sum((1, 2))))
    linear = jnp.abs(a - b).sum((1, 2)) / (level + 1.0)
    total += linear_weight * linear.mean()
  return total / len(scales)


def _magnitudes(samples, config):
  """Magnitudes of the frames that lie within; their gradient at 0 is finite."""
  whole = samples.shape[-1] // config.hop_length * config.hop_length
  spectrum = stft.stft(jnp.asarray(samples)[..., :whole], config)
  power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
  return jnp.sqrt(power + 1e-12)


def stft_distance(
  real: Float[Array, "batch samples"],
  generated: Float[Array, "batch samples"],
  config: audio.SpectrogramConfig,
  *,
  resolutions: Sequence[tuple[int, int, int]] = RESOLUTIONS,
  log_floor: float = _LOG_FLOOR,
) -> Float[Array, " batch"]:
  """Multi-resolution STFT distance, to measure with.

  Yamamoto et al. 2020, https://arxiv.org/abs/1910.11480, eq. 4 to 6: spectral
  convergence, the distance of the magnitudes by the norm of the real ones, plus
  the mean absolute distance of their logarithms; a mean over resolutions.

  Args:
    real: The wanted audio.
    generated: Audio of the same length.
    config: Features of any kind; their edges of frequency do not matter.
    resolutions: Transform, window and hop of each term.
    log_floor: Magnitude below which everything is silence.

  Returns:
    One distance an example, at least 0.
  """
  total = jnp.zeros(real.shape[0])
  for n_fft, win_length, hop_length in resolutions:
    scale = dataclasses.replace(
      config, n_fft=n_fft, win_length=win_length, hop_length=hop_length
    )
    a, b = (
      jnp.maximum(jnp.abs(stft.stft(stft.pad_end(x, scale), scale)), log_floor)
      for x in (real, generated)
    )
    norm = jnp.sqrt(jnp.square(a).sum((1, 2)))
    convergence = _norm((a - b).reshape(len(a), -1)) / norm
    total += convergence + jnp.abs(jnp.log(a) - jnp.log(b)).mean((1, 2))
  return total / len(resolutions)


def discriminator_loss(
  real_logits: Sequence[Float[Array, "batch _"]],
  generated_logits: Sequence[Float[Array, "batch _"]],
) -> Float[Array, ""]:
  """Hinge loss of the discriminators: SoundStream, eq. 1.

  Returns:
    0 where all logits of real audio are above 1 and of generated below -1; 2
    for discriminators that know nothing and give 0.
  """
  return _mean_of_means(
    [jax.nn.relu(1 - logits) for logits in real_logits]
  ) + _mean_of_means([jax.nn.relu(1 + logits) for logits in generated_logits])


def adversarial_loss(
  generated_logits: Sequence[Float[Array, "batch _"]],
) -> Float[Array, ""]:
  """Hinge loss of the generator: SoundStream, eq. 2.

  Returns:
    0 where all logits are above 1.
  """
  return _mean_of_means(
    [jax.nn.relu(1 - logits) for logits in generated_logits]
  )


def feature_matching_loss(
  real_features: Sequence[Sequence[Float[Array, "batch ..."]]],
  generated_features: Sequence[Sequence[Float[Array, "batch ..."]]],
) -> Float[Array, ""]:
  """Mean absolute distance of what the discriminators' layers see.

  SoundStream, eq. 3: a mean over discriminators and layers, and in each layer
  over time (and here over its channels and frequencies, which the paper leaves
  open). No gradient goes to the features of the real audio.
  """
  distances = [
    [
      jnp.abs(jax.lax.stop_gradient(real) - generated)
      for real, generated in zip(reals, generateds, strict=True)
    ]
    for reals, generateds in zip(real_features, generated_features, strict=True)
  ]
  return jnp.mean(jnp.stack([_mean_of_means(layers) for layers in distances]))


def _mean_of_means(arrays: Sequence[Array]) -> Float[Array, ""]:
  return jnp.mean(jnp.stack([jnp.mean(array) for array in arrays]))


def _norm(x: Float[Array, "*batch length"]) -> Float[Array, "*batch"]:
  """The L2 norm of the last axis, whose gradient at 0 is 0."""
  squares = jnp.square(x).sum(-1)
  zero = squares == 0
  return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, squares)))
