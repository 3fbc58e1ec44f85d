"""Griffin-Lim: transforms, mel inversion, convergence, joins and streams."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion import audio, inverter
from music_spectrogram_diffusion.inverter import griffin_lim

CONFIG = audio.SpectrogramConfig(
  sample_rate=8_000,
  hop_length=160,
  win_length=320,
  n_fft=512,
  n_mels=64,
  fmax=4_000.0,
)
BLOCK = 32
HOP = CONFIG.hop_length


def make_inverter(**settings):
  return inverter.GriffinLim(CONFIG, **({"block_frames": BLOCK} | settings))


def chord(num_frames):
  """Decaying harmonic notes over noise, from the first sample on."""
  time = np.arange(num_frames * HOP) / CONFIG.sample_rate
  samples = 0.01 * np.random.default_rng(0).normal(size=time.shape)
  for pitch_hz, harmonic in itertools.product(
    [220.0, 277.2, 329.6], range(1, 9)
  ):
    partial = np.sin(2 * np.pi * pitch_hz * harmonic * time + harmonic)
    samples += 0.1 * 0.7**harmonic * np.exp(-(time % 0.5)) * partial
  return samples.astype(np.float32)


def mel_distance(samples, log_mel):
  """Mean absolute distance in each frame; the last one hears the cut."""
  return np.abs(audio.log_mel(samples, CONFIG) - log_mel)[:-1].mean(axis=1)


def test_linear_magnitudes_have_the_mel_magnitudes_they_came_from():
  mel = jnp.exp(jnp.asarray(audio.log_mel(chord(20), CONFIG)))
  linear = griffin_lim.mel_to_linear(mel, CONFIG)
  matrix = audio.mel_matrix(CONFIG)
  np.testing.assert_allclose(jnp.log(linear @ matrix), jnp.log(mel), atol=0.1)
  assert (linear >= 0).all()
  assert (linear[:, matrix.sum(axis=1) == 0] == 0).all()


def test_audio_is_heard_again_in_what_its_spectrogram_gives():
  log_mel = audio.log_mel(chord(3 * BLOCK), CONFIG)
  assert mel_distance(make_inverter()(log_mel), log_mel)[2:].mean() < 0.06


def test_iterations_and_momentum_bring_the_spectrogram_nearer():
  log_mel = audio.log_mel(chord(BLOCK), CONFIG)
  distances = [
    mel_distance(make_inverter(**settings)(log_mel), log_mel).mean()
    for settings in [
      {"num_iterations": 1},
      {"num_iterations": 32, "momentum": 0.0},
      {"num_iterations": 32},
    ]
  ]
  assert distances == sorted(distances, reverse=True)
  assert distances[-1] < 0.5 * distances[0]


def test_joins_are_as_smooth_and_as_true_as_the_rest():
  invert = make_inverter()
  log_mel = audio.log_mel(chord(12 * BLOCK), CONFIG)
  samples = invert(log_mel)
  bends = np.diff(samples, 2) ** 2
  at_hops = np.array(
    [bends[i - 4 : i + 3].max() for i in range(HOP, len(bends) - 4, HOP)]
  )
  first = np.arange(BLOCK, 12 * BLOCK, BLOCK)  # New frames of each block.
  joins = np.concatenate([first - invert.held_frames, first])
  others = np.delete(at_hops, joins - 1)
  assert np.median(at_hops[joins - 1]) < 1.5 * np.median(others)
  assert at_hops[joins - 1].max() <= others.max()
  distance = mel_distance(samples, log_mel)
  near = joins[:, None] + np.arange(-1, 1)
  assert distance[near].mean() < 1.2 * distance.mean()


def test_a_tone_goes_through_joins_without_losing_a_beat():
  time = np.arange(8 * BLOCK * HOP) / CONFIG.sample_rate
  tone = 0.3 * np.sin(2 * np.pi * 450.0 * time).astype(np.float32)
  samples = make_inverter()(audio.log_mel(tone, CONFIG))
  samples = samples[HOP:-HOP]  # It fades in, as silence goes before.
  crossings = np.flatnonzero(np.diff(np.signbit(samples)))
  assert np.diff(crossings).max() < 2 * 8_000 / 900


@pytest.mark.parametrize("chunk_frames", [1, BLOCK - 5, BLOCK, 3 * BLOCK])
def test_chunks_of_any_length_give_the_samples_of_the_whole(chunk_frames):
  invert = make_inverter(num_iterations=4)
  log_mel = audio.log_mel(chord(2 * BLOCK + 7), CONFIG)
  starts = range(0, len(log_mel), chunk_frames)
  chunks = [log_mel[start : start + chunk_frames] for start in starts]
  streamed = np.concatenate(list(invert.stream(chunks)))
  np.testing.assert_array_equal(streamed, invert(log_mel))


@pytest.mark.parametrize(
  "num_frames", [0, 1, 3, 4, 5, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 2]
)
def test_every_frame_gives_a_hop_of_samples(num_frames):
  log_mel = np.zeros((num_frames, CONFIG.n_mels), np.float32)
  samples = make_inverter(num_iterations=1)(log_mel)
  assert samples.shape == (num_frames * HOP,) and samples.dtype == np.float32
  assert np.isfinite(samples).all()


def test_a_stream_asks_for_no_more_than_one_block_at_a_time():
  asked = []

  def endless():
    for index in itertools.count():
      asked.append(index)
      yield np.zeros((BLOCK, CONFIG.n_mels), np.float32)

  invert = make_inverter(num_iterations=1)
  stream = invert.stream(endless())
  held = invert.held_frames * HOP
  assert len(next(stream)) == BLOCK * HOP - held and len(asked) == 1
  assert len(next(stream)) == BLOCK * HOP and len(asked) == 2


def test_silence_gives_silence():
  low, _ = CONFIG.mel_range
  silence = np.full((BLOCK + 5, CONFIG.n_mels), low, np.float32)
  assert np.abs(make_inverter()(silence)).max() < 1e-5


def test_equal_seeds_give_equal_samples_and_other_seeds_others():
  log_mel = audio.log_mel(chord(BLOCK), CONFIG)
  samples = make_inverter(num_iterations=2)(log_mel)
  again = make_inverter(num_iterations=2)(jnp.asarray(log_mel))
  np.testing.assert_array_equal(samples, again)
  other = make_inverter(num_iterations=2, seed=1)(log_mel)
  assert not np.array_equal(samples, other)


@pytest.mark.parametrize(
  "settings",
  [
    {"num_iterations": 0},
    {"momentum": -0.1},
    {"held_frames": 0},
    {"held_frames": BLOCK},
    {"config": audio.SpectrogramConfig(hop_length=400)},
  ],
)
def test_impossible_settings_are_refused(settings):
  with pytest.raises(ValueError, match="Expected"):
    inverter.GriffinLim(
      **({"config": CONFIG, "block_frames": BLOCK} | settings)
    )
