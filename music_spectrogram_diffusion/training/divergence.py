"""Stops a run that is no longer going anywhere, before it saves that."""

from collections.abc import Mapping
import math
from typing import Any

from music_spectrogram_diffusion.training.run import Run


class DivergenceError(ValueError):
  """Losses that exploded, or discriminators that collapsed."""


class StopOnDivergence:
  """Raises an error when an adversarial run is lost.

  Lost is a run whose reconstruction is much worse than it has been; or whose
  discriminators cannot be fooled at all, or tell nothing apart, for a while.
  Let it look at least as often as checkpoints are saved, so that the last one
  is good.

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
    self._best = math.inf
    self._collapsed = 0

  def __call__(self, step: int, state: Any, metrics: Mapping[str, float]):
    """See `reporting.Watcher`."""
    del state
    distance = metrics["reconstruction"]
    self._best = min(self._best, distance)
    if distance > self._worst * self._best:
      raise DivergenceError(
        f"The reconstruction loss is {distance:.4g} at step {step}, after"
        f" {self._best:.4g} before. Checkpoints in {self._directory} stay;"
        " lower the learning rates."
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
        f" {self._collapsed * self.every} steps, at step {step}. Checkpoints in"
        f" {self._directory} stay; change the learning rate of the"
        " discriminators."
      )
