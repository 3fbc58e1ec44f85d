import itertools
import threading
import time

import numpy as np
import pytest

from music_spectrogram_diffusion.training import sources


def numbered(step):
  return {"x": np.full(1, step)}


def numbers(batches):
  return [int(batch["x"][0]) for batch, _ in batches]


def prefetch(make_batch, first, last, **options):
  source = sources.StepIndexed(make_batch, first)
  return sources.Prefetcher(source, first=first, last=last, **options)


def test_a_step_indexed_source_goes_on_from_its_state():
  source = sources.StepIndexed(numbered, first=3)
  assert [int(next(source)["x"][0]) for _ in range(2)] == [3, 4]
  other = sources.StepIndexed(numbered)
  other.set_state(source.get_state())
  assert int(next(other)["x"][0]) == 5


def test_a_source_that_knows_where_it_stands_is_taken_as_it_is():
  source = sources.StepIndexed(numbered)
  assert sources.as_batch_iterator(source) is source


@pytest.mark.parametrize("make", [iter, list, lambda batches: batches])
def test_a_plain_iterator_goes_on_by_skipping_and_says_so(make):
  def plain():
    return make([numbered(step) for step in range(5)])

  source = sources.as_batch_iterator(plain())
  next(source), next(source)
  other = sources.as_batch_iterator(plain())
  with pytest.warns(UserWarning, match="skipping 2 batches"):
    other.set_state(source.get_state())
  assert int(next(other)["x"][0]) == 2


def test_a_plain_iterator_that_has_become_shorter_is_an_error():
  source = sources.as_batch_iterator([numbered(0)])
  with (
    pytest.warns(UserWarning, match="skipping 3"),
    pytest.raises(ValueError, match="more than 3 batches.*ended after 1"),
  ):
    source.set_state(b"3")


def test_batches_come_in_order_however_long_they_take():
  def slow(step):
    time.sleep(0.02 * (step % 2))
    return numbered(step)

  assert numbers(prefetch(slow, 3, 8)) == [3, 4, 5, 6, 7]


@pytest.mark.parametrize(("first", "last"), [(5, 5), (0, 1), (2, 5)])
def test_prefetching_asks_for_nothing_more(first, last):
  asked = []

  def record(step):
    asked.append(step)
    return numbered(step)

  assert numbers(prefetch(record, first, last)) == list(range(first, last))
  assert asked == list(range(first, last))


def test_batches_are_made_ahead_in_another_thread_and_no_further():
  made = [threading.Event() for _ in range(5)]
  threads = set()

  def record(step):
    threads.add(threading.get_ident())
    made[step].set()
    return numbered(step)

  with prefetch(record, 0, 5, ahead=2) as batches:
    next(batches)
    # The first is in use: the second and the third are on their way.
    assert made[1].wait(5) and made[2].wait(5)
    assert not made[3].wait(0.05)
    assert threading.get_ident() not in threads
    assert len(list(batches)) == 4


def test_closing_stops_making_batches():
  asked = []
  with prefetch(lambda step: asked.append(step) or numbered(step), 0, 99) as b:
    next(b)
  assert len(asked) <= 3
  count = len(asked)
  time.sleep(0.02)
  assert len(asked) == count


def test_an_error_is_raised_after_the_batches_before_it():
  def broken(step):
    if step == 2:
      raise OSError("disk")
    return numbered(step)

  batches = prefetch(broken, 0, 9)
  assert numbers(itertools.islice(batches, 2)) == [0, 1]
  with pytest.raises(OSError, match="disk"):
    next(batches)
  with pytest.raises(OSError, match="disk"):
    next(batches)


class Counting(sources.StepIndexed):
  """Counts how often it is asked for its state."""

  asked = 0

  def get_state(self):
    self.asked += 1
    return super().get_state()


def test_the_state_is_that_after_the_batches_handed_out():
  source = Counting(numbered)
  batches = sources.Prefetcher(
    source, first=0, last=10, wanted=lambda step: step in (2, 5)
  )
  assert numbers(itertools.islice(batches, 2)) == [0, 1]
  assert batches.state(2) == b"2"
  assert len(list(batches)) == 8
  assert batches.state(5) == b"5"
  assert source.asked == 2


@pytest.mark.parametrize("delay_s", [0.0, 0.05])
def test_a_state_asked_for_comes_at_a_step_that_speed_does_not_change(delay_s):
  def slow(step):
    time.sleep(delay_s)
    return numbered(step)

  with prefetch(slow, 0, 99, ahead=2) as batches:
    next(batches)
    time.sleep(0.02)
    step = batches.request_state()
    assert step == 1 + 2 + 1
    for _ in range(step - 1):
      next(batches)
    assert batches.state(step) == b"4"


def test_a_state_asked_for_near_the_end_is_that_of_the_end():
  with prefetch(numbered, 0, 3, wanted=lambda step: step == 3) as batches:
    next(batches)
    assert batches.request_state() == 3
    assert len(list(batches)) == 2
    assert batches.state(3) == b"3"


def test_a_source_that_ends_early_has_a_state_there():
  source = sources.as_batch_iterator([numbered(0), numbered(1)])
  batches = sources.Prefetcher(source, first=0, last=9)
  assert numbers(batches) == [0, 1]
  assert batches.state(2) == b"2"


def test_batches_are_placed_without_their_ids():
  source = iter([{"x": np.zeros(2), "ids": ["a", "b"]}])
  batches = sources.Prefetcher(
    sources.as_batch_iterator(source),
    first=0,
    last=1,
    place=lambda batch: sorted(batch),
  )
  assert list(batches) == [(["x"], ["a", "b"])]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_named_with_its_example(wrong):
  values = np.zeros((3, 4), np.float32)
  values[1, 2] = wrong
  batch = {"tokens": np.zeros((3, 2), np.int32), "targets": values}
  ids = np.array([b"first", b"second", b"third"])
  with pytest.raises(
    sources.NonFiniteError, match="'targets'.* step 8, .*ids second[.]"
  ):
    sources.check_finite(batch, ids, 8)
  with pytest.raises(sources.NonFiniteError, match="examples 1 "):
    sources.check_finite(batch, None, 8)


def test_large_numbers_are_finite():
  sources.check_finite({"x": np.full(9, 3e38, np.float32)}, None, 1)
  sources.check_finite({"x": np.full(9, 6e4, np.float16)}, None, 1)
