"""Watchers of a run: its speed, its losses, and those on what it never sees.

`training_summaries`, `Evaluation` and `renderings.Renderings` are what
`run.train_model` takes as `watchers`: given the run before it begins, they make
what looks at it now and then.
"""

from collections.abc import Callable, Mapping
import math
from typing import Any

import jax
from jax import numpy as jnp
import optax

from music_spectrogram_diffusion.training import (
  flops,
  learners,
  partitioning,
  summaries,
)
from music_spectrogram_diffusion.training.run import Run


class TrainingSummaries:
  """Writes the metrics of training, its speed and its learning rate.

  Loss in total and by noise level, norms of gradient and parameters are as the
  step gives them: means over the steps since the last time.

  Args:
    log: Where to.
    every: Steps from one summary to the next.
    batch_size: Examples of a step.
    frames: Spectrogram frames of an example; None where it has none.
    learning_rate: The learning rate, or a function of the step.
    step_flops: Floating-point operations of a step; None where not known.
    peak_flops: Operations a second that all devices together could do; or None.
  """

  def __init__(
    self,
    log: summaries.Summaries,
    *,
    every: int,
    batch_size: int,
    frames: int | None = None,
    learning_rate: optax.ScalarOrSchedule | None = None,
    step_flops: float | None = None,
    peak_flops: float | None = None,
  ):
    self.every = every
    self._log = log
    self._batch_size = batch_size
    self._frames = frames
    self._learning_rate = learning_rate
    self._step_flops, self._peak_flops = step_flops, peak_flops

  def __call__(self, step: int, state: Any, metrics: Mapping[str, float]):
    """See `reporting.Watcher`."""
    del state
    values = dict(metrics)
    seconds = values["seconds_per_step"]
    values["examples_per_second"] = self._batch_size / seconds
    if self._frames is not None:
      values["frames_per_second"] = self._frames * self._batch_size / seconds
    rate = self._learning_rate
    if rate is not None:
      # Of the last update; schedules count from 0.
      values["learning_rate"] = float(
        rate(step - 1) if callable(rate) else rate
      )
    if self._step_flops is not None:
      values["flops_per_second"] = self._step_flops / seconds
      if self._peak_flops is not None:
        values["mfu"] = values["flops_per_second"] / self._peak_flops
    self._log.scalars(step, values)


def training_summaries(
  run: Run,
  *,
  every: int = 100,
  learning_rate: optax.ScalarOrSchedule | None = None,
) -> TrainingSummaries:
  """Watches the training of a model; see `TrainingSummaries`.

  Args:
    run: The run.
    every: Steps from one summary to the next.
    learning_rate: What the optimizer was given.
  """
  network = getattr(getattr(run.learner, "model", None), "network", None)
  peak = flops.device_peak()
  return TrainingSummaries(
    summaries.Summaries(run.directory, "train"),
    every=every,
    batch_size=run.batch_size,
    frames=None if network is None else network.segment_frames,
    learning_rate=learning_rate,
    step_flops=model_flops(run.learner, run.batch_size),
    peak_flops=None if peak is None else peak * _num_devices(),
  )


def _num_devices() -> int:
  """Devices that work side by side; those that a CPU pretends to be do not."""
  if jax.default_backend() == "cpu":
    return jax.process_count()
  return jax.device_count()


def model_flops(learner: learners.Learner, batch_size: int) -> float | None:
  """Operations of a step: three times those of the loss.

  What rematerialisation computes again does not count, as usual for the model
  FLOPs utilisation (MFU) of Chowdhery et al. 2022,
  https://arxiv.org/abs/2204.02311, appendix B.

  Args:
    learner: What is trained.
    batch_size: Examples of a step.

  Returns:
    Operations; None for what is no model of the room `models`.
  """
  if not isinstance(learner, learners.ModelLearner):
    return None
  key = jax.random.key(0)
  state = jax.eval_shape(learner.initial_state, key)
  batch = batch_shapes(learner, batch_size)
  return 3.0 * flops.count(learner.evaluate, state, batch, key)


def batch_shapes(
  learner: learners.ModelLearner, batch_size: int
) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes of a batch of the training contract, with as many tokens as fit."""
  network = learner.model.network
  frames = (batch_size, network.segment_frames)
  mels = (*frames, learner.model.spectrogram.n_mels)
  return {
    "note_tokens": jax.ShapeDtypeStruct(
      (batch_size, network.max_tokens), jnp.int32
    ),
    "context": jax.ShapeDtypeStruct(mels, jnp.float32),
    "context_mask": jax.ShapeDtypeStruct(frames, jnp.bool_),
    "targets": jax.ShapeDtypeStruct(mels, jnp.float32),
    "targets_mask": jax.ShapeDtypeStruct(frames, jnp.bool_),
  }


class Evaluation:
  """The metrics of a fixed choice of what is not trained on.

  Without dropout, and with the same noise each time, so that they change with
  the model alone.

  Args:
    run: The run.
    every: Steps from one evaluation to the next.
    num_batches: How many batches of the run's evaluation source.
    seed: Seeds the noise.
  """

  def __init__(
    self, run: Run, *, every: int = 1000, num_batches: int = 20, seed: int = 0
  ):
    self.every = every
    self._run, self._num_batches = run, num_batches
    self._key = jax.random.key(seed)
    self._log = summaries.Summaries(run.directory, "eval")
    self._evaluate: Callable[..., learners.Metrics] | None = None

  def __call__(self, step: int, state: Any, metrics: Mapping[str, float]):
    """See `reporting.Watcher`."""
    del metrics
    if self._run.eval_source is None:
      return
    if self._evaluate is None:
      self._evaluate = jit_evaluation(
        self._run.learner.evaluate, self._run.partitioner, state
      )
    found = []
    for i, batch in enumerate(self._run.eval_batches(self._num_batches)):
      found.append(
        self._evaluate(state, batch, jax.random.fold_in(self._key, i))
      )
    means = mean_of_numbers(jax.device_get(found))
    self._log.scalars(step, means)
    if jax.process_index() == 0:
      values = "  ".join(f"{name} {value:.4g}" for name, value in means.items())
      print(f"step {step}  evaluation: {values}", flush=True)


def jit_evaluation(
  evaluate: Callable[..., Any],
  partitioner: partitioning.Partitioner,
  state: Any,
) -> Callable[..., Any]:
  """Compiles a function of state, batch and key for the mesh.

  Args:
    evaluate: Gives what every host gets whole.
    partitioner: Where arrays lie.
    state: The state, or its shapes.
  """
  return jax.jit(
    evaluate,
    in_shardings=(
      partitioner.state_sharding(state),
      partitioner.batch_sharding,
      partitioner.replicated,
    ),
    out_shardings=partitioner.replicated,
  )


def mean_of_numbers(found: list[Mapping[str, Any]]) -> dict[str, float]:
  """Means of each metric over the batches where it is a number."""
  means = {}
  for name in dict.fromkeys(name for metrics in found for name in metrics):
    values = [float(metrics[name]) for metrics in found if name in metrics]
    values = [value for value in values if not math.isnan(value)]
    if values:
      means[name] = math.fsum(values) / len(values)
  return means
