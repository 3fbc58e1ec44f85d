"""Trains the embedded default model on prepared songs.

`python -m music_spectrogram_diffusion.training.default_model --data DIR --run
DIR --steps N`: start it again with the same `--run` and it goes on.
"""

import argparse
import functools
import json
import pathlib

import jax
from jaxtyping import Float
import numpy as np

from music_spectrogram_diffusion import audio, data, diffusion, models, notes
from music_spectrogram_diffusion.training import (
  checkpointing,
  loop,
  optimizers,
  sources,
)
from music_spectrogram_diffusion.training import step as steps

VOCABULARY = notes.Vocabulary(velocity_bins=32)
SIGMA_DATA = 0.4
"""Deviation of a bin that is left when its notes are known, of the whole."""


def bin_statistics(
  batches: data.WindowBatches, num_batches: int = 40
) -> tuple[Float[np.ndarray, " mel_bins"], Float[np.ndarray, " mel_bins"]]:
  """Mean and deviation of every mel bin of targets, on the model's scale."""
  frames = []
  for step in range(num_batches):
    batch = batches.batch(step)
    scaled = audio.scale_log_mel(batch["targets"], batches.config, clip=True)
    frames.append(scaled[batch["targets_mask"]])
  frames = np.concatenate(frames)
  return frames.mean(axis=0), frames.std(axis=0)


def default_model(
  batches: data.WindowBatches, **network_options: int
) -> models.DiffusionModel:
  """The aligned model, preconditioned for what `batches` hold."""
  mean, deviation = bin_statistics(batches)
  return models.DiffusionModel(
    network=models.aligned_network(**network_options),
    vocabulary=batches.vocabulary,
    spectrogram=batches.config,
    parameterization=diffusion.parameterization.EDM(
      mean=mean, deviation=np.maximum(SIGMA_DATA * deviation, 0.02)
    ),
    sampling=models.SamplingConfig(
      sampler="ddim", num_steps=3, guidance_weight=1.5, end_time=0.7
    ),
  )


def main():
  """Trains from the command line; exits 2 with one line for wrong inputs."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--data", required=True, help="prepared songs")
  parser.add_argument("--run", type=pathlib.Path, required=True)
  parser.add_argument("--steps", type=int, required=True)
  parser.add_argument("--decay_steps", type=int, default=0)
  parser.add_argument("--learning_rate", type=float, default=8e-4)
  parser.add_argument("--batch_size", type=int, default=8)
  parser.add_argument("--max_tokens", type=int, default=640)
  parser.add_argument("--save_every", type=int, default=200)
  args = parser.parse_args()
  try:
    _train(args)
  except ValueError as error:
    parser.exit(2, f"error: {error}\n")


def _train(args: argparse.Namespace):
  """Trains a new model, or goes on with the run that is there."""
  batches = data.WindowBatches(
    args.data,
    vocabulary=VOCABULARY,
    config=audio.SpectrogramConfig(),
    batch_size=args.batch_size,
    max_tokens=args.max_tokens,
  )
  described = args.run / "model.json"
  if described.exists():
    model = models.from_config(json.loads(described.read_text()))
  else:
    model = default_model(batches)
    args.run.mkdir(parents=True, exist_ok=True)
    described.write_text(json.dumps(models.to_config(model), indent=2))
  objective = models.Objective(
    loss=diffusion.losses.output_loss, drop_context=0.25, noise_draws=2
  )
  schedule = optimizers.warm_up_then_decay(
    peak=args.learning_rate,
    num_steps=args.steps,
    decay_steps=args.decay_steps,
  )
  optimizer = optimizers.adamw(schedule, weight_decay=0.01)
  # As one program: operation by operation takes a minute longer.
  draw = jax.jit(lambda key: models.harmonic_init(key, model))
  step = functools.partial(
    steps.train_step,
    loss=functools.partial(model.loss, objective=objective),
    optimizer=optimizer,
  )
  loop.train(
    steps.TrainState.create(draw(jax.random.key(0)), optimizer),
    jax.jit(step, donate_argnums=0),
    sources.StepIndexed(batches.batch),
    directory=args.run / "checkpoints",
    num_steps=args.steps,
    key=jax.random.key(0),
    checkpoints=checkpointing.CheckpointConfig(save_every=args.save_every),
  )


if __name__ == "__main__":
  main()
