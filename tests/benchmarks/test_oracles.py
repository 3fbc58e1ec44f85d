"""Facts about the inverters of benchmarks/inverter that know the original."""

import importlib
from pathlib import Path
import sys

import numpy as np
import pytest

from music_spectrogram_diffusion import audio

_FOLDER = Path(__file__).parents[2] / "benchmarks" / "inverter"
_CONFIG = audio.SpectrogramConfig()
_TONE_HZ = 443.0
_BIN_HZ = _CONFIG.sample_rate / _CONFIG.n_fft


@pytest.fixture(scope="module")
def oracles():
  known, before = sys.modules.copy(), sys.path[:]
  sys.path.insert(0, str(_FOLDER))
  for path in _FOLDER.glob("*.py"):  # Other folders have modules so named.
    sys.modules.pop(path.stem, None)
  try:
    yield importlib.import_module("oracles")
  finally:
    sys.path[:] = before
    for name in sys.modules.keys() - known.keys():
      del sys.modules[name]
    sys.modules.update(known)


@pytest.fixture(scope="module")
def tone():
  times = np.arange(_CONFIG.sample_rate) / _CONFIG.sample_rate
  return np.sin(2 * np.pi * _TONE_HZ * times).astype(np.float32) / 4


def loudest_hz(samples):
  """Of the middle, by a transform of 0.1 Hz a bin."""
  middle = samples[4000:12000] * np.hanning(8000)
  return np.argmax(np.abs(np.fft.rfft(middle, 160_000))) / 10


def test_the_peak_of_a_tone_is_where_it_is(oracles, tone):
  magnitude, deviation = oracles.peaks(tone, 50, _CONFIG)
  frame, near = 25, round(_TONE_HZ / _BIN_HZ)
  assert np.argmax(magnitude[frame]) == near
  frequency = (near + deviation[frame, near]) * _BIN_HZ
  assert frequency == pytest.approx(_TONE_HZ, abs=0.05)


def test_a_tone_s_peaks_make_the_tone(oracles, tone):
  log_mel = np.asarray(audio.log_mel(tone, _CONFIG))
  made = oracles.with_true_peaks(tone, log_mel, _CONFIG)
  assert made.shape == tone.shape
  assert loudest_hz(made) == pytest.approx(_TONE_HZ, abs=0.2)
  inner = slice(4000, 12000)
  assert np.std(made[inner]) == pytest.approx(np.std(tone[inner]), rel=0.05)


def test_frequencies_are_changed_as_said(oracles, tone):
  log_mel = np.asarray(audio.log_mel(tone, _CONFIG))
  made = oracles.with_true_peaks(tone, log_mel, _CONFIG, change=np.zeros_like)
  centre = round(_TONE_HZ / _BIN_HZ) * _BIN_HZ
  assert loudest_hz(made) == pytest.approx(centre, abs=0.5)


def test_true_phases_keep_the_tone(oracles, tone):
  log_mel = np.asarray(audio.log_mel(tone, _CONFIG))
  made = oracles.with_true_phases(tone, log_mel, _CONFIG)
  assert made.shape == tone.shape
  assert loudest_hz(made) == pytest.approx(_TONE_HZ, abs=0.5)
