"""Checkpoints of a run: written whole or not at all, looked at when read."""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import errno
import fcntl
import json
import logging
import pathlib
import shutil
from typing import IO, Any, NamedTuple
import warnings

from flax import traverse_util
import jax
from jaxtyping import PRNGKeyArray
import numpy as np
from orbax import checkpoint as ocp

from music_spectrogram_diffusion.training import checkpoint_contents as contents

STATE, RUN = "state", "run"
"""Items of a checkpoint: arrays, and what belongs to them."""

LOCK = ".lock"
"""A file that the process that trains in a directory holds a lock of."""


class SaveError(ValueError):
  """A checkpoint could not be written; those before it are as they were."""


class MissingPartError(ValueError):
  """A run does not hold what is asked of it."""


class OtherRunError(ValueError):
  """A directory holds the run of another model."""


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


_LONGEST_REASON = 300
_LOGGER = logging.getLogger("absl")

_NO_DAMAGE = (
  OtherRunError,
  MissingPartError,
  contents.HostsError,
  MemoryError,
  PermissionError,
  jax.errors.JaxRuntimeError,
)


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
    self._lock = _lock(self.directory)
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
      _check_room(self.directory, state)
      self._manager.save(
        step,
        args=ocp.args.Composite(
          **{STATE: ocp.args.PyTreeSave(state), RUN: contents.RunSave(run)}
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
    target = jax.tree.map(_abstract, state)
    expected = contents.shapes(state)
    damaged = []
    for step in steps:
      try:
        run = contents.read_run(self.directory / str(step) / RUN)
        self._check_run(step, run, expected)
        for leaf in jax.tree.leaves(state):
          if isinstance(leaf, jax.Array):
            leaf.delete()
        restored = _restore_state(self._manager, step, target, run)
      except _NO_DAMAGE:
        raise
      except Exception as error:
        damaged.append(step)
        _warn_of_damage(self.directory / str(step), error)
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
    if jax.process_index() == 0:
      for path in self.directory.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*"):
        shutil.rmtree(path, ignore_errors=True)
    options = ocp.CheckpointManagerOptions(
      max_to_keep=self._config.keep,
      keep_period=self._config.keep_every,
      enable_async_checkpointing=self._config.asynchronous,
    )
    return ocp.CheckpointManager(self.directory, options=options)

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
      f" {_reason_of_failure(error, self.directory)}; {kept}."
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
      raise OtherRunError(
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


def restore_parameters(
  directory: str | pathlib.Path,
  *,
  average: bool = True,
  step: int | None = None,
) -> dict[str, Any]:
  """The parameters of a run, as NumPy arrays; nothing else of it is read.

  Args:
    directory: Where its checkpoints lie.
    average: Whether to take the moving average of the parameters.
    step: Which checkpoint to take; the last sound one where None.

  Raises:
    ValueError: There is no such checkpoint or no average in it, or it is
      damaged.
  """
  directory = pathlib.Path(directory).absolute()
  if not directory.is_dir():
    raise ValueError(f"Expected checkpoints in {directory}; found nothing.")
  options = ocp.CheckpointManagerOptions(
    read_only=True, save_interval_steps=0, create=False
  )
  with ocp.CheckpointManager(directory, options=options) as manager:
    steps = sorted(manager.all_steps(), reverse=True)
    if not steps or (step is not None and step not in steps):
      raise ValueError(
        f"Expected a checkpoint{f' of step {step}' * (step is not None)} in"
        f" {directory}; found {', '.join(map(str, steps)) or 'none'}."
      )
    for candidate in steps if step is None else [step]:
      try:
        return _restore_part(
          manager, candidate, "average" if average else "parameters"
        )
      except _NO_DAMAGE:
        raise
      except Exception as error:
        _warn_of_damage(directory / str(candidate), error)
  raise ValueError(f"Expected a sound checkpoint in {directory}; found none.")


def restore_average(directory: str | pathlib.Path) -> dict[str, Any]:
  """The averaged parameters of a run's last checkpoint.

  Raises:
    ValueError: There is no checkpoint in `directory`.
  """
  return restore_parameters(directory)


def _restore_part(
  manager: ocp.CheckpointManager, step: int, name: str
) -> dict[str, Any]:
  """Reads one nested dict of a saved state, whatever the rest is."""
  run = contents.read_run(pathlib.Path(manager.directory) / str(step) / RUN)
  part = {
    tuple(path.split("/")): jax.ShapeDtypeStruct(leaf["shape"], leaf["dtype"])
    for path, leaf in run["leaves"].items()
    if path.startswith(f"{name}/")
  }
  if not part:
    raise MissingPartError(
      f"Expected {name!r} in the checkpoint of step {step} in"
      f" {manager.directory}; the run kept none."
    )
  target = traverse_util.unflatten_dict(part)
  arguments = jax.tree.map(
    lambda _: ocp.RestoreArgs(restore_type=np.ndarray), target
  )
  restored = manager.restore(
    step,
    args=ocp.args.Composite(
      **{
        STATE: ocp.args.PyTreeRestore(
          target, restore_args=arguments, partial_restore=True
        )
      }
    ),
  )[STATE]
  contents.check(restored, run["leaves"])
  return restored[name]


def _restore_state(
  manager: ocp.CheckpointManager, step: int, target: Any, run: dict[str, Any]
) -> Any:
  """Reads a whole state, onto the devices that `target` names."""
  arguments = ocp.checkpoint_utils.construct_restore_args(target)
  restored = manager.restore(
    step,
    args=ocp.args.Composite(
      **{STATE: ocp.args.PyTreeRestore(target, restore_args=arguments)}
    ),
  )[STATE]
  contents.check(restored, run["leaves"])
  return restored


def _abstract(leaf: Any) -> Any:
  """What stands for a leaf to be read; NumPy arrays stay on the host."""
  if isinstance(leaf, jax.Array):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
  return leaf


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


def _warn_of_damage(path: pathlib.Path, error: Exception) -> None:
  reason = " ".join(str(error).split()) or type(error).__name__
  if len(reason) > _LONGEST_REASON:
    reason = f"{reason[:_LONGEST_REASON]} ..."
  warnings.warn(
    f"Checkpoint {path} is damaged and skipped: {reason}.", stacklevel=3
  )


def _check_room(directory: pathlib.Path, state: Any) -> None:
  """Raises OSError where a state does not fit on the disk.

  It is written compressed, by about a twentieth; what is between is found when
  it is written.
  """
  needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
  if shutil.disk_usage(directory).free < 0.9 * needed:
    raise OSError(errno.ENOSPC, f"{needed / 1e6:.1f} MB are needed")


def _reason_of_failure(error: Exception, directory: pathlib.Path) -> str:
  """One line of why a save failed; a full disk is named as such."""
  text = " ".join(str(error).split()) or type(error).__name__
  if "No space left" in text or getattr(error, "errno", 0) == errno.ENOSPC:
    free_mb = shutil.disk_usage(directory).free / 1e6
    needed = f", {error.strerror}" if isinstance(error, OSError) else ""
    return f"no space left on the disk: {free_mb:.1f} MB are free{needed}"
  return text[:_LONGEST_REASON]


def _lock(directory: pathlib.Path) -> IO[str] | None:
  """Claims a directory until this process ends, however it ends.

  A lock of the kind that children of the process do not hold: they may outlive
  it when it is killed.
  """
  if jax.process_index() > 0:
    return None
  file = (directory / LOCK).open("a")
  try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
    if error.errno in (errno.EACCES, errno.EAGAIN):
      file.close()
      raise ValueError(
        f"Expected no other process to train in {directory}; one does. Wait for"
        " it to end, or choose another directory."
      ) from error
    # A file system without locks has to do without.
  return file


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
  """Orbax logs, with tracebacks, what it raises as well."""
  path = pathlib.PurePath(record.pathname)
  return "orbax" not in path.parts or record.levelno > logging.ERROR


def _close(manager: ocp.CheckpointManager) -> None:
  """Closes a manager whose last save may have failed; that was said before."""
  with contextlib.suppress(Exception):
    manager.wait_until_finished()
  manager.close()
