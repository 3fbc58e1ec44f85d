"""Facts about `evaluation.embedding_audio`."""

import numpy as np
import pytest

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.evaluation import embedding_audio

# Ten minutes are few samples.
SLOW = audio.SpectrogramConfig(
  sample_rate=50, hop_length=2, win_length=4, n_fft=4, n_mels=2, fmax=25.0
)


def test_the_first_ten_minutes_count():
  samples = np.arange(50 * 601, dtype=np.float32)
  prepared = embedding_audio.prepare_audio(samples, SLOW, 50)
  np.testing.assert_array_equal(prepared, samples[: 50 * 600])


def test_audio_comes_at_the_rate_of_the_embedding():
  samples = np.ones(500, np.float32)
  assert embedding_audio.prepare_audio(samples, SLOW, 150).shape == (1500,)


def test_audio_that_is_not_finite_is_named_by_its_place():
  samples = np.zeros(500, np.float32)
  samples[125] = np.nan
  with pytest.raises(ValueError, match="NaN or infinity at 2.50 s"):
    embedding_audio.prepare_audio(samples, SLOW, 50)
