"""One training run of an experiment, short enough to need no checkpoints."""

from collections.abc import Callable
import dataclasses
import time

import jax
import numpy as np

from music_spectrogram_diffusion import training
from music_spectrogram_diffusion.training import flops, sources


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
  """What gin configures of a variant.

  Attributes:
    learner: What is trained.
    train_source: Function that makes the batches, as `run.train_model` has it.
    held_out_source: The same for songs that are not trained on.
    batch_size: Examples of a batch.
    num_steps: Updates to make.
    seed: Of parameters, batches and noise.
  """

  learner: training.ModelLearner
  train_source: Callable[..., training.BatchIterator]
  held_out_source: Callable[..., training.BatchIterator]
  batch_size: int
  num_steps: int
  seed: int = 0

  def step_flops(self) -> float:
    """Floating-point operations of an update."""
    batch = self._arrays(self._batches())
    key = jax.random.key(0)
    state = jax.eval_shape(self.learner.initial_state, key)
    return flops.count(self.learner.step, state, batch, key)

  def train(self) -> tuple[training.TrainState, dict[str, float]]:
    """Trains from the beginning.

    Returns:
      The last state, and what training cost: CPU seconds of an update and of
      making a batch, medians, and the loss of the last 50 updates.
    """
    init_key, key = jax.random.split(jax.random.key(self.seed))
    seconds, reading, last = [], [], []
    state = jax.jit(self.learner.initial_state)(init_key)
    step = jax.jit(self.learner.step, donate_argnums=0)
    batches = self._batches()
    for _ in range(self.num_steps):
      started = time.process_time()
      batch = self._arrays(batches)
      read = time.process_time()
      state, metrics = step(state, batch, key)
      last.append(float(metrics["loss"]))
      seconds.append(time.process_time() - read)
      reading.append(read - started)
    return state, {
      "seconds_a_step": float(np.median(seconds)),
      "seconds_a_batch": float(np.median(reading)),
      "loss": float(np.mean(last[-50:])),
    }

  def held_out(self, batch_size: int) -> training.BatchIterator:
    """Batches that are the same for every variant and seed."""
    return self.held_out_source(
      batch_size=batch_size, host_index=0, host_count=1, seed=1_000_003
    )

  def _batches(self) -> training.BatchIterator:
    return self.train_source(
      batch_size=self.batch_size, host_index=0, host_count=1, seed=self.seed
    )

  def _arrays(self, batches: training.BatchIterator) -> sources.Batch:
    batch = next(batches)
    batch = {name: batch[name] for name in batch if name != sources.IDS}
    self.learner.check_batch(batch)
    return batch
