"""The training loop: batches in, checkpoints and metrics out."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
import pathlib
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from music_spectrogram_diffusion.training import (
  checkpointing,
  interruption,
  reporting,
  sources,
)

State = Any
"""Any tree of arrays with an int32 scalar `step`."""
Step = Callable[[State, Any, PRNGKeyArray], tuple[State, dict[str, jax.Array]]]

_IN_FLIGHT = 2
"""Steps that may be queued on the device, so that it never waits for Python;
more would keep their batches in memory."""


def train(
  state: State,
  step: Step,
  source: sources.BatchIterator | Iterable[sources.Batch],
  *,
  directory: str | pathlib.Path,
  num_steps: int,
  key: PRNGKeyArray,
  checkpoints: checkpointing.CheckpointConfig = checkpointing.DEFAULT,
  watchers: Sequence[reporting.Watcher] = (),
  place_batch: Callable[[sources.Batch], Any] = jax.device_put,
  log_every: int = 50,
  identity: Mapping[str, Any] | None = None,
) -> State:
  """Trains up to `num_steps`, from the last checkpoint if there is one.

  A run that is stopped, killed or preempted at any moment and started again
  with the same arguments makes the same updates, to the last bit, as one that
  was not. Every process of a run calls this with the same arguments but for
  `source`.

  Args:
    state: Where training starts without a checkpoint, and how what is read of
      one is spread over devices. Its buffers are used up.
    step: Compiled function of state, batch and key; gives the next state, in
      the same shapes, and metrics, which are scalars. It may reuse the buffers
      of the state. The key is the run's: steps derive theirs from it and from
      `state.step`.
    source: Batches of this process. What is no `BatchIterator` must be the same
      each time, and goes on by skipping.
    directory: Where checkpoints and `metrics.jsonl` go.
    num_steps: Step to stop at.
    key: Seeds noise and dropout. A run that goes on keeps the one that it was
      begun with.
    checkpoints: When to save, and what to keep.
    watchers: Called after every so many steps and after the last; those that
      are guards (`reporting.Guard`) before what they look at is saved.
    place_batch: Puts a batch where the step uses it, ahead and in a thread.
    log_every: Steps from one line of metrics, means since the last, to the
      next; each checkpoint has one, too.
    identity: What makes this run this run: see `checkpointing.Checkpoints`.

  Returns:
    The last state.

  Raises:
    interruption.Interrupted: SIGTERM or Ctrl-C came; the run was saved.
    Exception: What a guard raises; the checkpoints so far stay.
    sources.NonFiniteError: A batch, a metric or the state is not finite; the
      checkpoints so far stay.
    checkpointing.SaveError: The disk is full, say; likewise.
    restoring.OtherRunError: Another model lives in `directory`.
    ValueError: All checkpoints are damaged, or another process trains there.
  """
  directory = pathlib.Path(directory).absolute()
  with checkpointing.Checkpoints(directory, checkpoints, identity) as saved:
    source = sources.as_batch_iterator(source)
    restored = saved.restore(state)
    if restored is not None:
      state, key = restored.state, restored.key
    first = int(state.step)
    if first >= num_steps:
      return state
    if restored is not None:
      source.set_state(restored.source_state)
    report = reporting.Report(
      directory, first, num_steps, log_every=log_every, watchers=watchers
    )
    batches = sources.Prefetcher(
      source,
      first=first,
      last=num_steps,
      wanted=lambda done: done == num_steps or saved.is_due(done),
      place=place_batch,
    )
    with batches, interruption.Interruption() as interrupted:
      state, is_stopped = _run(
        state, step, batches, key, first, num_steps, saved, report, interrupted
      )
      saved.wait()
      if is_stopped:
        raise interrupted.error(int(state.step), directory)
  return state


def _run(
  state: State,
  step: Step,
  batches: sources.Prefetcher,
  key: PRNGKeyArray,
  done: int,
  num_steps: int,
  saved: checkpointing.Checkpoints,
  report: reporting.Report,
  interrupted: interruption.Interruption,
) -> tuple[State, bool]:
  """Makes and saves the steps after `done`; gives the last state.

  And whether it is the last because the run was asked to stop.

  The host waits for no step, but for those before the last `_IN_FLIGHT` ones,
  and where something is reported or saved.
  """
  last, is_stopping = num_steps, False
  running: deque[Any] = deque()
  while done < last:
    try:
      batch, ids = next(batches)
    except StopIteration:
      report.say(f"the source of batches ended at step {done} of {last}")
      last = done
    else:
      state, metrics = step(state, batch, key)
      done += 1
      report.add(done, metrics, ids)
      if not running:
        report.began(done, metrics)
      running.append(metrics)
      if len(running) > _IN_FLIGHT:
        jax.block_until_ready(running.popleft())
    if not is_stopping and done < last and interrupted.asked():
      is_stopping, last = True, batches.request_state()
      report.say(f"asked to stop: saving at step {last}")
    saving = done == last or saved.is_due(done)
    # What is saved was looked at before, so that it is never NaN or lost; and
    # is saved before it is watched, which may take long.
    report.log(done, state, saving=saving)
    if saving and (done == last or not report.in_doubt):
      saved.save(done, state, key=key, source_state=batches.state(done))
    report.watch(done, state)
  return state, is_stopping and done < num_steps
