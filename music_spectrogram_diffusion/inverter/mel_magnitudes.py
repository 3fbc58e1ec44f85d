"""Magnitudes of spectra that mel magnitudes ask for."""

from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Complex, Float, Float32
import numpy as np

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.inverter import stft

_LARGEST_GAIN = 30.0  # At once.
_EPSILON = 1e-6
_FLOOR = 1e-7


def spread_mel(
  mel: Float[Array, "*batch mel_bins"], config: audio.SpectrogramConfig
) -> Float[Array, "*batch bins"]:
  """Linear magnitudes that mel magnitudes suggest: each spread evenly."""
  matrix = audio.mel_matrix(config)
  per_mel = np.maximum(matrix.sum(0), _EPSILON)  # Some hold no bin.
  linear = jnp.matmul(
    mel, (matrix / per_mel).T * _per_bin(config), precision="highest"
  )
  return jnp.maximum(linear, _FLOOR)


def ratio_to(
  mel: Float[Array, "*batch mel_bins"],
  spectrum: Complex[Array, "*batch bins"],
  config: audio.SpectrogramConfig,
) -> Float[Array, "*batch mel_bins"]:
  """How much more a mel bin asks for than a complex spectrum has there."""
  power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
  found = jnp.sqrt(power + 1e-12) @ audio.mel_matrix(config)
  return (mel + config.log_floor) / (found + config.log_floor)


def to_bins(
  config: audio.SpectrogramConfig,
) -> Float32[np.ndarray, "mel_bins bins"]:
  """Matrix that takes a figure of each mel bin to the transform's bins.

  Each bin gets the mean over the mel bins that hear it; 0 where none does.
  """
  return np.float32(audio.mel_matrix(config).T * _per_bin(config))


def gain_of(
  ratio: Float[Array, "*batch mel_bins"], config: audio.SpectrogramConfig
) -> Float[Array, "*batch bins"]:
  """Gain of each bin of the transform, of a `ratio_to`; not without end."""
  return jnp.clip(ratio @ to_bins(config), 0.0, _LARGEST_GAIN)


def correct(
  samples: Float[Array, "*batch samples"],
  mel: Float[Array, "*batch frames mel_bins"],
  config: audio.SpectrogramConfig,
) -> Float[Array, "*batch inner_samples"]:
  """Scales the spectrum of samples so that it has nearly these mel magnitudes.

  Phases stay as they are, as in Griffin and Lim 1984.

  Args:
    samples: One hop more than there are frames.
    mel: Mel magnitudes of the frames that lie within the samples.
    config: The features; frames overlap by half.

  Returns:
    The samples without the first and the last hop.
  """
  spectrum = stft.stft(samples, config)
  ratio = ratio_to(mel, spectrum, config)
  gain = gain_of(ratio, config)
  scaled = lax.complex(gain * spectrum.real, gain * spectrum.imag)
  corrected = stft.inverse_stft(scaled, config)
  return corrected[..., config.hop_length : -config.hop_length]


def _per_bin(config):
  """One over how much weight each bin of the transform has in all mel bins."""
  weight = audio.mel_matrix(config).sum(1)
  heard = weight > 0
  return np.where(heard, 1.0 / np.where(heard, weight, 1.0), 0.0)
