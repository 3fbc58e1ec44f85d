"""Reading checkpoints: a whole state for going on, or parameters alone."""

from collections.abc import Iterator
import contextlib
import logging
import pathlib
from typing import Any
import warnings

from flax import traverse_util
import jax
import numpy as np
from orbax import checkpoint as ocp

from music_spectrogram_diffusion.training import checkpoint_contents as contents

STATE, RUN = "state", "run"
"""Items of a checkpoint: arrays, and what belongs to them."""


class OtherRunError(ValueError):
  """A directory holds the run of another model."""


class MissingPartError(ValueError):
  """A run does not hold what is asked of it."""


NO_DAMAGE = (
  OtherRunError,
  MissingPartError,
  contents.HostsError,
  MemoryError,
  PermissionError,
  jax.errors.JaxRuntimeError,
)
"""Why reading may fail although the checkpoint is sound; all other errors mean
that it is not."""


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
  with _unwarned():  # That it is read only is what is wanted.
    manager = ocp.CheckpointManager(directory, options=options)
  with manager:
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
      except NO_DAMAGE:
        raise
      except Exception as error:
        warn_of_damage(directory / str(candidate), error)
  raise ValueError(f"Expected a sound checkpoint in {directory}; found none.")


@contextlib.contextmanager
def _unwarned() -> Iterator[None]:
  """Keeps back what Orbax logs by absl's logger, but errors."""
  logger = logging.getLogger("absl")
  level = logger.level
  logger.setLevel(logging.ERROR)
  try:
    yield
  finally:
    logger.setLevel(level)


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


def restore_state(
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


def abstract(leaf: Any) -> Any:
  """What stands for a leaf to be read; NumPy arrays stay on the host."""
  if isinstance(leaf, jax.Array):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
  return leaf


def warn_of_damage(path: pathlib.Path, error: Exception) -> None:
  """Names a checkpoint that is skipped, and why, in one line."""
  warnings.warn(
    f"Checkpoint {path} is damaged and skipped: {contents.in_one_line(error)}.",
    stacklevel=3,
  )
