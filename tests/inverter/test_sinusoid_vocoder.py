import dataclasses

import jax
from jax import numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.inverter import sinusoid_vocoder

CONFIG = audio.SpectrogramConfig(
  sample_rate=8000,
  hop_length=80,
  win_length=160,
  n_fft=256,
  n_mels=32,
  fmax=4000.0,
)
BINS = CONFIG.n_fft // 2 + 1
NUM_FRAMES = 24
TINY = sinusoid_vocoder.SinusoidVocoder(
  spectrogram=CONFIG, channels=8, num_blocks=2, expansion=2
)


@pytest.fixture(scope="module")
def parameters():
  """Drawn by NumPy, as compiling the initialisers takes longer than all else.

  The head starts near zero; here everything has a say.
  """
  rng = np.random.default_rng(0)

  def draw(path, shape):
    centre = 1.0 if path[-1].key == "scale" else 0.0
    return jnp.float32(centre + 0.2 * rng.normal(size=shape.shape))

  shapes = jax.eval_shape(TINY.init, jax.random.key(0))
  return jax.tree.map_with_path(draw, shapes)


@pytest.fixture(scope="module")
def invert():
  return jax.jit(TINY.invert)


def music(num_frames, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(-2.0, 2.0, (1, num_frames, 32)), jnp.float32)


def test_the_default_has_less_than_four_million_parameters():
  default = sinusoid_vocoder.SinusoidVocoder()
  shapes = jax.eval_shape(default.init, jax.random.key(0))
  assert 3e6 < sum(leaf.size for leaf in jax.tree.leaves(shapes)) < 4e6


def test_samples_are_a_hop_for_each_frame_without_its_neighbours(
  parameters, invert
):
  before, after = TINY.receptive_frames
  assert (before, after) == (9, 8)
  log_mel = music(before + NUM_FRAMES + after)
  samples, state = invert(parameters, log_mel, TINY.initial_state(), NUM_FRAMES)
  assert samples.shape == (1, NUM_FRAMES * CONFIG.hop_length)
  assert state.shape == (1, BINS)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_blocks_go_on_from_each_other(parameters, invert, dtype):
  if dtype != TINY.dtype:
    invert = jax.jit(dataclasses.replace(TINY, dtype=dtype).invert)
  before, after = TINY.receptive_frames
  log_mel = music(before + NUM_FRAMES + after)
  start = TINY.initial_state()
  whole, end = invert(parameters, log_mel, start, NUM_FRAMES)
  state, parts = start, []
  for first, last in ((0, 7), (7, 8), (8, NUM_FRAMES)):
    window = log_mel[:, first : last + before + after]
    part, state = invert(parameters, window, state, last - first)
    parts.append(part)
  np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-4)
  turn = np.asarray(state - end)
  np.testing.assert_allclose(turn - np.rint(turn), 0.0, atol=1e-4)


def test_a_frame_is_heard_as_far_as_its_receptive_field_and_no_farther(
  parameters, invert
):
  before, after = TINY.receptive_frames
  changed = before + 12
  log_mel = music(before + NUM_FRAMES + after)
  other = log_mel.at[:, changed].add(1.0)
  # Phases run on behind the change; without deviations they are the same.
  fixed = parameters | {
    "head": jax.tree.map(
      lambda leaf: leaf.at[..., BINS : 2 * BINS].set(0.0), parameters["head"]
    )
  }
  first, second = (
    invert(fixed, frames, TINY.initial_state(), 1)[0]
    for frames in (log_mel, other)
  )
  difference = np.abs(np.asarray(first - second)).reshape(NUM_FRAMES, -1)
  heard = np.flatnonzero(difference.max(axis=1) > 0)
  assert heard[0] == 12 - after
  assert heard[-1] == min(12 + before, NUM_FRAMES - 1)


def test_the_frequency_loss_is_least_at_the_frequency_of_a_tone():
  peak, deviation, num_frames = 25, 0.3, 10
  time = np.arange((num_frames - 1) * 80 + 256)
  tone = np.cos(2 * np.pi * (peak + deviation) * time / 256)

  def loss(guess):
    return float(
      sinusoid_vocoder.frequency_loss(
        jnp.full((1, num_frames, BINS), guess),
        jnp.asarray(tone, jnp.float32)[None],
        CONFIG,
      )
    )

  assert loss(0.3) < 0.03
  assert loss(0.1) > loss(0.3) + 0.15
  assert loss(-0.3) > loss(0.1) + 0.3


def test_training_samples_are_those_of_invert_from_random_phases(
  parameters, invert
):
  before, after = TINY.receptive_frames
  rng = np.random.default_rng(0)
  length = (before + 6 + after + 1) * CONFIG.hop_length
  samples = jnp.asarray(rng.normal(0, 0.1, (2, length)), jnp.float32)
  log_mel = audio.log_mel(samples, CONFIG)[:, :-1]
  key = jax.random.key(0)
  train = jax.jit(TINY.training_output)
  made, losses = train(parameters, log_mel, samples, key)
  phases = jax.random.uniform(key, (2, BINS))
  again, _ = invert(parameters, log_mel, phases, 0)
  assert made.shape == (2, 6 * CONFIG.hop_length)
  np.testing.assert_allclose(made, again, atol=1e-5)
  assert float(losses["frequency"]) > 0


def test_products_in_bfloat16_give_about_the_same_spectra(parameters):
  half = dataclasses.replace(TINY, dtype="bfloat16")
  rng = np.random.default_rng(0)
  num_features = parameters["embed_0"]["kernel"].shape[0]
  features = jnp.float32(rng.normal(size=(1, NUM_FRAMES, num_features)))
  exact, rounded = (
    jax.jit(generator.module.apply)({"params": parameters}, features)
    for generator in (TINY, half)
  )
  for name, spread in jax.tree.map(jnp.std, exact)._asdict().items():
    ours, theirs = getattr(rounded, name), getattr(exact, name)
    assert ours.dtype == jnp.float32
    distance = jnp.sqrt(jnp.square(ours - theirs).mean())
    assert 1e-5 < distance / spread < 0.02, name


@pytest.mark.parametrize(
  "field", [{"channels": 0}, {"num_blocks": 0}, {"num_corrections": -1}]
)
def test_sizes_that_make_no_network_are_refused(field):
  with pytest.raises(ValueError, match=next(iter(field))):
    sinusoid_vocoder.SinusoidVocoder(**field)


def test_frames_have_to_overlap_by_half():
  other = dataclasses.replace(CONFIG, win_length=240)
  with pytest.raises(ValueError, match="hop_length = 80, win_length = 240"):
    sinusoid_vocoder.SinusoidVocoder(spectrogram=other)
