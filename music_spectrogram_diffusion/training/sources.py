"""Where batches come from: iterators that know where they are, read ahead."""

from collections.abc import Callable, Iterable, Iterator, Mapping
import threading
from typing import Any, Protocol, runtime_checkable
import warnings

import numpy as np

Batch = dict[str, Any]
"""Arrays of the training contract by name; `ids`, where there are some, tells
which examples they are, for messages alone: steps do not get them."""

IDS = "ids"


class NonFiniteError(ValueError):
  """Data, a loss or a gradient that is not a finite number."""


@runtime_checkable
class BatchIterator(Protocol):
  """An iterator of batches that goes on where it was.

  Whoever hands out a batch does not write to its arrays any more.
  """

  def __next__(self) -> Batch:
    """The next batch; StopIteration at the end."""

  def get_state(self) -> bytes:
    """Where it stands, after the batches handed out so far; small."""

  def set_state(self, state: bytes) -> None:
    """Goes on exactly from where `get_state` gave `state`."""


class StepIndexed:
  """Batches that are a function of their number.

  Args:
    make_batch: Makes a batch of its number, always the same.
    first: Number of the first batch.
  """

  def __init__(self, make_batch: Callable[[int], Batch], first: int = 0):
    self._make_batch = make_batch
    self._next = first

  def __iter__(self) -> Iterator[Batch]:
    return self

  def __next__(self) -> Batch:
    batch = self._make_batch(self._next)
    self._next += 1
    return batch

  def get_state(self) -> bytes:
    return b"%d" % self._next

  def set_state(self, state: bytes) -> None:
    self._next = int(state)


class Skipping:
  """A plain iterator, which goes on by skipping what was handed out before.

  The same batches come again only if the iterator is the same each time.
  """

  def __init__(self, batches: Iterable[Batch]):
    self._batches = iter(batches)
    self._handed_out = 0

  def __iter__(self) -> Iterator[Batch]:
    return self

  def __next__(self) -> Batch:
    batch = next(self._batches)
    self._handed_out += 1
    return batch

  def get_state(self) -> bytes:
    return b"%d" % self._handed_out

  def set_state(self, state: bytes) -> None:
    missing = int(state) - self._handed_out
    if missing > 0:
      warnings.warn(
        "The source of batches cannot say where it stands; making and skipping"
        f" {missing} batches to go on. Give it get_state and set_state.",
        stacklevel=2,
      )
    for skipped in range(missing):
      try:
        next(self)
      except StopIteration:
        raise ValueError(
          f"Expected a source of more than {missing} batches, which the run has"
          f" used before; it ended after {skipped}."
        ) from None


def as_batch_iterator(source: BatchIterator | Iterable[Batch]) -> BatchIterator:
  """The source itself where it knows where it stands, else one that skips."""
  return source if isinstance(source, BatchIterator) else Skipping(source)


class Prefetcher:
  """Makes batches in a thread while others are used.

  It knows the state of the source after the batches that were handed out of
  it, not after those made ahead: the state is taken between two batches, and
  only at the steps that ask for it.

  Args:
    source: Makes the batches.
    first: Number of the first batch.
    last: Number after the last one: no more are asked for.
    ahead: How many are made beyond the one in use.
    wanted: Whether the state after so many batches will be asked for.
    place: Puts a batch without its ids where it is used, in the thread.
  """

  def __init__(
    self,
    source: BatchIterator,
    *,
    first: int,
    last: int,
    ahead: int = 2,
    wanted: Callable[[int], bool] = lambda step: False,
    place: Callable[[Batch], Any] = lambda batch: batch,
  ):
    self._source = source
    self._first, self._last, self._ahead = first, last, ahead
    self._wanted = wanted
    self._place = place
    self._ready: list[tuple[Any, Any]] = []
    self._states: dict[int, bytes] = {}
    self._requested: set[int] = set()
    self._taken = first
    self._error: BaseException | None = None
    self._closed = False
    self._changed = threading.Condition()
    self._thread = threading.Thread(
      target=self._work, name="prefetch", daemon=True
    )
    self._thread.start()

  def __enter__(self) -> "Prefetcher":
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def close(self, timeout_s: float = 5.0) -> None:
    """Makes no more batches; waits a while for the one being made."""
    with self._changed:
      self._closed = True
      self._changed.notify_all()
    self._thread.join(timeout_s)

  def __iter__(self) -> Iterator[tuple[Any, Any]]:
    return self

  def __next__(self) -> tuple[Any, Any]:
    """The next batch as placed, and its ids or None.

    Raises:
      StopIteration: All were handed out, or the source ended.
      Exception: What the source raised, after the batches before it.
    """
    with self._changed:
      if self._taken == self._last:
        raise StopIteration
      self._changed.wait_for(lambda: self._ready or self._error)
      if not self._ready:
        raise self._error
      self._taken += 1
      self._changed.notify_all()
      return self._ready.pop(0)

  def request_state(self) -> int:
    """Has the state taken as soon as possible; gives the step it belongs to.

    The step depends on how many batches were handed out alone, not on how
    fast they are made: hosts that ask at the same step get the same one.
    """
    with self._changed:
      step = min(self._taken + self._ahead + 1, self._last)
      self._requested.add(step)
      return step

  def state(self, step: int) -> bytes:
    """State of the source after the batches up to `step`, once.

    Raises:
      KeyError: Nobody asked for it in time.
    """
    with self._changed:
      return self._states.pop(step)

  def _work(self):
    made = self._first
    try:
      while made < self._last and self._wait_for_room(made):
        batch = dict(next(self._source))
        made += 1
        ids = batch.pop(IDS, None)
        check_finite(batch, ids, made)
        state = self._source.get_state() if self._is_wanted(made) else None
        placed = self._place(batch)
        with self._changed:
          if state is not None:
            self._states[made] = state
          self._ready.append((placed, ids))
          self._changed.notify_all()
    except BaseException as error:  # It is raised where batches are used.
      self._end(made, error)

  def _end(self, made: int, error: BaseException) -> None:
    state = None
    if isinstance(error, StopIteration):
      try:
        state = self._source.get_state()
      except Exception as other:
        error = other
    with self._changed:
      if state is not None:
        self._states[made] = state
      self._error = error
      self._changed.notify_all()

  def _wait_for_room(self, made: int) -> bool:
    with self._changed:
      self._changed.wait_for(
        lambda: self._closed or made <= self._taken + self._ahead - 1
      )
      return not self._closed

  def _is_wanted(self, step: int) -> bool:
    with self._changed:
      return step in self._requested or self._wanted(step)


def check_finite(batch: Mapping[str, Any], ids: Any, step: int) -> None:
  """Looks for NaN and infinities in the floating-point arrays of a batch.

  Args:
    batch: Arrays [batch, ...] by name.
    ids: Names of the examples, or None.
    step: Step that the batch is for, counted from 1.

  Raises:
    NonFiniteError: There are some; names the array, the step and the examples.
  """
  for name, array in batch.items():
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
      continue
    # A sum is quicker than a test of each, and finite only if all are.
    with np.errstate(all="ignore"):
      total = array.sum(dtype=np.float32)
    if np.isfinite(total):
      continue
    finite = np.isfinite(array)
    if finite.all():
      continue
    wrong = ~finite.reshape(len(finite), -1).all(axis=1)
    examples = describe_ids(ids, np.flatnonzero(wrong).tolist())
    raise NonFiniteError(
      f"Expected finite numbers in {name!r} of the batch for step {step}, found"
      f" {array[~finite].flat[0]} in {examples}."
    )


def describe_ids(ids: Any, rows: Iterable[int] | None = None) -> str:
  """Names examples of a batch in a message, by number where they lack ids."""
  if ids is None:
    if rows is None:
      return "a batch without ids"
    return f"examples {', '.join(map(str, rows))} (the batch has no ids)"
  ids = np.asarray(ids)
  chosen = ids if rows is None else ids[list(rows)]
  names = [
    name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    for name in chosen.tolist()
  ]
  return f"ids {', '.join(names)}"
