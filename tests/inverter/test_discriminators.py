"""Sizes of the discriminators, and what they see."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion.inverter import discriminators

TINY = discriminators.DiscriminatorConfig(
  stft_channels=2,
  stft_window=128,
  stft_hop=32,
  wave_channels=4,
  max_wave_channels=16,
  num_wave_scales=1,
)
# What takes time here is the compiler.
jit = functools.partial(
  jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)
SAMPLES = 0.1 * jax.random.normal(jax.random.key(0), (2, 400))


@pytest.fixture(scope="module")
def tiny():
  """Parameters of the tiny discriminators, and their function."""
  rng = np.random.default_rng(0)
  shapes, _ = shapes_of(TINY, SAMPLES.shape[1])
  parameters = jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), shapes
  )
  judge = jit(discriminators.Discriminators(TINY).apply)
  return {"params": parameters}, judge


def shapes_of(config, num_samples):
  module = discriminators.Discriminators(config)
  samples = jax.ShapeDtypeStruct((1, num_samples), jnp.float32)
  parameters = jax.eval_shape(module.init, jax.random.key(0), samples)
  return parameters["params"], jax.eval_shape(module.apply, parameters, samples)


def count(parameters):
  return sum(leaf.size for leaf in jax.tree.leaves(parameters))


def test_the_paper_s_waveform_discriminators_have_melgan_s_parameters():
  parameters, _ = shapes_of(discriminators.PAPER, 4096)
  layers = [  # Kernel, channels seen, channels out; a scale and a bias each.
    (15, 1, 16),
    (41, 4, 64),
    (41, 4, 256),
    (41, 4, 1024),
    (41, 4, 1024),
    (5, 1024, 1024),
    (3, 1024, 1),
  ]
  expected = sum(kernel * seen * out + 2 * out for kernel, seen, out in layers)
  for scale in range(3):
    assert count(parameters[f"wave_{scale}"]) == expected


def test_the_paper_s_stft_discriminator_ends_with_16_times_its_channels():
  parameters, (_, features) = shapes_of(discriminators.PAPER, 256 * 16)
  assert [layer.shape[1:] for layer in features[0]] == [
    (16, 512, 32),
    (16, 256, 64),
    (8, 128, 128),
    (8, 64, 128),
    (4, 32, 256),
    (4, 16, 256),
    (2, 8, 512),
  ]
  kernels = {
    name: layer["kernel"].shape
    for name, layer in parameters["stft"]["block_1"].items()
  }
  assert kernels == {
    "inner": (3, 3, 64, 64),
    "strided": (4, 4, 64, 128),
    "shortcut": (1, 1, 64, 128),
  }
  assert parameters["stft"]["last"]["kernel"].shape == (1, 8, 512, 1)


def test_logits_come_at_an_eighth_of_the_frames_and_a_256th_of_the_samples():
  _, (logits, features) = shapes_of(discriminators.SMALL, 8192)
  assert [scale.shape for scale in logits] == [(1, 4), (1, 32), (1, 16), (1, 8)]
  assert [len(layers) for layers in features] == [7, 6, 6, 6]
  assert [layer.shape[1] for layer in features[1]] == [
    8192,
    2048,
    512,
    128,
    32,
    32,
  ]


def test_each_waveform_discriminator_has_half_the_rate_of_the_one_before():
  ramp = jnp.arange(12.0)[None]
  halved = discriminators._halved(ramp)
  # Means over samples -1 to 2, 1 to 4, ...; those that are there.
  np.testing.assert_allclose(halved, [[1.0, 2.5, 4.5, 6.5, 8.5, 10.0]])


@pytest.mark.parametrize("time", [1, 40, 67])
def test_grouped_convolutions_are_those_of_jax(time):
  conv = discriminators.GroupedConv(12, 3)
  x = jax.random.normal(jax.random.key(0), (2, time, 6))
  y, parameters = conv.init_with_output(jax.random.key(1), x)
  expected = jax.lax.conv_general_dilated(
    x,
    parameters["params"]["kernel"],
    (4,),
    "SAME",
    feature_group_count=3,
    dimension_numbers=("NWC", "WIO", "NWC"),
  )
  np.testing.assert_allclose(y, expected, atol=1e-5)


def test_kernels_are_given_by_their_direction_and_their_length():
  conv = discriminators.Conv(3, (5,))
  x = jax.random.normal(jax.random.key(0), (1, 9, 2))
  y, parameters = conv.init_with_output(jax.random.key(1), x)
  fields = parameters["params"]
  lengths = np.sqrt((np.asarray(fields["kernel"]) ** 2).sum((0, 1)))
  np.testing.assert_allclose(fields["scale"], lengths, rtol=1e-5)
  stretched = {"params": fields | {"kernel": 7 * fields["kernel"]}}
  np.testing.assert_allclose(conv.apply(stretched, x), y, atol=1e-5)
  louder = {"params": fields | {"scale": 2 * fields["scale"]}}
  np.testing.assert_allclose(conv.apply(louder, x), 2 * y, atol=1e-5)


def test_noise_keeps_its_power_in_the_spectra():
  noise = jax.random.normal(jax.random.key(0), (1, 64_000))
  spectra = discriminators.StftDiscriminator(TINY)._spectra(noise)
  assert spectra.shape == (1, 2000, 64, 2)
  power = jnp.square(spectra[:, :-4, 1:]).sum(-1).mean()
  np.testing.assert_allclose(power, 1.0, rtol=0.05)


def test_examples_are_judged_on_their_own(tiny):
  parameters, judge = tiny
  logits, features = judge(parameters, SAMPLES)
  other = SAMPLES.at[1].set(0.0)
  for changed, kept in zip(
    jax.tree.leaves(judge(parameters, other)),
    jax.tree.leaves((logits, features)),
    strict=True,
  ):
    np.testing.assert_allclose(changed[0], kept[0], atol=1e-5)
    assert not np.array_equal(changed[1], kept[1])


def test_gradients_are_finite_for_silence(tiny):
  parameters, _ = tiny
  module = discriminators.Discriminators(TINY)

  def loss(parameters, samples):
    logits, features = module.apply(parameters, samples)
    return sum(jnp.square(x).sum() for x in jax.tree.leaves((logits, features)))

  gradients = jit(jax.grad(loss, (0, 1)))(parameters, 0 * SAMPLES)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("num_samples", [4, 100])
def test_audio_may_be_shorter_than_a_frame(num_samples):
  _, (logits, _) = shapes_of(discriminators.SMALL, num_samples)
  assert all(scale.size for scale in logits)


def test_half_precision_gives_about_the_same_logits(tiny):
  parameters, judge = tiny
  half = discriminators.Discriminators(
    dataclasses.replace(TINY, dtype="bfloat16")
  )
  logits, features = jit(half.apply)(parameters, SAMPLES)
  assert features[0][0].dtype == jnp.bfloat16
  for rough, exact in zip(logits, judge(parameters, SAMPLES)[0], strict=True):
    assert rough.dtype == jnp.float32
    np.testing.assert_allclose(rough, exact, atol=0.03 * np.abs(exact).max())


@pytest.mark.parametrize(
  "settings",
  [{"stft_window": 96}, {"stft_window": 64}, {"wave_channels": 6}],
)
def test_impossible_sizes_are_refused(settings):
  with pytest.raises(ValueError, match="Expected"):
    discriminators.DiscriminatorConfig(**settings)
