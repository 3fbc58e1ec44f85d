"""Facts about `evaluation.distances`."""

import numpy as np

from music_spectrogram_diffusion.evaluation import distances


def test_log_mel_distance_of_a_constant_offset_is_the_offset():
  log_mel = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
  assert distances.log_mel_distance(log_mel, log_mel) == 0
  np.testing.assert_allclose(
    distances.log_mel_distance(log_mel, log_mel - 0.5), 0.5, rtol=1e-6
  )
