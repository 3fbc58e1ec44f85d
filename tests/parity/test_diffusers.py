"""Parity with diffusers, on what make_diffusers_fixture.py has written."""

import pathlib

import jax
from jax import numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion import audio, checkpoints, models
from music_spectrogram_diffusion.diffusion import samplers

PIPELINE = pathlib.Path(__file__).parents[1] / "data" / "diffusers_tiny"


@pytest.fixture(scope="module")
def reference():
  with np.load(PIPELINE / "reference.npz") as arrays:
    return {name: jnp.asarray(array) for name, array in arrays.items()}


@pytest.fixture(scope="module")
def loaded():
  config, parameters = checkpoints.load_diffusers_pipeline(PIPELINE)
  return models.from_config(config), jax.device_put(parameters)


@pytest.fixture(scope="module")
def conditioning(loaded, reference):
  model, parameters = loaded
  context = audio.unscale_log_mel(reference["context"], model.spectrogram)
  return jax.jit(model.encode)(
    parameters, reference["note_tokens"], context, reference["context_mask"]
  )


def largest_error(found, expected):
  return np.abs(np.asarray(found) - np.asarray(expected)).max()


def test_valid_notes_and_contexts_are_encoded_alike(conditioning, reference):
  valid = jnp.concatenate(
    [reference["note_tokens"] > 0, reference["context_mask"]], axis=1
  )
  np.testing.assert_array_equal(conditioning.mask, valid)
  expected = jnp.concatenate(
    [reference["encoded_notes"], reference["encoded_context"]], axis=1
  )
  assert largest_error(conditioning.keys[valid], expected[valid]) < 1e-4


def test_the_decoder_gives_the_same_outputs_at_all_times(
  loaded, conditioning, reference
):
  model, parameters = loaded
  noisy, decode = reference["noisy"], jax.jit(model.output)
  for level, expected in zip(
    reference["timesteps"], reference["outputs"], strict=True
  ):
    time = jnp.full(len(noisy), level / 1000)
    output = decode(parameters, noisy, time, conditioning)
    assert largest_error(output, expected) < 1e-4, level


def test_the_schedule_has_the_same_noise_levels(loaded, reference):
  model, _ = loaded
  logsnr = model.schedule.logsnr(jnp.arange(1000) / 1000)
  signal = reference["alphas_cumprod"]
  # Theirs is a float32 product of up to a thousand factors.
  np.testing.assert_allclose(jax.nn.sigmoid(logsnr), signal, rtol=1e-4)
  np.testing.assert_allclose(
    jax.nn.sigmoid(-logsnr), 1.0 - signal, rtol=1e-4, atol=1e-6
  )


def test_all_levels_are_visited_in_the_same_order(loaded):
  model, _ = loaded
  levels = model.schedule.times(1000) * 1000
  np.testing.assert_allclose(levels, np.arange(999, -2, -1), atol=1e-3)


def no_variance(logsnr_t, logsnr_s):
  return jnp.zeros_like(logsnr_t)


def test_every_step_of_ddpm_is_the_same_on_the_same_noise(
  loaded, conditioning, reference
):
  model, parameters = loaded
  denoise = jax.jit(model.denoise)
  trajectory = reference["trajectory"]
  levels = [*reference["levels"], -1]  # The last one is clean.
  noises = [*reference["noises"], jnp.zeros_like(reference["noisy"])]
  for step, noise in enumerate(noises):
    z_t = trajectory[step]
    time_t, time_s = (
      jnp.full(len(z_t), level / 1000) for level in levels[step : step + 2]
    )
    x0 = denoise(parameters, z_t, time_t, conditioning)
    logsnr = dict(
      logsnr_t=model.schedule.logsnr(time_t),
      logsnr_s=model.schedule.logsnr(time_s),
    )
    mean = samplers.ddpm_step(
      z_t,
      jnp.clip(x0, -1.0, 1.0),
      key=jax.random.key(0),
      variance=no_variance,
      **logsnr,
    )
    deviation = jnp.sqrt(samplers.large_variance(**logsnr))[:, None, None]
    z_s = mean + deviation * noise
    assert largest_error(z_s, trajectory[step + 1]) < 1e-4, step
