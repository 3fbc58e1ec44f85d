"""The baseline that training is timed against computes the same."""

import importlib.util
import pathlib

import jax
from jax import numpy as jnp
import numpy as np

from music_spectrogram_diffusion import audio, models

_PATH = pathlib.Path(__file__).parents[2] / "benchmarks/training/baseline.py"


def test_the_baseline_s_loss_is_the_model_s_without_dropout():
  spec = importlib.util.spec_from_file_location("baseline", _PATH)
  baseline = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(baseline)
  frames, tokens, mel_bins = 8, 16, 8
  model = models.DiffusionModel(
    network=models.NetworkConfig(
      emb_dim=16,
      num_heads=2,
      head_dim=8,
      mlp_dim=16,
      num_encoder_layers=1,
      num_context_layers=1,
      num_decoder_layers=1,
      segment_frames=frames,
      max_tokens=tokens,
    ),
    spectrogram=audio.SpectrogramConfig(n_mels=mel_bins),
  )
  rng = np.random.default_rng(0)
  parameters = jax.tree.map(
    lambda shape: jnp.asarray(rng.normal(0, 0.3, shape.shape), jnp.float32),
    jax.eval_shape(model.init, jax.random.key(0)),
  )
  shape = (2, frames, mel_bins)
  batch = {
    "note_tokens": jnp.asarray(rng.integers(0, 1391, (2, tokens)), jnp.int32),
    "context": jnp.asarray(rng.uniform(-11, 4, shape), jnp.float32),
    "context_mask": jnp.arange(frames) < jnp.asarray([[5], [0]]),
    "targets": jnp.asarray(rng.uniform(-11, 4, shape), jnp.float32),
    "targets_mask": jnp.arange(frames) < jnp.asarray([[8], [6]]),
  }
  key = jax.random.key(1)
  with jax.numpy_dtype_promotion("standard"):
    found, expected = (
      float(loss(parameters, batch, key, train=False)[0])
      for loss in (
        jax.jit(baseline.Baseline(model).loss, static_argnames="train"),
        jax.jit(model.loss, static_argnames="train"),
      )
    )
  np.testing.assert_allclose(found, expected, rtol=1e-5)
