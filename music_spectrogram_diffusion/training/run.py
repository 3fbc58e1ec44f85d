"""A training run, from its parts: what a gin file configures.

`train_model` knows neither models nor optimizers: what is trained, on what and
where are objects and functions passed in.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import itertools
import json
import os
from pathlib import Path
from typing import Any
import warnings

import jax
from jaxtyping import PRNGKeyArray

from music_spectrogram_diffusion.training import (
  checkpointing,
  fine_tuning,
  layout,
  learners,
  loop,
  partitioning,
  reporting,
  sources,
)

Source = Callable[..., sources.BatchIterator]
"""Makes an iterator of batches of this process's share of the data: a function
of `batch_size` (of this process), `host_index`, `host_count` and `seed`."""

_EVAL_SEED = 1_000_003
"""Seeds the choice of what is evaluated on, for every run the same."""

_MAY_CHANGE = frozenset(
  {"sampling", "dither", "dropout_rate", "dtype", "remat", "follows_notes"}
)
"""Fields of a description that weights do not depend on."""

_ADDED_LATER = {"describe_ties": False}
"""What fields were, where a description does not have them yet."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """What those who watch a run are told of it before it begins.

  Attributes:
    directory: The run's.
    learner: What is trained.
    partitioner: Where arrays lie.
    total_steps: Step that the run stops at.
    batch_size: Examples of a batch, of all hosts.
    key: Key of the run.
    eval_source: Source of what is not trained on, or None.
  """

  directory: Path
  learner: learners.Learner
  partitioner: partitioning.Partitioner
  total_steps: int
  batch_size: int
  key: PRNGKeyArray
  eval_source: Source | None

  def batches(self, source: Source, seed: int) -> sources.BatchIterator:
    """This host's share of a source."""
    return source(
      batch_size=self.partitioner.host_batch_size(self.batch_size),
      host_index=self.partitioner.host_index,
      host_count=self.partitioner.host_count,
      seed=seed,
    )

  def place_batch(self, batch: sources.Batch) -> Any:
    """Looks at a batch and puts it on the devices."""
    self.learner.check_batch(batch)
    return self.partitioner.place_batch(batch)

  def eval_batches(self, num_batches: int) -> Iterator[Any]:
    """The same batches each time, on the devices; none without a source."""
    if self.eval_source is None:
      return
    batches = self.batches(self.eval_source, _EVAL_SEED)
    try:
      for batch in itertools.islice(batches, num_batches):
        yield self.place_batch(
          {name: value for name, value in batch.items() if name != sources.IDS}
        )
    finally:
      _close(batches)


def train_model(
  *,
  model_dir: str | os.PathLike,
  learner: learners.Learner,
  train_source: Source,
  total_steps: int,
  batch_size: int,
  partitioner: partitioning.Partitioner,
  checkpoints: checkpointing.CheckpointConfig,
  eval_source: Source | None = None,
  seed: int = 0,
  initial_model: fine_tuning.InitialModel | None = None,
  watchers: Sequence[Callable[[Run], reporting.Watcher]] = (),
  log_every: int = 50,
  on_start: Callable[[Path], None] = lambda directory: None,
) -> Any:
  """Trains, from the beginning or from where the run was left.

  Args:
    model_dir: The run's directory: `model.json` says what is trained,
      `checkpoints` holds what the same call goes on from.
    learner: What is trained.
    train_source: What it is trained on.
    total_steps: Step to stop at.
    batch_size: Examples of a batch, of all hosts together.
    partitioner: Where arrays lie.
    checkpoints: When to save, and what to keep.
    eval_source: What it is not trained on, for `watchers`.
    seed: Seeds everything that is random.
    initial_model: Where a new run's weights come from; fresh ones without.
    watchers: Each makes something that looks at the run now and then.
    log_every: Steps from one line of metrics to the next.
    on_start: Called with the run's directory, on one of the hosts, when all
      parts have been made.

  Returns:
    The last state.

  Raises:
    ValueError: Parts do not fit each other, or another model lives in
      `model_dir`; and as `loop.train`.
  """
  directory = Path(model_dir)
  init_key, key = jax.random.split(jax.random.key(seed))
  run = Run(
    directory=directory,
    learner=learner,
    partitioner=partitioner,
    total_steps=total_steps,
    batch_size=batch_size,
    key=key,
    eval_source=eval_source,
  )
  batches = run.batches(train_source, seed)
  if eval_source is not None:  # What is wrong with it is said at once.
    _close(run.batches(eval_source, _EVAL_SEED))
  is_new = not layout.has_begun(directory)
  if not is_new:
    check_description(directory, learner.describe())
  shapes = jax.eval_shape(learner.initial_state, init_key)
  given = None
  if is_new and initial_model is not None and initial_model.path is not None:
    description, given = initial_model.load()
    # Here, so that what does not fit is said before anything is compiled.
    initial_model.fitted(given, shapes.average)
    _warn_of_differences(initial_model.path, description, learner)
  state = partitioner.create_state(learner.initial_state, init_key)
  if given is not None:
    fitted = initial_model.fitted(given, state.average)
    state = partitioner.place_state(learner.start_from(state, fitted))
  step = partitioner.jit_step(learner.step, shapes)
  watching = [make(run) for make in watchers]
  if jax.process_index() == 0:
    _describe(directory, learner)
    on_start(directory)
  try:
    return loop.train(
      state,
      step,
      batches,
      directory=layout.checkpoints(directory),
      num_steps=total_steps,
      key=key,
      checkpoints=checkpoints,
      watchers=watching,
      place_batch=run.place_batch,
      log_every=log_every,
    )
  finally:
    _close(batches)


def _close(batches: sources.BatchIterator) -> None:
  """Ends what an iterator has started, if it has a way to."""
  getattr(batches, "close", lambda: None)()


def check_description(
  directory: str | os.PathLike, description: Mapping[str, Any]
) -> None:
  """Compares what is to be trained with what a run's directory says.

  Args:
    directory: The run's.
    description: What is to be trained, as JSON values.

  Raises:
    ValueError: Another model lives there; the message says what differs.
  """
  path = Path(directory, layout.MODEL)
  try:
    found = json.loads(path.read_text("utf-8"))
  except FileNotFoundError:
    return
  except ValueError as error:
    raise ValueError(f"Cannot read {path}: {error}") from error
  differences = list(_differences(description, found))
  if differences:
    raise ValueError(
      f"{directory} holds a run of another model: {'; '.join(differences)}."
      " Take another MODEL_DIR, or the gin files that it was made with."
    )


def _describe(directory: Path, learner: learners.Learner) -> None:
  """Writes what is trained into the run's directory, whole or not at all."""
  directory.mkdir(parents=True, exist_ok=True)
  partial = directory / f".{layout.MODEL}.{os.getpid()}"
  text = json.dumps(learner.describe(), indent=2)
  partial.write_text(f"{text}\n", "utf-8")
  partial.replace(directory / layout.MODEL)


def _warn_of_differences(path, description, learner) -> None:
  """Says where weights that fit have meant something else."""
  ours = learner.describe()
  if not description or description.get("type") != ours.get("type"):
    return
  if differences := list(_differences(ours, description)):
    warnings.warn(
      f"{path} was another model, whose weights fit: {'; '.join(differences)}.",
      stacklevel=3,
    )


def _differences(ours, theirs, name=""):
  """Yields what differs between two descriptions, field by field."""
  if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
    for key in [*ours, *(key for key in theirs if key not in ours)]:
      if key not in _MAY_CHANGE:
        inner = f"{name}/{key}" if name else key
        otherwise = _ADDED_LATER.get(key)
        found = theirs.get(key, otherwise)
        yield from _differences(ours.get(key, otherwise), found, inner)
  elif ours != theirs:
    yield f"{name} is {_brief(theirs)} there and {_brief(ours)} here"


def _brief(value: Any) -> str:
  text = json.dumps(value)
  return text if len(text) <= 40 else f"{text[:37]}..."
