"""The contract of inverters, and the checks that they share."""

import numpy as np
import pytest

from music_spectrogram_diffusion import audio, inverter

CONFIG = audio.SpectrogramConfig()


def zeros(num_frames, n_mels=CONFIG.n_mels):
  return np.zeros((num_frames, n_mels), np.float32)


def test_griffin_lim_is_an_inverter():
  assert isinstance(inverter.GriffinLim(CONFIG), inverter.Inverter)


@pytest.mark.parametrize("shape", [(), (128,), (2, 5, 128)])
def test_what_is_no_matrix_is_told(shape):
  with pytest.raises(ValueError, match=r"\[frames, mel_bins\], got the shape"):
    inverter.check_log_mel(np.zeros(shape, np.float32), CONFIG)


def test_a_wrong_number_of_bins_and_nan_are_refused():
  with pytest.raises(ValueError, match="128 bins a frame, got 80"):
    inverter.check_log_mel(zeros(4, 80), CONFIG)
  broken = zeros(4)
  broken[2, 5] = np.nan
  with pytest.raises(ValueError, match="NaN"):
    inverter.GriffinLim(CONFIG)(broken)


def test_values_are_limited_to_what_audio_reaches():
  extreme = zeros(2)
  extreme[0], extreme[1] = -np.inf, 1e9
  limited = inverter.check_log_mel(extreme, CONFIG)
  np.testing.assert_allclose(limited[0], CONFIG.mel_range[0], rtol=1e-6)
  assert np.isfinite(np.exp(limited)).all()
  square = np.sign(np.sin(np.arange(16_000) * 0.3)).astype(np.float32)
  loudest = audio.log_mel(square, CONFIG)
  unchanged = inverter.check_log_mel(loudest, CONFIG)
  np.testing.assert_allclose(unchanged, loudest, atol=1e-6)


def test_blocks_hold_the_frames_of_the_chunks_in_order():
  frames = np.arange(50, dtype=np.float32)[:, None]
  chunks = np.split(frames, [0, 3, 4, 30, 30, 47])
  blocks = list(inverter.cut_into_blocks(chunks, 8))
  assert [len(block) for block in blocks] == [8] * 6 + [2]
  np.testing.assert_array_equal(np.concatenate(blocks), frames)
  assert not list(inverter.cut_into_blocks([], 8))
