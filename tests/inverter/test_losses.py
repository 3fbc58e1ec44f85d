"""Losses against NumPy, and the facts that hold for each."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.inverter import losses

CONFIG = audio.SpectrogramConfig()
RNG = np.random.default_rng(0)
REAL = jnp.asarray(0.1 * RNG.normal(size=(2, 3000)), jnp.float32)
OTHER = jnp.asarray(0.1 * RNG.normal(size=(2, 3000)), jnp.float32)
SILENCE = jnp.zeros_like(REAL)


@functools.partial(jax.jit, static_argnames="scales")
def spectral_loss(real, generated, scales=losses.SCALES):
  """The loss, and its gradient by the generated audio."""
  return jax.value_and_grad(losses.spectral_reconstruction_loss, argnums=1)(
    real, generated, CONFIG, scales=scales
  )


@jax.jit
def relative_loss(real, generated):
  """The loss, and its gradient by the generated audio."""
  return jax.value_and_grad(losses.relative_spectral_loss, argnums=1)(
    real, generated, CONFIG
  )


@jax.jit
def stft_distance(real, generated):
  return losses.stft_distance(real, generated, CONFIG)


def magnitudes(samples, n_fft, win_length, hop_length):
  """[batch, frames, bins] by NumPy, each frame cut out on its own."""
  num_frames = -(-samples.shape[-1] // hop_length)
  padded = np.pad(np.asarray(samples, np.float64), ((0, 0), (0, win_length)))
  window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(win_length) / win_length)
  frames = np.stack(
    [
      padded[:, t * hop_length : t * hop_length + win_length]
      for t in range(num_frames)
    ],
    axis=1,
  )
  return np.abs(np.fft.rfft(frames * window, n_fft))


def test_the_spectral_loss_is_that_of_the_formula():
  expected = 0.0
  for window in losses.SCALES:
    scale = dataclasses.replace(
      CONFIG, n_fft=window, win_length=window, hop_length=window // 4, n_mels=64
    )
    real, other = (
      np.maximum(
        magnitudes(x, window, window, window // 4) @ audio.mel_matrix(scale),
        1e-3,
      )
      for x in (REAL, OTHER)
    )
    l1 = np.abs(real - other).sum(-1)
    l2 = np.linalg.norm(np.log(real / other), axis=-1)
    expected += np.mean(l1 + np.sqrt(window / 2) * l2)
  loss, _ = spectral_loss(REAL, OTHER)
  np.testing.assert_allclose(loss, expected / 64, rtol=1e-4)


def test_the_stft_distance_is_that_of_the_formula():
  expected = np.zeros(2)
  for resolution in losses.RESOLUTIONS:
    real, other = (
      np.maximum(magnitudes(x, *resolution), 1e-3) for x in (REAL, OTHER)
    )
    expected += np.linalg.norm(real - other, axis=(1, 2)) / np.linalg.norm(
      real, axis=(1, 2)
    )
    expected += np.abs(np.log(real / other)).mean((1, 2))
  distance = stft_distance(REAL, OTHER)
  np.testing.assert_allclose(
    distance, expected / len(losses.RESOLUTIONS), rtol=1e-4
  )


@pytest.mark.parametrize("samples", [REAL, SILENCE])
def test_equal_audio_has_no_distance(samples):
  assert spectral_loss(samples, samples)[0] == 0
  np.testing.assert_array_equal(stft_distance(samples, samples), 0.0)


def test_a_change_of_sign_is_not_heard_but_a_change_of_level_is():
  np.testing.assert_allclose(spectral_loss(REAL, -REAL)[0], 0.0, atol=1e-3)
  quieter, quietest = (
    spectral_loss(REAL, gain * REAL)[0] for gain in (0.9, 0.5)
  )
  assert 0.1 < quieter < quietest


def test_the_loss_of_a_batch_is_the_mean_of_its_examples():
  # The batch is doubled, so that all have one shape.
  (whole, _), *each = (
    spectral_loss(REAL[jnp.asarray(rows)], OTHER[jnp.asarray(rows)])
    for rows in ([0, 1], [0, 0], [1, 1])
  )
  np.testing.assert_allclose(whole, (each[0][0] + each[1][0]) / 2, rtol=1e-5)


@pytest.mark.parametrize(
  "real, generated", [(REAL, SILENCE), (SILENCE, REAL), (SILENCE, SILENCE)]
)
def test_gradients_of_the_spectral_loss_are_finite_for_silence(real, generated):
  loss, gradient = spectral_loss(real, generated)
  assert np.isfinite(loss) and np.isfinite(gradient).all()


def test_the_spectral_loss_of_audio_shorter_than_its_windows_is_finite():
  loss, gradient = spectral_loss(REAL[:, :100], OTHER[:, :100], scales=(256,))
  assert loss > 0 and np.isfinite(gradient).all()


def test_the_gradient_of_the_spectral_loss_is_its_slope():
  generated = REAL + 0.1 * OTHER
  loss, gradient = spectral_loss(REAL, generated)
  slope = jnp.linalg.norm(gradient)
  nearer, _ = spectral_loss(REAL, generated - 1e-2 * gradient / slope)
  np.testing.assert_allclose(loss - nearer, 1e-2 * slope, rtol=0.1)


def test_the_relative_loss_is_lowest_for_equal_audio():
  equal, _ = relative_loss(REAL, REAL)
  np.testing.assert_allclose(equal, 0.0, atol=1e-6)
  assert relative_loss(REAL, OTHER)[0] > 0.1


def test_sound_instead_of_silence_costs_as_much_as_silence_instead_of_sound():
  too_much, gradient = relative_loss(SILENCE, REAL)
  too_little, _ = relative_loss(REAL, SILENCE)
  np.testing.assert_allclose(too_much, too_little, rtol=1e-5)
  assert jnp.sum(gradient * REAL) > 0  # Louder would be worse.


def test_too_much_sound_is_led_back_as_far_as_it_is_off():
  def loss(level):  # Of the linear distance alone.
    return losses.relative_spectral_loss(
      SILENCE, level * REAL, CONFIG, scales=((512, 64),), log_floor=1e9
    )

  slope = jax.jit(jax.grad(loss))
  # As a distance over a level that stays as it is: 0.5 over the level.
  for level in (1.0, 10.0):
    assert float(slope(level)) == pytest.approx(0.5 / level, rel=0.02)


def logits(*values):
  return [jnp.asarray([value], jnp.float32) for value in values]


def test_discriminators_that_are_sure_and_right_have_no_loss():
  assert losses.discriminator_loss(logits([1, 3]), logits([-1, -9])) == 0
  assert losses.discriminator_loss(logits([0, 0]), logits([0, 0])) == 2
  # Two discriminators of different lengths count alike.
  real, generated = logits([0.5, 2, 2, 2], [0]), logits([-1, -1, -1, 0], [-2])
  expected = (0.5 / 4 + 1) / 2 + (1 / 4 + 0) / 2
  np.testing.assert_allclose(
    losses.discriminator_loss(real, generated), expected
  )


def test_a_generator_that_deceives_has_no_adversarial_loss():
  assert losses.adversarial_loss(logits([1, 2], [5])) == 0
  np.testing.assert_allclose(
    losses.adversarial_loss(logits([-1, 2], [0.5])), (2 / 2 + 0.5) / 2
  )


def test_the_hinge_gives_no_gradient_beyond_its_margin():
  def loss(values):
    return losses.adversarial_loss([values])

  gradient = jax.grad(loss)(jnp.asarray([[-3.0, 0.0, 1.5, 2.0]]))
  np.testing.assert_allclose(gradient, [[-0.25, -0.25, 0.0, 0.0]])


def test_feature_matching_is_a_mean_over_discriminators_and_layers():
  real = [[jnp.zeros((1, 4, 2)), jnp.ones((1, 2, 8))], [jnp.zeros((1, 3))]]
  generated = [
    [jnp.full((1, 4, 2), 0.5), jnp.ones((1, 2, 8))],
    [jnp.full((1, 3), -2.0)],
  ]
  np.testing.assert_allclose(
    losses.feature_matching_loss(real, generated), ((0.5 + 0) / 2 + 2) / 2
  )
  assert losses.feature_matching_loss(real, real) == 0


def test_feature_matching_moves_the_generated_audio_alone():
  features = jnp.ones((1, 4)), jnp.zeros((1, 4))
  to_real, to_generated = jax.grad(
    lambda real, generated: losses.feature_matching_loss(
      [[real]], [[generated]]
    ),
    argnums=(0, 1),
  )(*features)
  np.testing.assert_array_equal(to_real, 0.0)
  np.testing.assert_allclose(to_generated, -0.25)


def test_features_of_other_discriminators_are_refused():
  with pytest.raises(ValueError, match="zip"):
    losses.feature_matching_loss([[SILENCE]], [[SILENCE, SILENCE]])


def test_the_weights_are_those_of_soundstream():
  weights = losses.LossWeights()
  assert dataclasses.astuple(weights) == (1.0, 100.0, 1.0)
