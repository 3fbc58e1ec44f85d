"""Stops a run that is no longer going anywhere, before it saves that."""

from collections.abc import Mapping
import math
import pathlib
from typing import Any

from music_spectrogram_diffusion.training import layout, reporting
from music_spectrogram_diffusion.training.run import Run


class DivergenceError(ValueError):
  """Losses that exploded, or discriminators that collapsed."""


class StopOnDivergence:
  """Raises an error when an adversarial run is lost.

  Lost is a run whose reconstruction is much worse than it has been; or whose
  discriminators cannot be fooled at all, or tell nothing apart, for a while.
  As a `reporting.Guard` it looks before a checkpoint is saved, and lets none be
  saved while discriminators look collapsed: the same command, with lower
  learning rates, goes on from the last good one. What is best is known from
  what the run has logged, when it goes on.

  Args:
    run: The run.
    every: Steps from one look to the next, each at the means since the last.
    worst: Largest multiple of the best mean reconstruction so far.
    patience: Looks in a row at which the discriminators have to be found
      collapsed.
    sure: Discriminator loss below which they are not fooled at all. One of 2
      tells nothing apart.
  """

  def __init__(
    self,
    run: Run,
    *,
    every: int = 100,
    worst: float = 3.0,
    patience: int = 5,
    sure: float = 0.01,
  ):
    self.every = every
    self._directory = run.directory
    self._worst, self._patience, self._sure = worst, patience, sure
    self._best = _best_logged(layout.checkpoints(run.directory), every)
    self._collapsed = 0

  @property
  def in_doubt(self) -> bool:
    """See `reporting.Guard`."""
    return self._collapsed > 0

  def __call__(self, step: int, state: Any, metrics: Mapping[str, float]):
    """See `reporting.Watcher`."""
    del state
    distance = metrics["reconstruction"]
    self._best = min(self._best, distance)
    if distance > self._worst * self._best:
      raise DivergenceError(
        f"The reconstruction loss is {distance:.4g} at step {step}, after"
        f" {self._best:.4g} before. The checkpoints in {self._directory} are"
        " from before; lower the learning rates, and the same command goes on"
        " from the last."
      )
    judges = metrics.get("discriminator_loss")
    if judges is None:
      return
    blind = math.isclose(judges, 2.0, abs_tol=1e-3)
    self._collapsed = self._collapsed + 1 if judges < self._sure or blind else 0
    if self._collapsed >= self._patience:
      what = "nothing apart" if blind else "all that is generated"
      raise DivergenceError(
        f"The discriminators tell {what} (their loss is {judges:.4g}) since"
        f" {self._collapsed} looks, at step {step}. The checkpoints in"
        f" {self._directory} are from before; change the learning rate of the"
        " discriminators, and the same command goes on from the last."
      )


def _best_logged(directory: pathlib.Path, every: int) -> float:
  """Least mean reconstruction of about `every` steps that a run has logged."""
  best, total, count, last = math.inf, 0.0, 0, 0
  for line in reporting.read_metrics(directory):
    steps, last = max(int(line["step"]) - last, 1), int(line["step"])
    if "reconstruction" in line:
      total += steps * line["reconstruction"]
      count += steps
    if count >= every:
      best = min(best, total / count)
      total, count = 0.0, 0
  return best
