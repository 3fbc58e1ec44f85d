"""What a run says: lines in the terminal and a file, and to those who watch."""

from collections.abc import Callable, Mapping, Sequence
import json
import math
import pathlib
import time
from typing import Any, Protocol, runtime_checkable
import warnings

import jax

from music_spectrogram_diffusion.training import sources

Metrics = dict[str, float]

METRICS_FILE = "metrics.jsonl"


@runtime_checkable
class Watcher(Protocol):
  """Looks at a run now and then: writes summaries, evaluates, renders.

  Attributes:
    every: Steps from one call to the next.
  """

  every: int

  def __call__(self, step: int, state: Any, metrics: Metrics) -> None:
    """Looks at a run after `step`, a multiple of `every` or the last step.

    Args:
      step: Number of updates made.
      state: The state after them; not to be kept, its buffers are reused.
      metrics: Means of the metrics of all steps since the last call, or since
        this process began, with `seconds_per_step`, which does not count the
        time of compiling, of watchers and of saving.
    """


@runtime_checkable
class Guard(Watcher, Protocol):
  """A watcher that looks before a state is saved, too, and may prevent that.

  It raises an error where a run is lost, so that what is lost is not saved.

  Attributes:
    in_doubt: Whether the run may be lost: nothing is saved before it is clear,
      unless the run ends.
  """

  in_doubt: bool


class _Window:
  """What somebody has not been told yet."""

  def __init__(self, every: int, tell: Callable[[int, Any, Metrics], None]):
    self.every = every
    self.tell = tell
    self.metrics: list[Mapping[str, float]] = []
    self.seconds = 0.0
    self.untimed = 0

  def means(self) -> Metrics:
    """Means of each metric, over the steps that have it; the loss first."""
    means = {}
    names = dict.fromkeys(name for step in self.metrics for name in step)
    for name in sorted(names, key=lambda name: name != "loss"):
      values = [step.get(name, math.nan) for step in self.metrics]
      values = [value for value in values if math.isfinite(value)]
      if values:
        means[name] = math.fsum(values) / len(values)
    timed = max(len(self.metrics) - self.untimed, 1)
    return means | {"seconds_per_step": self.seconds / timed}


class Report:
  """Collects the metrics of steps, and tells means of them when it is time.

  Metrics stay on the device until then. Each has to be finite, but for those
  with a slash in their name, as `loss/high`: a part of which there may have
  been nothing in a batch is NaN, and does not count in the mean.

  Args:
    directory: Where `metrics.jsonl` is appended to.
    first: Step that the run goes on from. Later lines, which a killed process
      wrote after it had saved, are dropped.
    last: Step that the run stops at.
    log_every: Steps from one line to the next.
    watchers: Called in this order, guards before all others.
  """

  def __init__(
    self,
    directory: pathlib.Path,
    first: int,
    last: int,
    *,
    log_every: int,
    watchers: Sequence[Watcher] = (),
  ):
    self._directory = directory
    self._last = last
    self._log = _Window(log_every, self._write)
    windows = [_Window(watcher.every, watcher) for watcher in watchers]
    self._guards = [w for w in windows if isinstance(w.tell, Guard)]
    self._watching = [w for w in windows if not isinstance(w.tell, Guard)]
    self._windows = [self._log, *windows]
    self._pending: list[tuple[int, Any, Any]] = []
    self._is_first_host = jax.process_index() == 0
    if self._is_first_host:
      _drop_lines_after(directory / METRICS_FILE, first)
    self._logged_at = (first, time.monotonic())
    self._resume()

  def _resume(self) -> None:
    """Counts the time of steps from here on."""
    self._since = time.monotonic()

  def began(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
    """Waits for the first step, whose compilation does not count as its time.

    Args:
      step: Its number.
      metrics: Its metrics.
    """
    jax.block_until_ready(metrics)
    for window in self._windows:
      window.untimed = 1
    self._logged_at = (step, time.monotonic())
    self._resume()

  def say(self, line: str) -> None:
    """Prints a line, on one of the hosts."""
    if self._is_first_host:
      print(line, flush=True)

  def add(self, step: int, metrics: Mapping[str, jax.Array], ids: Any) -> None:
    """Notes the metrics of a step that may still be running."""
    self._pending.append((step, metrics, ids))

  def log(self, step: int, state: Any, *, saving: bool) -> None:
    """Looks at the metrics if it is time for anybody, and writes a line.

    Guards are called as well.

    Args:
      step: The last step that was added.
      state: Its state.
      saving: Whether the state is going to be saved: its metrics are looked at
        before.

    Raises:
      sources.NonFiniteError: A metric of a step is not finite.
    """
    if saving or any(self._is_due(window, step) for window in self._windows):
      self._fetch()
    for window in (self._log, *self._guards):
      if saving or self._is_due(window, step):
        self._tell(window, step, state)

  @property
  def in_doubt(self) -> bool:
    """Whether a guard would have nothing saved for now."""
    return any(guard.tell.in_doubt for guard in self._guards)

  def watch(self, step: int, state: Any) -> None:
    """Calls the other watchers for whom it is time, after `log`."""
    if self._pending:
      return  # It is time for nobody.
    for window in self._watching:
      if self._is_due(window, step):
        self._tell(window, step, state)
    self._resume()

  def _is_due(self, window: _Window, step: int) -> bool:
    return step % window.every == 0 or step == self._last

  def _tell(self, window: _Window, step: int, state: Any) -> None:
    if window.metrics:
      window.tell(step, state, window.means())
      window.metrics, window.seconds, window.untimed = [], 0.0, 0

  def _fetch(self) -> None:
    """Waits for the steps noted so far, and looks at their metrics."""
    pending, self._pending = self._pending, []
    fetched = jax.device_get([metrics for _, metrics, _ in pending])
    seconds = time.monotonic() - self._since
    self._resume()
    found = [
      {name: float(value) for name, value in metrics.items()}
      for metrics in fetched
    ]
    for (step, _, ids), metrics in zip(pending, found, strict=True):
      self._check(step, metrics, ids)
    for window in self._windows:
      window.metrics += found
      window.seconds += seconds

  def _check(self, step: int, metrics: Metrics, ids: Any) -> None:
    wrong = [
      f"{name} is {value}"
      for name, value in metrics.items()
      if not math.isfinite(value) and "/" not in name
    ]
    if wrong:
      raise sources.NonFiniteError(
        f"Expected finite numbers at step {step}, but {', '.join(wrong)}, with"
        f" {sources.describe_ids(ids)}. Checkpoints in {self._directory} stay;"
        " lower the learning rate or look at the data."
      )

  def _write(self, step: int, state: Any, means: Metrics) -> None:
    """Appends a line of the file, and prints one with the time left."""
    del state
    if not self._is_first_host:
      return
    path = self._directory / METRICS_FILE
    try:
      with path.open("a") as file:
        file.write(json.dumps({"step": step} | means) + "\n")
    except OSError as error:  # Such as a full disk: no reason to stop.
      warnings.warn(f"Cannot write {path}: {error.strerror}.", stacklevel=2)
    now = time.monotonic()
    logged_step, logged_time = self._logged_at
    self._logged_at = step, now
    line = [f"step {step}/{self._last}"]
    line += [f"{name} {value:.4g}" for name, value in means.items()]
    if step > logged_step:
      per_step_s = (now - logged_time) / (step - logged_step)
      line.append(f"{_duration((self._last - step) * per_step_s)} left")
    self.say("  ".join(line))


def read_metrics(directory: pathlib.Path) -> list[dict[str, float | int]]:
  """What a run has logged, line by line; nothing where it has not begun.

  Args:
    directory: Where its `metrics.jsonl` is.

  Returns:
    Of each line, the step and means of metrics since the line before.
  """
  path = directory / METRICS_FILE
  lines = path.read_text().splitlines() if path.exists() else []
  return [values for line in lines if (values := _parse(line)) is not None]


def _parse(line: str) -> dict[str, float | int] | None:
  """What a line says; None for one that is cut off."""
  try:
    values = json.loads(line)
  except json.JSONDecodeError:
    return None
  return values if isinstance(values, dict) and "step" in values else None


def _duration(seconds: float) -> str:
  """A time left in the two largest units that matter."""
  minutes = round(seconds / 60)
  if minutes < 1:
    return f"{seconds:.0f} s"
  if minutes < 60:
    return f"{minutes} min"
  hours, minutes = divmod(minutes, 60)
  if hours < 48:
    return f"{hours} h {minutes} min"
  return f"{hours // 24} d {hours % 24} h"


def _drop_lines_after(path: pathlib.Path, step: int) -> None:
  """Leaves the lines of steps up to `step`, and none that is cut off."""
  if not path.exists():
    return
  kept = [
    f"{line}\n"
    for line in path.read_text().splitlines()
    if (values := _parse(line)) is not None and values["step"] <= step
  ]
  partial = path.with_suffix(".partial")
  partial.write_text("".join(kept))
  partial.replace(path)
