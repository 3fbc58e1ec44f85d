"""The training loop: batches in, checkpoints and metrics out."""

from collections.abc import Callable, Iterator
from concurrent import futures
import json
import pathlib
import time
from typing import Any

import jax
import numpy as np
import optax
from orbax import checkpoint as ocp

from music_spectrogram_diffusion.training import step as steps

Batch = dict[str, np.ndarray]


def prefetched(
  make_batch: Callable[[int], Batch], first: int, last: int, ahead: int = 2
) -> Iterator[Batch]:
  """Batches `first` up to `last`, made in a thread while others are used."""
  with futures.ThreadPoolExecutor(1) as pool:
    waiting = [pool.submit(make_batch, i) for i in range(first, last)[:ahead]]
    for i in range(first, last):
      batch = waiting.pop(0).result()
      if i + ahead < last:
        waiting.append(pool.submit(make_batch, i + ahead))
      yield batch


def train(
  loss: steps.LossFunction,
  parameters: dict[str, Any],
  make_batch: Callable[[int], Batch],
  *,
  directory: str | pathlib.Path,
  num_steps: int,
  optimizer: optax.GradientTransformation,
  ema_decay: float = 0.999,
  seed: int = 0,
  log_every: int = 50,
  save_every: int = 500,
  keep: int = 2,
) -> steps.TrainState:
  """Trains up to `num_steps`, from the last checkpoint if there is one.

  A run that is stopped and started again with the same arguments makes the
  same updates as one that was not: batches and keys are functions of the seed
  and of the step.

  Args:
    loss: Function of parameters, batch and key; gives the loss and metrics.
    parameters: Where training starts without a checkpoint.
    make_batch: Batch of each step, arrays of the training contract.
    directory: Where checkpoints and `metrics.jsonl` go.
    num_steps: Step to stop at.
    optimizer: Turns gradients into updates.
    ema_decay: Weight of the old average of the parameters.
    seed: Seeds noise and dropout.
    log_every: Steps from one line of metrics, means since the last, to the
      next; each checkpoint has one, too.
    save_every: Steps from one checkpoint to the next.
    keep: How many checkpoints stay.

  Returns:
    The last state.

  Raises:
    FloatingPointError: The loss or its gradient is not a finite number; the
      checkpoints so far stay.
  """
  directory = pathlib.Path(directory).absolute()
  directory.mkdir(parents=True, exist_ok=True)
  state = steps.TrainState.create(parameters, optimizer)
  options = ocp.CheckpointManagerOptions(
    max_to_keep=keep, save_interval_steps=save_every
  )
  with ocp.CheckpointManager(directory, options=options) as manager:
    if manager.latest_step() is not None:
      restored = manager.restore(
        manager.latest_step(), args=ocp.args.StandardRestore(vars(state))
      )
      state = steps.TrainState(**restored)
    first = int(state.step)
    key = jax.random.key(seed)
    recent: list[dict[str, Any]] = []
    since = time.monotonic()
    for index, batch in zip(
      range(first, num_steps),
      prefetched(make_batch, first, num_steps),
      strict=True,
    ):
      state, metrics = steps.train_step(
        state,
        batch,
        key,
        loss=loss,
        optimizer=optimizer,
        ema_decay=ema_decay,
      )
      recent.append(metrics)
      done = index + 1
      saving = done % save_every == 0 or done == num_steps
      # What is saved was looked at before, so that it is never NaN.
      if saving or done % log_every == 0:
        # Waits for the steps, which so far may only have been dispatched.
        finished = jax.device_get(recent)
        elapsed_s = time.monotonic() - since
        _log(directory, done, num_steps, finished, elapsed_s / len(recent))
        recent, since = [], time.monotonic()
      if saving:
        manager.save(done, args=ocp.args.StandardSave(vars(state)), force=True)
        # The next step reuses the buffers that are being saved.
        manager.wait_until_finished()
  return state


def restore_average(directory: str | pathlib.Path) -> dict[str, Any]:
  """The averaged parameters of a run's last checkpoint.

  Raises:
    ValueError: There is no checkpoint in `directory`.
  """
  directory = pathlib.Path(directory).absolute()
  if not directory.is_dir():
    raise ValueError(f"Expected checkpoints in {directory}; found nothing.")
  with ocp.CheckpointManager(directory) as manager:
    if manager.latest_step() is None:
      raise ValueError(f"Expected a checkpoint in {directory}; found none.")
    restored = manager.restore(
      manager.latest_step(), args=ocp.args.StandardRestore()
    )
  return restored["average"]


def _log(directory, done, num_steps, recent, seconds_per_step):
  """Appends the means of recent metrics to `metrics.jsonl` and prints them."""
  means = {
    name: float(np.mean([metrics[name] for metrics in recent]))
    for name in recent[0]
  }
  means["seconds_per_step"] = seconds_per_step
  with (directory / "metrics.jsonl").open("a") as file:
    file.write(json.dumps({"step": done} | means) + "\n")
  left_min = (num_steps - done) * seconds_per_step / 60
  values = "  ".join(f"{name} {value:.4g}" for name, value in means.items())
  print(
    f"step {done}/{num_steps}  {values}  {left_min:.0f} min left", flush=True
  )
  if not np.isfinite([means["loss"], means["gradient_norm"]]).all():
    raise FloatingPointError(
      f"Loss is {means['loss']} and its gradient {means['gradient_norm']} at"
      f" step {done}; the last checkpoint in {directory} is kept. Lower the"
      " learning rate or look at the data."
    )
