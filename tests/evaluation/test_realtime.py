import itertools

import numpy as np
import pytest

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.evaluation import realtime


class Clock:
  """Seconds that pass only when somebody says so."""

  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now


class SlowInverter:
  """Takes half a second a chunk, and gives a second of audio for it."""

  config = audio.SpectrogramConfig()

  def __init__(self, clock):
    self._clock = clock

  def __call__(self, log_mel, played=None):
    return np.zeros(len(log_mel) * self.config.hop_length, np.float32)

  def stream(self, chunks, played=None):
    for chunk in chunks:
      self._clock.now += 0.5
      yield self(chunk)


@pytest.fixture
def clock():
  return Clock()


def slow_model(clock, first_s, others_s, count):
  """Spectrograms of a second each."""
  for seconds in itertools.chain([first_s], itertools.repeat(others_s, count)):
    clock.now += seconds
    yield np.zeros((50, 128), np.float32)


def test_mel_and_inversion_are_timed_apart_and_the_first_segment_too(clock):
  timed = realtime.TimedInverter(SlowInverter(clock), clock)
  chunks = list(timed.stream(slow_model(clock, 10.0, 0.25, 4)))
  assert sum(len(chunk) for chunk in chunks) == 5 * 16_000
  timing = timed.timing()
  assert timing.first_s == 10.5
  assert (timing.mel_s, timing.mel_audio_s) == (1.0, 4.0)
  assert (timing.inversion_s, timing.inverted_audio_s) == (2.0, 4.0)
  assert timing.factors() == {
    "mel": 4.0,
    "inversion": 2.0,
    "realtime": pytest.approx(1 / 0.75),
  }


def test_timings_add_up_and_the_longest_first_segment_stays():
  one = realtime.Timing(9.0, 1.0, 2.0, 1.0, 2.0)
  other = realtime.Timing(3.0, 1.0, 6.0, 3.0, 6.0)
  both = one + other
  assert both == realtime.Timing(9.0, 2.0, 8.0, 4.0, 8.0)
  assert both.factors()["realtime"] == pytest.approx(8 / 6)


def test_one_segment_has_no_factors(clock):
  timed = realtime.TimedInverter(SlowInverter(clock), clock)
  list(timed.stream(slow_model(clock, 10.0, 0.0, 0)))
  assert timed.timing().factors() == {}


def test_no_frames_have_no_factors(clock):
  timed = realtime.TimedInverter(SlowInverter(clock), clock)
  assert list(timed.stream([])) == []
  assert timed.timing() == realtime.Timing()
