"""Transforms against the features and SciPy, and there and back."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.inverter import stft

CONFIG = audio.SpectrogramConfig()
SAMPLES = np.random.default_rng(0).normal(size=(3, 2, 6400)).astype(np.float32)


@pytest.mark.parametrize("hop_length", [100, 320])
def test_the_inverse_transform_gives_back_the_signal(hop_length):
  config = dataclasses.replace(CONFIG, hop_length=hop_length)
  samples = SAMPLES[..., : 40 * hop_length]
  back = stft.inverse_stft(stft.stft(jnp.asarray(samples), config), config)
  middle = np.s_[..., config.win_length : -config.win_length]
  np.testing.assert_allclose(
    back[..., : samples.shape[-1]][middle], samples[middle], atol=1e-4
  )


def test_the_transform_is_the_one_of_the_features():
  padded = stft.pad_end(jnp.asarray(SAMPLES), CONFIG)
  mel = np.abs(stft.stft(padded, CONFIG)) @ audio.mel_matrix(CONFIG)
  np.testing.assert_allclose(
    np.log(mel), audio.log_mel(SAMPLES, CONFIG), atol=1e-3
  )


def test_the_transform_is_the_one_of_scipy():
  window = scipy.signal.get_window("hann", CONFIG.win_length)
  transform = scipy.signal.ShortTimeFFT(
    window, CONFIG.hop_length, 1.0, mfft=CONFIG.n_fft
  )
  found = stft.stft(jnp.asarray(SAMPLES[0, 0]), CONFIG)
  # Its frame p is centred at p * hop, and its phase counts from the centre.
  first = -(-CONFIG.win_length // 2 // CONFIG.hop_length)
  expected = transform.stft(SAMPLES[0, 0], p0=first, p1=first + len(found)).T
  np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=2e-3)


@pytest.mark.parametrize("num_samples, frames", [(1, 1), (320, 1), (321, 2)])
def test_padding_lets_a_frame_begin_at_every_hop(num_samples, frames):
  padded = stft.pad_end(jnp.ones(num_samples), CONFIG)
  assert stft.stft(padded, CONFIG).shape == (frames, CONFIG.n_fft // 2 + 1)


def test_overlap_add_sums_frames_a_hop_apart():
  config = audio.SpectrogramConfig(
    hop_length=2, win_length=3, n_fft=4, n_mels=1
  )
  frames = np.array([[1.0, 2, 3], [10, 20, 30]], np.float32)
  np.testing.assert_array_equal(
    stft.overlap_add(frames, config), [1, 2, 13, 20, 30, 0]
  )
