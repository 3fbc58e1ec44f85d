"""Parity with the decoder of the diffusers version that is installed."""

import pathlib

import jax
from jax import numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion import checkpoints, models
from music_spectrogram_diffusion.models import network

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

PIPELINE = pathlib.Path(__file__).parents[1] / "data" / "diffusers_tiny"


@pytest.fixture(scope="module")
def decoder():
  return diffusers.T5FilmDecoder.from_pretrained(
    str(PIPELINE / "decoder"), torch_dtype=torch.float32
  ).eval()


@pytest.fixture(scope="module")
def loaded():
  config, parameters = checkpoints.load_diffusers_pipeline(PIPELINE)
  return models.from_config(config), jax.device_put(parameters)


@pytest.mark.parametrize("seed", range(4))
def test_decoders_agree_on_random_encodings_masks_and_times(
  decoder, loaded, seed
):
  model, parameters = loaded
  rng = np.random.default_rng(seed)
  frames, mel_bins = model.network.segment_frames, model.spectrogram.n_mels
  shape = 3, 20, model.network.emb_dim
  keys = rng.normal(size=shape).astype(np.float32)
  mask = rng.uniform(size=shape[:2]) < rng.uniform(0.1, 1.0)
  mask[:, 0] = True
  inputs = rng.normal(size=(3, frames, mel_bins)).astype(np.float32)
  time = rng.uniform(size=3).astype(np.float32)

  with torch.no_grad():
    expected = decoder(
      encodings_and_masks=[(torch.tensor(keys), torch.tensor(mask))],
      decoder_input_tokens=torch.tensor(inputs),
      decoder_noise_time=torch.tensor(time),
    )
  output = jax.jit(model.output)(
    parameters,
    jnp.asarray(inputs),
    jnp.asarray(time),
    network.Conditioning(
      keys=jnp.asarray(keys),
      mask=jnp.asarray(mask),
      null=jnp.zeros(20, bool),
    ),
  )
  np.testing.assert_allclose(output, expected.numpy(), atol=1e-4)
