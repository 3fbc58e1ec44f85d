"""Checkpoints of a run: written whole or not at all, looked at when read."""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import json
import logging
import pathlib
import shutil
from typing import Any, NamedTuple
import warnings

import jax
from jaxtyping import PRNGKeyArray
from orbax import checkpoint as ocp

from music_spectrogram_diffusion.training import checkpoint_contents as contents
from music_spectrogram_diffusion.training import restoring, run_folder


class SaveError(ValueError):
  """A checkpoint could not be written; those before it are as they were."""


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
  """When a run is saved, and which checkpoints stay.

  Attributes:
    save_every: Steps from one checkpoint to the next.
    keep: How many of the last checkpoints stay.
    keep_every: Checkpoints of multiples of so many steps stay for good.
    asynchronous: Whether training goes on while a checkpoint is written.
  """

  save_every: int = 500
  keep: int = 2
  keep_every: int | None = None
  asynchronous: bool = True

  def __post_init__(self):
    for name in ("save_every", "keep", "keep_every"):
      value = getattr(self, name)
      if value is not None and value < 1:
        raise ValueError(f"Expected {name} of at least 1, got {value}.")
    if self.keep_every and self.keep_every % self.save_every:
      raise ValueError(
        "Expected keep_every to be a multiple of save_every ="
        f" {self.save_every}, got {self.keep_every}: other checkpoints are not"
        " made."
      )


_LOGGER = logging.getLogger("absl")

DEFAULT = CheckpointConfig()


class Restored(NamedTuple):
  """What a run goes on from.

  Attributes:
    state: Train state.
    key: Key of the run.
    source_state: Where this host's source of batches stood.
  """

  state: Any
  key: PRNGKeyArray
  source_state: bytes


class Checkpoints:
  """The checkpoints of one run, in folders named after their steps.

  Each is complete when it appears under its name: the train state, and for
  every host a file with the key of the run, the position in the data, what run
  it is and a checksum of each array.

  Args:
    directory: Where they lie.
    config: When they are made, and which stay.
    identity: What makes this run this run, as the configuration of its model;
      anything that JSON can say. A checkpoint of another identity is refused.

  Raises:
    ValueError: Another process trains there.
  """

  def __init__(
    self,
    directory: str | pathlib.Path,
    config: CheckpointConfig = DEFAULT,
    identity: Mapping[str, Any] | None = None,
  ):
    self.directory = pathlib.Path(directory).absolute()
    self._config = config
    self._identity = json.loads(json.dumps(dict(identity or {})))
    self._saving: int | None = None
    self._failure: SaveError | None = None  # Of the last save, if it failed.
    self.directory.mkdir(parents=True, exist_ok=True)
    self._lock = run_folder.lock(self.directory)
    _LOGGER.addFilter(_is_not_of_orbax)
    self._manager = self._new_manager()

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def close(self) -> None:
    """Lets a save that is under way end; `wait` tells whether it did well."""
    _close(self._manager)
    _LOGGER.removeFilter(_is_not_of_orbax)
    if jax.process_count() == 1:
      # Of a save that failed, parts may have been written until now.
      self._clear_partial()
    if self._lock is not None:
      self._lock.close()

  def is_due(self, step: int) -> bool:
    """Whether the configuration says to save after this step."""
    return step % self._config.save_every == 0

  def save(
    self, step: int, state: Any, *, key: PRNGKeyArray, source_state: bytes
  ) -> None:
    """Saves a state, whose buffers may be reused as soon as this returns.

    Orbax has then copied them to the host; on a CPU it holds a view of them,
    and JAX reuses no buffer that is looked at.

    A first failure is a warning, as the next save may go well; two one after
    the other are an error.

    Args:
      step: Step of the state.
      state: Any tree of arrays.
      key: Key of the run.
      source_state: Where this host's source of batches stands.

    Raises:
      sources.NonFiniteError: The state holds NaN; nothing is written.
      SaveError: As above.
    """
    if step in self._manager.all_steps():
      return  # A run that was interrupted at a step to be saved anyway.
    leaves = contents.inspected(state, where=f"the state after step {step}")
    run = {
      "step": step,
      "identity": self._identity,
      "key": contents.key_to_json(key),
      "source_state": source_state.hex(),
      "leaves": leaves,
    }
    self._settle()
    self._saving = step
    try:
      run_folder.check_room(self.directory, state)
      self._manager.save(
        step,
        args=ocp.args.Composite(
          **{
            restoring.STATE: ocp.args.PyTreeSave(state),
            restoring.RUN: contents.RunSave(run),
          }
        ),
        force=True,
      )
    except Exception as error:
      self._fail(error)

  def wait(self) -> None:
    """Waits until what was saved last is complete.

    Raises:
      SaveError: It could not be written.
    """
    self._settle(is_last=True)
    if self._failure is not None:
      raise self._failure

  def restore(self, state: Any) -> Restored | None:
    """Reads the last checkpoint that is sound, onto the devices of `state`.

    Damaged ones are named in a warning and set aside, as `damaged-STEP`.

    Args:
      state: Tree of arrays as they are before training, or of their shapes
        with shardings. Arrays on devices are freed, to make room.

    Returns:
      What the run goes on from; None where nothing has been saved.

    Raises:
      OtherRunError: The checkpoint is of another model.
      ValueError: There are checkpoints, but all are damaged.
    """
    steps = sorted(self._manager.all_steps(), reverse=True)
    target = jax.tree.map(restoring.abstract, state)
    expected = contents.shapes(state)
    damaged = []
    for step in steps:
      try:
        run = contents.read_run(self.directory / str(step) / restoring.RUN)
        self._check_run(step, run, expected)
        for leaf in jax.tree.leaves(state):
          if isinstance(leaf, jax.Array):
            leaf.delete()
        restored = restoring.restore_state(self._manager, step, target, run)
      except restoring.NO_DAMAGE:
        raise
      except Exception as error:
        damaged.append(step)
        restoring.warn_of_damage(self.directory / str(step), error)
        continue
      self._set_aside(damaged)
      return Restored(
        restored,
        contents.key_from_json(run["key"]),
        bytes.fromhex(run["source_state"]),
      )
    if steps:
      raise ValueError(
        f"Expected a sound checkpoint in {self.directory}; all are damaged:"
        f" steps {', '.join(map(str, steps))}."
      )
    return None

  def _new_manager(self) -> ocp.CheckpointManager:
    """Clears away what was left half-written, and reads what there is."""
    self._clear_partial()
    options = ocp.CheckpointManagerOptions(
      max_to_keep=self._config.keep,
      keep_period=self._config.keep_every,
      enable_async_checkpointing=self._config.asynchronous,
    )
    return ocp.CheckpointManager(self.directory, options=options)

  def _clear_partial(self) -> None:
    if jax.process_index() == 0:
      for path in self.directory.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*"):
        shutil.rmtree(path, ignore_errors=True)

  def _settle(self, *, is_last: bool = False) -> None:
    """Waits for the save under way."""
    if self._saving is None:
      return
    try:
      self._manager.wait_until_finished()
    except Exception as error:
      self._fail(error, is_last=is_last)
    else:
      self._saving = self._failure = None

  def _fail(self, error: Exception, *, is_last: bool = False) -> None:
    """Clears away what a save left; warns of a first failure in a row."""
    step, self._saving = self._saving, None
    is_alone = jax.process_count() == 1
    if is_alone:  # Else it would wait for hosts that do not know.
      _close(self._manager)
      self._manager = self._new_manager()
    last = self._manager.latest_step()
    kept = (
      "there was none before" if last is None else f"that of {last} is kept"
    )
    failure = SaveError(
      f"Cannot save step {step} in {self.directory}:"
      f" {run_folder.reason_of_failure(error, self.directory)}; {kept}."
    )
    if self._failure is not None or is_last or not is_alone:
      raise failure from error
    self._failure = failure
    warnings.warn(f"{failure} The next save is tried again.", stacklevel=4)

  def _check_run(self, step, run, expected) -> None:
    """Raises OtherRunError where a checkpoint is not of this run."""
    differences = [
      f"{name} is {there!r} there, {here!r} here"
      for name, there, here in _differences(run["identity"], self._identity)
    ]
    for path in run["leaves"] | expected:
      there, here = (
        _shape_in_words(leaves.get(path))
        for leaves in (run["leaves"], expected)
      )
      if there != here:
        differences.append(f"{path} is {there} there, {here} here")
    if differences:
      more = len(differences) - 3
      raise restoring.OtherRunError(
        f"Expected no run in {self.directory}, or one of this model; found step"
        f" {step} of another: {'; '.join(differences[:3])}"
        f"{f'; and {more} more' if more > 0 else ''}. Choose another directory."
      )

  def _set_aside(self, steps: list[int]) -> None:
    """Renames damaged checkpoints, so that their steps can be saved again."""
    if not steps:
      return
    _close(self._manager)
    if jax.process_index() == 0:
      for step in steps:
        aside = self.directory / f"damaged-{step}"
        shutil.rmtree(aside, ignore_errors=True)
        (self.directory / str(step)).rename(aside)
    ocp.multihost.sync_global_processes("damaged checkpoints set aside")
    self._manager = self._new_manager()


def _shape_in_words(leaf: dict[str, Any] | None) -> str:
  return f"{leaf['dtype']}{leaf['shape']}" if leaf else "missing"


def _differences(
  there: Any, here: Any, name: str = ""
) -> Iterator[tuple[str, Any, Any]]:
  """Dotted name and both values of all that differs between JSON values."""
  if isinstance(there, dict) and isinstance(here, dict):
    for key in there | here:
      inner = f"{name}.{key}" if name else key
      yield from _differences(there.get(key), here.get(key), inner)
  elif there != here:
    yield name, there, here


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
  """Orbax logs, with tracebacks, what it raises as well."""
  path = pathlib.PurePath(record.pathname)
  return "orbax" not in path.parts or record.levelno > logging.ERROR


def _close(manager: ocp.CheckpointManager) -> None:
  """Closes a manager whose last save may have failed; that was said before."""
  with contextlib.suppress(Exception):
    manager.wait_until_finished()
  manager.close()
