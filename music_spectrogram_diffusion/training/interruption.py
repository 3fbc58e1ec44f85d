"""Being asked to stop: SIGTERM of a preempted machine, or Ctrl-C."""

import pathlib
import signal
import threading

import jax
from jax.experimental import multihost_utils


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

  A second Ctrl-C stops at once. Where there are several processes, JAX has its
  own handler of SIGTERM and lets them agree on a step; Ctrl-C is left alone.
  That takes JAX some milliseconds: where steps are quicker, a host may miss the
  step, and fails when the others are gone; the checkpoint before it stays.
  """

  def __init__(self):
    self._signal: signal.Signals | None = None
    self._handlers = {}

  def __enter__(self) -> "Interruption":
    # Only the main thread may, and only it gets them.
    if (
      jax.process_count() == 1
      and threading.current_thread() is threading.main_thread()
    ):
      for number in (signal.SIGTERM, signal.SIGINT):
        self._handlers[number] = signal.signal(number, self._note)
    return self

  def __exit__(self, *_) -> None:
    for number, handler in self._handlers.items():
      signal.signal(number, handler)

  def asked(self, step: int) -> bool:
    """Whether to stop; with several processes, the same for all at a step."""
    if self._signal is None and jax.process_count() > 1:
      if multihost_utils.reached_preemption_sync_point(step):
        self._signal = signal.SIGTERM
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
