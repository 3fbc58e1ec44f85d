"""Facts about `evaluation.distances`."""

import jax
import numpy as np
import pytest

from music_spectrogram_diffusion import audio, inverter
from music_spectrogram_diffusion.evaluation import distances


@pytest.fixture(scope="module")
def pair():
  """Two pieces of audio that have something in common."""
  rng = np.random.default_rng(0)
  a, b = 0.1 * rng.normal(size=(2, 5003)).astype(np.float32)
  return a, 0.5 * a + b


def test_reconstruction_is_the_mean_over_time_of_the_distances():
  reference = np.zeros((2, 2), np.float32)
  estimate = np.array([[3.0, 4.0], [6.0, 8.0]], np.float32)
  assert distances.reconstruction_distance(reference, estimate) == 7.5
  assert distances.reconstruction_distance(estimate, estimate) == 0


@pytest.mark.parametrize("longer", ["reference", "estimate"])
def test_embeddings_beyond_the_common_part_are_told_of(longer):
  short, long = np.zeros((2, 3)), np.ones((7, 3))
  pair = (long, short) if longer == "reference" else (short, long)
  with pytest.warns(UserWarning, match="first 2 are compared"):
    distance = distances.reconstruction_distance(*pair)
  np.testing.assert_allclose(distance, 3**0.5)


def test_log_mel_distance_of_a_constant_offset_is_the_offset():
  log_mel = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
  assert distances.log_mel_distance(log_mel, log_mel) == 0
  np.testing.assert_allclose(
    distances.log_mel_distance(log_mel, log_mel - 0.5), 0.5, rtol=1e-6
  )


def test_log_mel_frames_beyond_the_common_part_are_told_of():
  log_mel = np.random.default_rng(0).normal(size=(2, 7, 4)).astype(np.float32)
  with pytest.warns(UserWarning, match="estimate has 5 frames.*reference 7"):
    distance = distances.log_mel_distance(log_mel, log_mel[:, :5] + 0.5)
  np.testing.assert_allclose(distance, 0.5, rtol=1e-6)


def test_the_stft_distance_is_the_one_that_inverters_are_judged_by(
  pair, monkeypatch
):
  # Blocks of a few frames, so that their sums are put together too.
  monkeypatch.setattr(distances, "_BLOCK_FRAMES", 7)
  reference, estimate = pair
  distance = jax.jit(inverter.stft_distance, static_argnums=2)
  expected = distance(
    reference[None], estimate[None], audio.SpectrogramConfig()
  )
  np.testing.assert_allclose(
    distances.multi_resolution_stft_distance(reference, estimate),
    expected[0],
    rtol=1e-5,
  )


def test_the_stft_distance_of_equal_audio_is_zero(pair):
  for samples in (*pair, np.zeros(300, np.float32)):
    assert distances.multi_resolution_stft_distance(samples, samples) == 0


def test_the_stft_distance_of_audio_turned_down_is_what_one_computes():
  # Far above the floor, half the amplitude is half of each magnitude: a
  # convergence of 1/2, and ln 2 in every bin.
  samples = np.random.default_rng(0).normal(size=4000).astype(np.float32)
  loud = 1000 * samples
  np.testing.assert_allclose(
    distances.multi_resolution_stft_distance(loud, loud / 2),
    0.5 + np.log(2),
    rtol=1e-3,
  )


def test_audio_beyond_the_common_part_is_told_of(pair):
  reference, estimate = pair
  expected = distances.multi_resolution_stft_distance(
    reference[:4000], estimate[:4000]
  )
  with pytest.warns(UserWarning, match="estimate has 4000 samples.*5003"):
    distance = distances.multi_resolution_stft_distance(
      reference, estimate[:4000]
    )
  assert distance == expected


def test_what_cannot_be_compared_is_named(pair):
  embeddings = np.ones((4, 3))
  damaged = embeddings.copy()
  damaged[2, 1] = np.nan
  with pytest.raises(ValueError, match="of 3 dimensions.*got 2"):
    distances.reconstruction_distance(embeddings, np.ones((4, 2)))
  with pytest.raises(
    ValueError, match="got 4 of the reference and 0 of the es"
  ):
    distances.reconstruction_distance(embeddings, embeddings[:0])
  with pytest.raises(ValueError, match="finite embeddings.*in the estimate"):
    distances.reconstruction_distance(embeddings, damaged)
  with pytest.raises(ValueError, match="finite frames.*in the reference"):
    distances.log_mel_distance(damaged, embeddings)
  with pytest.raises(ValueError, match="finite samples.*in the estimate"):
    distances.multi_resolution_stft_distance(pair[0], pair[0] * np.nan)
