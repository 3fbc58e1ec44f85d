"""Being asked to stop: SIGTERM of a preempted machine, or Ctrl-C."""

from collections import deque
from collections.abc import Callable
import functools
import pathlib
import signal
import threading

import jax
from jax import numpy as jnp
from jax import sharding
import numpy as np

_LAG = 2
"""Steps from what processes say to when they read it: as many are in flight."""


class Interrupted(Exception):
  """A run was asked to stop, and did so after saving.

  Attributes:
    exit_code: What a process gives back that ends for this reason.
  """

  def __init__(self, message: str, exit_code: int):
    super().__init__(message)
    self.exit_code = exit_code


class Interruption:
  """Notes that a signal came, instead of dying of it, while it is entered.

  A second Ctrl-C stops at once. Several processes agree: each says on its
  devices at each step whether it got a signal, and all read `_LAG` steps later,
  when the answer is there anyway, what was said. (The sync points of JAX's own
  preemption service are sometimes missed by a host: about one time in 25 with
  steps of 0.1 s and JAX 0.10.2; its handler of SIGTERM is replaced.)
  """

  def __init__(self):
    self._signal: signal.Signals | None = None
    self._handlers = {}
    self._said: deque[jax.Array] = deque()

  def __enter__(self) -> "Interruption":
    # Only the main thread may, and only it gets them.
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGTERM, signal.SIGINT):
        self._handlers[number] = signal.signal(number, self._note)
    return self

  def __exit__(self, *_) -> None:
    for number, handler in self._handlers.items():
      # Python cannot give back JAX's handler of SIGTERM, which is None here.
      signal.signal(number, handler or signal.SIG_DFL)

  def asked(self) -> bool:
    """Whether to stop; called once a step, by all processes alike."""
    if jax.process_count() > 1:
      self._said.append(_largest(self._signal or 0))
      if len(self._said) <= _LAG:
        return False
      agreed = int(self._said.popleft())
      if not agreed:
        return False
      self._signal = signal.Signals(agreed)
    return self._signal is not None

  def error(self, step: int, directory: pathlib.Path) -> Interrupted:
    """What to raise once the step is saved."""
    assert self._signal is not None, "Nobody asked."
    return Interrupted(
      f"Stopped by {self._signal.name} at step {step}, which is saved in"
      f" {directory}; the same command goes on.",
      128 + self._signal,
    )

  def _note(self, number, frame) -> None:
    del frame
    if self._signal is not None and number == signal.SIGINT:
      raise KeyboardInterrupt
    self._signal = signal.Signals(number)


def _largest(number: int) -> jax.Array:
  """The largest of what all processes give; it is not waited for."""
  row, largest = _compiled_largest()
  local = np.full(jax.local_device_count(), number, np.int32)
  return largest(jax.make_array_from_process_local_data(row, local))


@functools.cache
def _compiled_largest() -> tuple[sharding.NamedSharding, Callable]:
  """How numbers, one a device, are laid out; and what takes the largest."""
  mesh = jax.make_mesh(
    (jax.device_count(),), ("device",), axis_types=(sharding.AxisType.Auto,)
  )
  row, whole = (
    sharding.NamedSharding(mesh, sharding.PartitionSpec(*axes))
    for axes in (("device",), ())
  )
  return row, jax.jit(jnp.max, out_shardings=whole)
