"""Log-mel features, against TensorFlow's and against what theory says."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.audio import spectrogram

CONFIG = audio.SpectrogramConfig()
REFERENCE = pathlib.Path(__file__).parents[1] / "data/log_mel_reference.npz"


def load_reference():
  """Tones, a gap of silence and noise, and TensorFlow's features of them."""
  with np.load(REFERENCE) as file:
    samples = file["samples"].astype(np.float32) / 32_768
    return samples, file["log_mel"]


def noise(*shape):
  samples = 0.1 * np.random.default_rng(0).normal(size=shape)
  return samples.astype(np.float32)


@pytest.mark.parametrize("to_array", [np.asarray, jnp.asarray])
def test_log_mel_equals_saved_values_of_tensorflow(to_array):
  samples, expected = load_reference()
  log_mel = audio.log_mel(to_array(samples), CONFIG)
  assert isinstance(log_mel, type(to_array(samples)))
  np.testing.assert_allclose(log_mel, expected, atol=1e-4)


def test_log_mel_and_mel_matrix_equal_tensorflow():
  tf = pytest.importorskip("tensorflow")
  samples = noise(5, 3333)
  matrix = tf.signal.linear_to_mel_weight_matrix(
    CONFIG.n_mels, CONFIG.n_fft // 2 + 1, CONFIG.sample_rate, 0.0, 8_000.0
  )
  spectrum = tf.signal.stft(
    samples,
    frame_length=CONFIG.win_length,
    frame_step=CONFIG.hop_length,
    fft_length=CONFIG.n_fft,
    pad_end=True,
  )
  mel = tf.clip_by_value(tf.abs(spectrum) @ matrix, 1e-5, 1e8)
  expected = tf.math.log(mel).numpy()
  np.testing.assert_allclose(audio.mel_matrix(CONFIG), matrix, atol=3e-5)
  np.testing.assert_allclose(
    audio.log_mel(samples, CONFIG), expected, atol=1e-4
  )


@pytest.mark.parametrize(
  "settings",
  [
    {},
    {"hop_length": 160},
    {"hop_length": 250},  # Does not divide the window.
    {"hop_length": 800, "n_mels": 40, "fmin": 50.0, "fmax": 4_000.0},
  ],
)
def test_jax_equals_numpy_for_every_layout(settings):
  config = audio.SpectrogramConfig(**settings)
  samples = noise(2, 3, 5001)
  log_mel = audio.log_mel(samples, config)
  assert log_mel.shape == (2, 3, config.num_frames(5001), config.n_mels)
  traced = jax.jit(lambda samples: audio.log_mel(samples, config))
  np.testing.assert_allclose(traced(jnp.asarray(samples)), log_mel, atol=1e-4)


@pytest.mark.parametrize("hop_length", [250, 320, 800])
def test_frame_t_sees_samples_from_t_hops_on(hop_length):
  config = audio.SpectrogramConfig(hop_length=hop_length)
  samples = noise(6 * hop_length)
  alone = samples[2 * hop_length :][: config.win_length]
  np.testing.assert_allclose(
    audio.log_mel(samples, config)[2],
    audio.log_mel(alone, config)[0],
    atol=1e-4,
  )


@pytest.mark.parametrize(
  "num_samples, num_frames", [(0, 0), (1, 1), (320, 1), (321, 2), (640, 2)]
)
def test_there_are_as_many_frames_as_hops_that_have_begun(
  num_samples, num_frames
):
  for samples in [noise(num_samples), jnp.asarray(noise(num_samples))]:
    assert audio.log_mel(samples, CONFIG).shape == (num_frames, 128)
  assert CONFIG.num_frames(num_samples) == num_frames


def test_blocks_of_a_long_signal_leave_no_trace():
  frames = spectrogram._BLOCK_FRAMES + 3
  samples = noise(frames * CONFIG.hop_length)
  tail = audio.log_mel(samples[-4 * CONFIG.hop_length :], CONFIG)
  np.testing.assert_allclose(
    audio.log_mel(samples, CONFIG)[-4:], tail, atol=1e-4
  )


def test_a_tone_peaks_in_the_bin_of_its_frequency():
  time = np.arange(16_000) / CONFIG.sample_rate
  centers_hz = 700 * np.expm1(
    np.linspace(0, 1127 * np.log1p(8_000 / 700), 130)[1:-1] / 1127
  )
  for mel_bin in [20, 64, 120]:
    tone = np.sin(2 * np.pi * centers_hz[mel_bin] * time)
    log_mel = audio.log_mel(tone.astype(np.float32), CONFIG)
    assert log_mel[10].argmax() == mel_bin


def test_doubling_the_amplitude_adds_ln_2():
  louder = audio.log_mel(2 * noise(3200), CONFIG)
  np.testing.assert_allclose(
    louder - audio.log_mel(noise(3200), CONFIG), np.log(2), atol=1e-4
  )


def test_silence_is_minus_one_and_has_a_finite_gradient():
  silence = jnp.zeros(1600)
  scaled = audio.scale_log_mel(audio.log_mel(silence, CONFIG), CONFIG)
  np.testing.assert_allclose(scaled, -1.0, atol=1e-6)
  gradient = jax.grad(lambda x: audio.log_mel(x, CONFIG).sum())(silence)
  assert jnp.isfinite(gradient).all()


def test_scaling_is_undone_and_clips_only_when_asked():
  low, high = CONFIG.mel_range
  log_mel = np.array([low, (low + high) / 2, high, high + 3], np.float32)
  scaled = audio.scale_log_mel(log_mel, CONFIG)
  np.testing.assert_allclose(scaled[:3], [-1, 0, 1], atol=1e-6)
  assert scaled[3] > 1 and scaled.dtype == np.float32
  np.testing.assert_allclose(
    audio.unscale_log_mel(scaled, CONFIG), log_mel, atol=1e-5
  )
  clipped = audio.scale_log_mel(log_mel, CONFIG, clip=True)
  np.testing.assert_allclose(clipped, [-1, 0, 1, 1], atol=1e-6)


def test_every_mel_bin_hears_something_and_dc_is_not_heard():
  matrix = audio.mel_matrix(CONFIG)
  assert (matrix.sum(axis=0) > 0).all()
  assert (matrix[0] == 0).all() and matrix.max() <= 1


@pytest.mark.parametrize(
  "settings, reason",
  [
    ({"win_length": 2048}, "win_length"),
    ({"hop_length": 0}, "hop_length"),
    ({"fmax": 9_000.0}, "fmax"),
    ({"fmin": 8_000.0}, "fmin"),
    ({"log_floor": 0.0}, "log_floor"),
  ],
)
def test_impossible_configs_are_refused(settings, reason):
  with pytest.raises(ValueError, match=reason):
    audio.SpectrogramConfig(**settings)
