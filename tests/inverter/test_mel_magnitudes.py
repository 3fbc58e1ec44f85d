"""Magnitudes of spectra and the mel magnitudes that ask for them."""

import jax.numpy as jnp
import numpy as np

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.inverter import mel_magnitudes

CONFIG = audio.SpectrogramConfig()
HOP = CONFIG.hop_length


def test_a_correction_brings_the_wanted_magnitudes_nearer():
  rng = np.random.default_rng(0)
  samples = jnp.asarray(rng.normal(0, 0.1, (1, 20 * HOP)), jnp.float32)
  wanted_samples = samples * jnp.linspace(0.2, 2.0, 20 * HOP)

  def mel_of(x):
    return np.exp(audio.log_mel(x, CONFIG))[:, : x.shape[1] // HOP - 1]

  wanted = mel_of(wanted_samples)
  corrected = mel_magnitudes.correct(samples, jnp.asarray(wanted), CONFIG)
  before = np.abs(np.log(mel_of(samples)[:, 1:-1] / wanted[:, 1:-1])).mean()
  after = np.abs(np.log(mel_of(corrected) / wanted[:, 1:-1])).mean()
  assert after < 0.4 * before


def test_spread_magnitudes_have_the_mel_bins_they_come_from_roughly():
  mel = np.exp(np.linspace(0.0, 2.0, 128)).astype(np.float32)
  linear = mel_magnitudes.spread_mel(jnp.asarray(mel), CONFIG)
  again = np.asarray(linear) @ audio.mel_matrix(CONFIG)
  held = audio.mel_matrix(CONFIG).sum(0) > 0.5
  np.testing.assert_allclose(again[held], mel[held], rtol=0.15)
