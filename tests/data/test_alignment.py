import dataclasses
from pathlib import Path

import numpy as np
import pytest

from music_spectrogram_diffusion.audio import SpectrogramConfig
from music_spectrogram_diffusion.data import alignment, soundfont
from music_spectrogram_diffusion.notes import Notes

SINE = Path(__file__).with_name("sine.sf2")  # By make_sine_soundfont.py.
CONFIG = SpectrogramConfig()
RATE = CONFIG.sample_rate
LENGTH_S = 30.0


def piece(seed, num_notes=80, length_s=LENGTH_S):
  rng = np.random.default_rng(seed)
  onset = np.sort(rng.uniform(0.5, length_s - 1, num_notes))
  return Notes.from_columns(
    onset, onset + 0.3, rng.integers(40, 90, num_notes), 100
  )


def play(notes, length_s=LENGTH_S, rate=RATE):
  return soundfont.SoundfontRenderer(SINE, rate).render(notes, length_s)


def measure(samples, notes, config=CONFIG, **settings):
  return alignment.measure_alignment(samples, notes, config=config, **settings)


@pytest.fixture(scope="module")
def notes():
  return piece(0)


@pytest.fixture(scope="module")
def samples(notes):
  return play(notes)


def test_audio_of_the_notes_scores_high_and_lies_on_them(samples, notes):
  found = measure(samples, notes)
  assert found.score > 0.2
  assert abs(found.lag_s) < 0.01
  assert found.drift_s == 0


@pytest.mark.parametrize("lag_s", [0.25, 1.7, 4.5])
def test_late_audio_is_found_with_its_lag(samples, notes, lag_s):
  late = np.concatenate([np.zeros(round(lag_s * RATE), np.float32), samples])
  assert abs(measure(late, notes).lag_s - lag_s) < 0.01


def test_early_audio_has_a_lag_below_0(samples, notes):
  found = measure(samples[round(0.37 * RATE) :], notes)
  assert abs(found.lag_s + 0.37) < 0.01


def test_another_piece_scores_low(samples):
  scores = [measure(samples, piece(seed)).score for seed in range(1, 6)]
  assert max(scores) < 0.04


def test_the_same_rhythm_with_other_pitches_scores_low(samples, notes):
  other = dataclasses.replace(notes, pitch=piece(1).pitch)
  assert measure(samples, other).score < 0.25 * measure(samples, notes).score


def test_drums_are_found_by_their_rhythm():
  drums = dataclasses.replace(
    piece(2), pitch=np.full(80, 38, np.int32), is_drum=np.full(80, True)
  )
  samples = np.zeros(round(LENGTH_S * RATE), np.float32)
  hit = np.random.default_rng(0).normal(size=800) * np.geomspace(1, 0.01, 800)
  for start in np.rint((drums.onset + 0.2) * RATE).astype(int):
    samples[start : start + 800] += 0.1 * hit
  found = measure(samples, drums)
  assert abs(found.lag_s - 0.2) < 0.02
  assert found.score > 0.2


def test_notes_of_another_speed_drift():
  """At 0.8 % slower, 15 s between the middles of the halves make 0.12 s."""
  notes = piece(3)
  slower = dataclasses.replace(
    notes, onset=1.008 * notes.onset, offset=1.008 * notes.offset
  )
  found = measure(play(notes), slower)
  assert abs(found.drift_s + 0.12) < 0.04


def test_silence_and_no_notes_have_no_alignment(samples, notes):
  nothing = alignment.Alignment(lag_s=0.0, score=0.0, drift_s=0.0)
  assert measure(np.zeros_like(samples), notes) == nothing
  assert measure(samples, Notes.from_columns([], [], [], [])) == nothing
  assert measure(samples[:100], notes[:0]) == nothing


def test_audio_shorter_than_the_lags_is_measured():
  short = Notes.from_columns([0.2, 0.5], [0.4, 0.7], [60, 64], 100)
  found = measure(play(short, 1.0), short)
  assert abs(found.lag_s) < 0.02 and found.score > 0.2


def test_long_audio_is_measured_as_in_one_piece(samples, notes, monkeypatch):
  whole = measure(samples, notes)
  gains = alignment.onset_gains(samples, CONFIG)
  monkeypatch.setattr(alignment, "_BLOCK_S", 7.0)
  np.testing.assert_allclose(
    alignment.onset_gains(samples, CONFIG), gains, atol=1e-5
  )
  blocks = measure(samples, notes)
  np.testing.assert_allclose(blocks.score, whole.score, rtol=1e-4)
  np.testing.assert_allclose(blocks.lag_s, whole.lag_s, atol=1e-4)


def test_the_features_may_be_others(notes):
  config = SpectrogramConfig(
    sample_rate=8000, hop_length=200, win_length=400, n_mels=64, fmax=4000.0
  )
  samples = play(notes, rate=8000)
  late = np.concatenate([np.zeros(8000, np.float32), samples])
  assert abs(measure(late, notes, config).lag_s - 1.0) < 0.025
