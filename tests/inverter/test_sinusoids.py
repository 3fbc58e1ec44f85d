from jax import numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.inverter import sinusoids

CONFIG = audio.SpectrogramConfig(
  sample_rate=8000,
  hop_length=80,
  win_length=160,
  n_fft=256,
  n_mels=32,
  fmax=4000.0,
)
BINS = CONFIG.n_fft // 2 + 1


def test_polynomials_are_the_functions_that_they_stand_for():
  turns = np.linspace(-0.5, 0.5, 2001, dtype=np.float32)
  cosine, sine = sinusoids._circle(jnp.asarray(turns))
  angle = 2 * np.pi * turns.astype(np.float64)
  np.testing.assert_allclose(cosine, np.cos(angle), atol=1e-6)
  np.testing.assert_allclose(sine, np.sin(angle), atol=1e-6)
  far = sinusoids.FARTHEST
  deviations = np.linspace(-far, far, 501, dtype=np.float32)
  squares = jnp.square(jnp.asarray(deviations))
  np.testing.assert_allclose(
    sinusoids._at(sinusoids._SINC, squares),
    np.sinc(deviations.astype(np.float64)),
    atol=3e-7,
  )


def test_lobes_are_the_transform_of_a_windowed_sinusoid():
  peak, deviation, angle = 40, 0.3, 0.7
  n = np.arange(256) - 128
  window = 0.5 + 0.5 * np.cos(2 * np.pi * n / 256)
  tone = np.exp(1j * (2 * np.pi * (peak + deviation) * n / 256 + angle))
  # The frame is centred: every other bin is turned by half a cycle.
  expected = np.fft.fft(window * tone)[:BINS] / 128
  turned = (-1.0) ** peak * np.exp(1j * angle)
  one = jnp.zeros((1, 1, BINS)).at[..., peak].set(1.0)
  deviations = jnp.full((1, 1, BINS), deviation)
  real, imaginary = (
    np.asarray(sinusoids._lobes(one * np.float32(part), deviations))
    for part in (np.real(turned), np.imag(turned))
  )
  drawn = real + 1j * imaginary
  lobe = slice(peak - 2, peak + 3)
  np.testing.assert_allclose(drawn[0, 0, lobe], expected[lobe], atol=1e-5)
  assert np.count_nonzero(drawn) == 5


@pytest.mark.parametrize("magnitude", [0.0, np.nan])
def test_silence_is_zeros_and_nan_is_not_silence(magnitude):
  ones = jnp.ones((1, 3, BINS))
  spectra = sinusoids.Spectra(ones, 0.1 * ones, ones, ones)
  drawn = sinusoids.draw(spectra, magnitude * ones, 0.3 * ones, CONFIG)
  np.testing.assert_array_equal(drawn, magnitude)


@pytest.mark.parametrize("deviation", [0.0, 0.25, -0.5])
def test_a_constant_frequency_is_a_steady_tone(deviation):
  peak, num_frames = 30, 40
  log_gain = np.full((1, num_frames, BINS), -np.inf, np.float32)
  log_gain[..., peak] = 0.0
  zeros = jnp.zeros((1, num_frames, BINS))
  spectra = sinusoids.Spectra(
    jnp.asarray(log_gain), jnp.full_like(zeros, deviation), zeros, zeros
  )
  phases = sinusoids.running_phases(
    spectra.deviation, jnp.zeros((1, BINS)), CONFIG
  )
  samples = sinusoids.draw(spectra, jnp.ones_like(zeros), phases, CONFIG)
  inner = np.asarray(samples)[0, CONFIG.hop_length : -CONFIG.hop_length]
  # Phase 0 at the centre of the first frame, which is one hop from its start.
  time = np.arange(len(inner))
  tone = np.cos(2 * np.pi * (peak + deviation) / CONFIG.n_fft * time)
  level = np.abs(inner).max()
  np.testing.assert_allclose(inner, level * tone, atol=0.03 * level)
