"""Magnitudes of spectra and the mel magnitudes that ask for them."""

import jax.numpy as jnp
import numpy as np

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.inverter import mel_magnitudes

CONFIG = audio.SpectrogramConfig()
HOP = CONFIG.hop_length


def test_a_correction_brings_the_wanted_magnitudes_nearer():
  samples, wanted = _noise_and_wanted()
  corrected = mel_magnitudes.correct(samples, wanted, CONFIG)
  assert _distance(corrected, wanted, 1) < 0.4 * _distance(samples, wanted, 0)


def test_refinements_bring_them_nearer_than_as_many_corrections():
  samples, _ = _noise_and_wanted()
  wanted = _mel(_noise(seed=1))  # Phases that do not fit.
  samples = mel_magnitudes.correct(samples, wanted, CONFIG)
  wanted = wanted[:, 1:-1]
  refined = mel_magnitudes.refine(samples, wanted, CONFIG, times=3)
  corrected = samples
  for i in range(3):
    inner = wanted[:, i : wanted.shape[1] - i]
    corrected = mel_magnitudes.correct(corrected, inner, CONFIG)
  assert refined.shape == corrected.shape
  far = _distance(corrected, wanted, 3)
  assert _distance(refined, wanted, 3) < 0.85 * far


def test_no_refinement_leaves_samples_as_they_are():
  samples, wanted = _noise_and_wanted()
  same = mel_magnitudes.refine(samples, wanted, CONFIG, times=0)
  np.testing.assert_array_equal(same, samples)


def _noise_and_wanted():
  """Noise, and the mel magnitudes of the same that grows louder."""
  samples = _noise(seed=0)
  return samples, _mel(samples * jnp.linspace(0.2, 2.0, 20 * HOP))


def _noise(seed):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(0, 0.1, (1, 20 * HOP)), jnp.float32)


def _distance(samples, wanted, less):
  """In nats; of samples that lack `less` hops at both ends."""
  inner = wanted[:, less : wanted.shape[1] - less]
  return float(jnp.abs(jnp.log(_mel(samples) / inner)).mean())


def _mel(samples):
  """Mel magnitudes of the frames that lie within."""
  return jnp.exp(audio.log_mel(samples, CONFIG))[:, :-1]


def test_spread_magnitudes_have_the_mel_bins_they_come_from_roughly():
  mel = np.exp(np.linspace(0.0, 2.0, 128)).astype(np.float32)
  linear = mel_magnitudes.spread_mel(jnp.asarray(mel), CONFIG)
  again = np.asarray(linear) @ audio.mel_matrix(CONFIG)
  held = audio.mel_matrix(CONFIG).sum(0) > 0.5
  np.testing.assert_allclose(again[held], mel[held], rtol=0.15)
