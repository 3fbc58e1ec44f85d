"""Trains a tiny model on a mesh and prints what came of it as JSON.

Run by test_partitioning.py in processes with several devices:
`mesh_run.py DATA:MODEL ...`; `single` is one device without a mesh.
"""

import functools
import json
import sys

import jax
from jax import numpy as jnp
import numpy as np

from music_spectrogram_diffusion import audio, models, training
from music_spectrogram_diffusion.training import partitioning
from music_spectrogram_diffusion.training import step as steps

FRAMES, TOKENS, MEL_BINS, BATCH, NUM_STEPS = 8, 16, 8, 8, 4
MODEL = models.DiffusionModel(
  network=models.NetworkConfig(
    emb_dim=32,
    num_heads=2,
    head_dim=8,
    mlp_dim=24,
    num_encoder_layers=0,  # A decoder's layer has all that theirs have.
    num_context_layers=0,
    num_decoder_layers=1,
    segment_frames=FRAMES,
    max_tokens=TOKENS,
  ),
  spectrogram=audio.SpectrogramConfig(n_mels=MEL_BINS),
)
# Small matrices are factored, too.
OPTIMIZER = training.adafactor(1e-2, min_dim_size_to_factor=8)
STEP = functools.partial(
  steps.train_step, loss=MODEL.loss, optimizer=OPTIMIZER, ema_decay=0.9
)


def make_batch(step, host_index, host_count):
  """This host's share of a batch."""
  rng = np.random.default_rng(step)
  shape = (BATCH, FRAMES, MEL_BINS)
  batch = {
    "note_tokens": rng.integers(0, 1400, (BATCH, TOKENS), np.int32),
    "context": rng.uniform(-11, 3, shape).astype(np.float32),
    "context_mask": np.arange(FRAMES) < rng.integers(0, FRAMES, (BATCH, 1)),
    "targets": rng.uniform(-11, 3, shape).astype(np.float32),
    "targets_mask": np.arange(FRAMES) < rng.integers(1, FRAMES, (BATCH, 1)),
  }
  share = BATCH // host_count
  return {
    name: value[host_index * share : (host_index + 1) * share]
    for name, value in batch.items()
  }


def create():
  shapes = jax.eval_shape(MODEL.init, jax.random.key(0))
  rng = np.random.default_rng(0)
  parameters = jax.tree.map(
    lambda shape: jnp.asarray(rng.normal(0, 0.2, shape.shape), jnp.float32),
    shapes,
  )
  return steps.TrainState.create(parameters, OPTIMIZER)


def run_single():
  step, state, losses = jax.jit(STEP), jax.jit(create)(), []
  for i in range(NUM_STEPS):
    state, metrics = step(state, make_batch(i, 0, 1), jax.random.key(1))
    losses.append(float(metrics["loss"]))
  return {"losses": losses}


def run(spec):
  """Losses, and how a kernel and what belongs to it are cut."""
  if spec == "single":
    return run_single()
  partitioner = partitioning.Partitioner(*map(int, spec.split(":")))
  state = partitioner.create_state(create)
  step = partitioner.jit_step(STEP, state)
  host = partitioner.host_index, partitioner.host_count
  losses = []
  for i in range(NUM_STEPS):
    batch = partitioner.place_batch(make_batch(i, *host))
    state, metrics = step(state, batch, jax.random.key(1))
    losses.append(float(metrics["loss"]))

  def part(tree):
    kernel = tree["decoder"]["layers_0"]["mlp"]["wi_0"]["kernel"]
    return kernel.sharding.shard_shape(kernel.shape)

  return {
    "losses": losses,
    "parameters": part(state.parameters),
    "average": part(state.average),
    "host": host,
  }


def main():
  partitioning.initialize_distributed()
  print(json.dumps({spec: run(spec) for spec in sys.argv[1:]}), flush=True)


if __name__ == "__main__":
  main()
