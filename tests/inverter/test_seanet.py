"""The paper's generator: its parameters, its strides, and how far it sees."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion import audio, inverter
from music_spectrogram_diffusion.inverter import seanet

CONFIG = audio.SpectrogramConfig()
TINY = audio.SpectrogramConfig(
  sample_rate=1_000,
  hop_length=20,
  win_length=40,
  n_fft=64,
  n_mels=6,
  fmax=500.0,
)
# What takes time here is the compiler.
jit = functools.partial(
  jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)


def draw(generator):
  """Random parameters, biases too, without compiling an initialisation."""
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(generator.init, jax.random.key(0))
  return jax.tree.map(
    lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape), leaf.dtype),
    shapes,
  )


def features(num_frames, config, batch=1):
  shape = (batch, num_frames, config.n_mels)
  return np.random.default_rng(1).uniform(*config.mel_range, shape)


def count(parameters):
  return sum(leaf.size for leaf in jax.tree.leaves(parameters))


@pytest.mark.parametrize(
  "generator, total", [(seanet.PAPER, 3_743_617), (seanet.SMALL, 986_049)]
)
def test_parameters_are_those_of_the_layers(generator, total):
  width = 16 * generator.channels
  expected = (3 * CONFIG.n_mels + 1) * width  # With a bias each.
  for stride in (8, 5, 4, 2):
    narrow = width // 2
    expected += width * 2 * stride * narrow + narrow
    expected += 3 * ((3 * narrow + 1) * narrow + (narrow + 1) * narrow)
    width = narrow
  expected += 3 * width + 1
  parameters = jax.eval_shape(generator.init, jax.random.key(0))
  assert count(parameters) == expected == total


@pytest.mark.parametrize("num_frames", [0, 1, 7])
def test_every_frame_gives_a_hop_of_samples(num_frames):
  parameters = jax.eval_shape(seanet.SMALL.init, jax.random.key(0))
  frames = jax.ShapeDtypeStruct((3, num_frames, CONFIG.n_mels), jnp.float32)
  samples = jax.eval_shape(seanet.SMALL.apply, parameters, frames)
  assert samples.shape == (3, num_frames * CONFIG.hop_length)


@pytest.mark.parametrize(
  "config, strides",
  [
    (CONFIG, (8, 5, 4, 2)),
    (TINY, (4, 5)),
    (TINY, (20,)),
    (TINY, (1, 20, 1)),
  ],
)
def test_a_frame_is_heard_in_the_frames_of_the_bookkeeping_and_no_other(
  config, strides
):
  generator = seanet.SeaNet(spectrogram=config, channels=1, strides=strides)
  before, after = generator.receptive_frames
  parameters = draw(generator)
  middle, num_frames = 20, 41
  frames = jnp.asarray(features(num_frames, config), jnp.float32)
  other = frames.at[0, middle].add(3.0)
  # Both in one batch of one program, so that equal is equal.
  samples = jit(generator.apply)(parameters, jnp.concatenate([frames, other]))
  changed = (samples[0] != samples[1]).reshape(num_frames, -1).any(1)
  heard = np.flatnonzero(changed)
  assert heard.min() == middle - after and heard.max() == middle + before


def test_the_paper_s_generator_sees_four_frames_to_both_sides():
  assert seanet.PAPER.receptive_frames == (4, 4)


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_upsampling_is_the_transposed_convolution_of_its_kernel(stride):
  x = jax.random.normal(jax.random.key(0), (2, 6, 3))
  upsample = seanet.TransposedConv(4, stride)
  y, parameters = upsample.init_with_output(jax.random.key(1), x)
  kernel = np.asarray(parameters["params"]["kernel"])
  kernel = kernel.reshape(3, 2 * stride, 4)
  expected = np.zeros((2, 7 * stride, 4))
  for i in range(6):
    expected[:, i * stride : (i + 2) * stride] += np.einsum(
      "bc,cjf->bjf", x[:, i], kernel
    )
  cut = stride // 2
  np.testing.assert_allclose(y, expected[:, cut : cut + 6 * stride], atol=1e-5)


def test_silence_and_full_scale_are_read_as_minus_one_and_one():
  generator = seanet.SeaNet(spectrogram=TINY, channels=1, strides=(5, 4))
  parameters = draw(generator)
  apply, read = jit(generator.apply), jit(generator.module.apply)
  low, high = TINY.mel_range
  for value, scaled in ((low, -1.0), (high, 1.0)):
    np.testing.assert_allclose(
      apply(parameters, jnp.full((1, 3, 6), value)),
      read({"params": parameters}, jnp.full((1, 3, 6), scaled)),
      atol=1e-3,
    )


def test_half_precision_gives_about_the_same_samples():
  generator = seanet.SeaNet(spectrogram=TINY, channels=2, strides=(5, 4))
  half = dataclasses.replace(generator, dtype="bfloat16")
  parameters = draw(generator)
  frames = jnp.asarray(features(5, TINY), jnp.float32)
  exact = np.asarray(jit(generator.apply)(parameters, frames))
  rough = jit(half.apply)(parameters, frames)
  assert rough.dtype == jnp.float32
  np.testing.assert_allclose(rough, exact, atol=0.1 * np.abs(exact).max())


def test_a_generator_is_hashable_and_equal_when_built_equal():
  assert seanet.SeaNet() == seanet.PAPER != seanet.SMALL
  assert hash(seanet.SeaNet()) == hash(seanet.PAPER)
  assert isinstance(seanet.PAPER, inverter.Generator)


@pytest.mark.parametrize(
  "settings",
  [{"strides": (8, 5, 4)}, {"strides": (-8, 5, 4, -2)}, {"channels": 0}],
)
def test_impossible_sizes_are_refused(settings):
  with pytest.raises(ValueError, match="Expected"):
    seanet.SeaNet(**settings)
