"""Sinusoids in spectra: heard in audio, and drawn by inverse transforms.

Every bin of a transform has a sinusoid of its own, near its centre, whose phase
is the running sum of its frequency (McAulay and Quatieri 1986), drawn into the
spectrum as the main lobe of a window (Rodet and Depalle 1992).
"""

import dataclasses
from typing import NamedTuple

from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.inverter import stft

FARTHEST = 0.6
"""Farthest that a sinusoid lies from the centre of its bin, in bins."""


class Spectra(NamedTuple):
  """What the network says of each frame and bin of the transform.

  Attributes:
    log_gain: Of the sinusoid over the magnitude that the mel bins suggest.
    deviation: From the centre of the bin to the sinusoid, in bins.
    real: Real part of what is added, over that magnitude.
    imaginary: Imaginary part of it.
  """

  log_gain: Float[Array, "batch frames bins"]
  deviation: Float[Array, "batch frames bins"]
  real: Float[Array, "batch frames bins"]
  imaginary: Float[Array, "batch frames bins"]


def reassigned(
  samples: Float[Array, "batch samples"],
  num_frames: int,
  config: audio.SpectrogramConfig,
) -> tuple[
  Float[Array, "batch frames bins"], Float[Array, "batch frames bins"]
]:
  """Power of each bin, and the frequency that it hears.

  That is the reassigned one, from the transform under a window and under its
  derivative: Auger and Flandrin 1995, eq. 24.

  Args:
    samples: The audio, from half a transform before the centre of the first
      frame on; beyond its end is silence.
    num_frames: How many frames.
    config: The features; windows are as long as their transform.

  Returns:
    Squared magnitudes; and how far frequencies are from the centres, in bins.
  """
  size, hop = config.n_fft, config.hop_length
  missing = max(0, (num_frames - 1) * hop + size - samples.shape[1])
  samples = jnp.pad(samples, ((0, 0), (0, missing)))
  frames = jnp.stack(
    [samples[:, i * hop : i * hop + size] for i in range(num_frames)], axis=1
  )
  angle = 2 * np.pi * np.arange(size) / size
  window = np.float32(0.5 - 0.5 * np.cos(angle))
  slope = np.float32(np.pi / size * np.sin(angle))
  spectrum = jnp.fft.rfft(frames * window)
  sloped = jnp.fft.rfft(frames * slope)
  power = jnp.square(spectrum.real) + jnp.square(spectrum.imag) + 1e-9
  rate = (sloped.real * spectrum.imag - sloped.imag * spectrum.real) / power
  return power, rate * size / (2 * np.pi)


def running_phases(
  deviation: Float[Array, "batch frames bins"],
  start: Float[Array, "batch bins"],
  config: audio.SpectrogramConfig,
) -> Float[Array, "batch frames bins"]:
  """Phases of sinusoids in all frames, in cycles from 0 to 1.

  Between two frames, a sinusoid has the mean of their frequencies.

  Args:
    deviation: From the centre of each bin, in bins.
    start: Phases in the first frame, in cycles.
    config: The features.
  """
  num_frames, num_bins = deviation.shape[1:]
  hops_per_cycle = config.hop_length / config.n_fft
  advance = 0.5 * hops_per_cycle * (deviation[:, 1:] + deviation[:, :-1])
  advanced = jnp.pad(jnp.cumsum(advance, axis=1), ((0, 0), (1, 0), (0, 0)))
  # In whole numbers, so that nothing is lost in long blocks.
  steps = np.arange(num_frames)[:, None] * np.arange(num_bins)
  centre = steps * config.hop_length % config.n_fft / config.n_fft
  phases = start[:, None] + advanced + np.float32(centre)
  return phases - jnp.floor(phases)


def draw(
  spectra: Spectra,
  magnitude: Float[Array, "batch frames bins"],
  phases: Float[Array, "batch frames bins"],
  config: audio.SpectrogramConfig,
) -> Float[Array, "batch samples"]:
  """Sums the frames of sinusoids and of the free spectrum to samples.

  Each sinusoid becomes the five bins of the main lobe of a Hann window as long
  as the transform; in time, the frames are then brought to the shorter window.

  Args:
    spectra: What is drawn.
    magnitude: What its gains and its free spectrum are relative to.
    phases: Of the sinusoids, in cycles, as `running_phases` gives them.
    config: The features.

  Returns:
    One hop more than there are frames.
  """
  size, num_bins = config.n_fft, config.n_fft // 2 + 1
  # Frames are centred in the transform: a turn of half a cycle every bin.
  turned = phases + np.float32(0.5 * (np.arange(num_bins) % 2))
  amplitude = magnitude * jnp.exp(spectra.log_gain)

  def parts():
    peaks = amplitude * jnp.stack(_circle(turned - jnp.round(turned)))
    free = magnitude * jnp.stack([spectra.real, spectra.imaginary])
    return _lobes(peaks, spectra.deviation) + free

  # What is fused with the making of complex numbers, a CPU makes one by one.
  # XLA drops barriers before it fuses, but fuses nothing with a branch.
  real, imaginary = lax.cond(
    magnitude.max() <= 0, lambda: jnp.zeros((2, *magnitude.shape)), parts
  )
  spectrum = lax.complex(real, imaginary)
  frames = jnp.fft.irfft(spectrum, size)
  first = (size - config.win_length) // 2
  frames = frames[..., first : first + config.win_length]
  long_window = audio.window(dataclasses.replace(config, win_length=size))
  long_window = long_window[first : first + config.win_length]
  window = audio.window(config) / np.maximum(long_window, 1e-3)
  return stft.overlap_add(frames * window, config)


def _polynomial(function, largest, degree):
  """Coefficients of a polynomial nearly equal to a function on [0, largest]."""
  places = np.linspace(0.0, largest, 4001)
  fitted = np.polynomial.Chebyshev.fit(places, function(places), degree)
  return fitted.convert(kind=np.polynomial.Polynomial).coef.astype(np.float32)


# Of squares. XLA's own functions take a CPU ten times as long, and are computed
# anew for each of their uses.
_COSINE = _polynomial(lambda x: np.cos(2 * np.pi * np.sqrt(x)), 0.25, 7)
_SINE = _polynomial(
  lambda x: 2 * np.pi * np.sinc(2 * np.sqrt(x)), 0.25, 7
)  # Over the angle.
_SINC = _polynomial(lambda x: np.sinc(np.sqrt(x)), FARTHEST**2, 6)


def _circle(turns):
  """Cosine and sine of -0.5 to 0.5 turns, to 1e-6."""
  squares = jnp.square(turns)
  return _at(_COSINE, squares), turns * _at(_SINE, squares)


def _at(coefficients, x):
  """A polynomial's values, by Horner's rule."""
  value = jnp.full_like(x, coefficients[-1])
  for coefficient in coefficients[-2::-1]:
    value = value * x + coefficient
  return value


def _lobes(peaks, deviation):
  """Draws every peak into its bin and two neighbours on each side.

  The transform of a centred Hann window d bins from its peak is
  sinc(d) / (1 - d^2), here with the sign of the half turn between bins.
  """
  right, left = 2 - deviation, 2 + deviation
  sinc = _at(_SINC, jnp.square(deviation))
  near_right = sinc / ((1 - deviation) * right)
  near_left = sinc / ((1 + deviation) * left)
  weights = {
    0: sinc / (1 - deviation**2),
    1: -near_right,
    -1: -near_left,
    2: deviation * near_right / (3 - deviation),
    -2: -deviation * near_left / (3 + deviation),
  }
  num_bins = peaks.shape[-1]
  total = jnp.zeros_like(peaks)
  for shift, weight in weights.items():
    around = [(0, 0)] * (peaks.ndim - 1) + [(max(shift, 0), max(-shift, 0))]
    padded = jnp.pad(peaks * weight, around)
    start = max(-shift, 0)
    total += padded[..., start : start + num_bins]
  return total
