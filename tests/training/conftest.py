import types

import jax
from jax import numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion import audio, models, training
from music_spectrogram_diffusion.training import summaries


@pytest.fixture
def without_tensorboard(monkeypatch):
  """As where clu is missing; to load TensorFlow takes long."""
  monkeypatch.setattr(summaries, "_clu_writer", lambda directory: None)


@pytest.fixture(scope="package")
def watched():
  """A run of a tiny model for those who watch it, and its state."""
  frames, tokens, mel_bins, batch_size = 8, 16, 24, 4
  model = models.DiffusionModel(
    network=models.NetworkConfig(
      emb_dim=16,
      num_heads=2,
      head_dim=8,
      mlp_dim=16,
      num_encoder_layers=1,
      num_context_layers=0,
      num_decoder_layers=1,
      segment_frames=frames,
      max_tokens=tokens,
      dropout_rate=0.5,
    ),
    spectrogram=audio.SpectrogramConfig(n_mels=mel_bins),
    sampling=models.SamplingConfig(sampler="ddim", num_steps=2),
  )
  learner = training.ModelLearner(model=model, optimizer=training.adamw(1e-3))

  def make_batch(step):
    rng = np.random.default_rng(step)
    shape = (batch_size, frames, mel_bins)
    return {
      "note_tokens": rng.integers(1, 1400, (batch_size, tokens), np.int32),
      "context": rng.uniform(-11, 3, shape).astype(np.float32),
      "context_mask": np.zeros((batch_size, frames), bool),
      "targets": rng.uniform(-11, 3, shape).astype(np.float32),
      "targets_mask": np.ones((batch_size, frames), bool),
    }

  def source(batch_size, host_index, host_count, seed):
    del batch_size, host_index, host_count
    return training.StepIndexed(lambda step: make_batch(seed + step))

  def make_run(directory, **changes):
    usual = dict(
      directory=directory,
      learner=learner,
      partitioner=training.Partitioner(),
      total_steps=10,
      batch_size=batch_size,
      key=jax.random.key(0),
      eval_source=source,
    )
    return training.Run(**(usual | changes))

  rng = np.random.default_rng(0)
  parameters = jax.tree.map(
    lambda shape: jnp.asarray(rng.normal(0, 0.2, shape.shape), jnp.float32),
    jax.eval_shape(model.init, jax.random.key(0)),
  )
  state = training.TrainState.create(parameters, learner.optimizer)
  return types.SimpleNamespace(
    model=model,
    learner=learner,
    make_batch=make_batch,
    make_run=make_run,
    state=state,
  )
