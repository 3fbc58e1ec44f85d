import collections

import numpy as np
import pytest

from music_spectrogram_diffusion.data import drum_patterns, patterns

NUM_BARS = 16


def harmony(**fields):
  defaults = dict(
    tonic=0,
    scale=patterns.SCALES[0],
    roots=(0, 4, 5, 3) * (NUM_BARS // 4),
    chord_size=3,
    beats_per_bar=4,
  )
  return patterns.Harmony(**(defaults | fields))


def rngs(count=20):
  return [np.random.default_rng(seed) for seed in range(count)]


WRITERS = [
  patterns.arpeggio,
  patterns.bass,
  patterns.chords,
  patterns.counter_melody,
  patterns.melody,
  patterns.pad,
  patterns.power_chords,
  patterns.repeated_notes,
]


@pytest.mark.parametrize("writer", WRITERS)
def test_parts_keep_to_their_range_their_bars_and_their_key(writer):
  scale = harmony().scale_pitches(0, 127)
  for rng in rngs():
    start, length, pitch, _ = writer(rng, harmony(), 48, 72).T
    assert (start >= 0).all() and (start < 4 * NUM_BARS).all()
    assert (length > 0).all()
    assert ((pitch >= 48) & (pitch <= 72)).all()
    if writer is not patterns.power_chords:  # Its fifths may be foreign.
      assert np.isin(pitch, scale).all()


def test_a_counter_melody_is_slow_and_one_note_at_a_time():
  for rng in rngs():
    rows = patterns.counter_melody(rng, harmony(), 48, 72)
    start, length = rows[:, 0], rows[:, 1]
    assert (np.diff(start) > 0).all()
    assert (start[1:] >= (start + length)[:-1] - 1e-9).all()
    assert len(rows) <= 4 * NUM_BARS


def test_a_counter_melody_holds_notes_over_the_bar_at_times():
  over = [
    (rows[:, 0] % 4 + rows[:, 1] > 4 + 1e-9).any()
    for rng in rngs()
    for rows in [patterns.counter_melody(rng, harmony(), 48, 72)]
  ]
  assert 0 < np.mean(over) < 1


def test_repeated_notes_strike_the_same_pitch_again():
  for rng in rngs():
    pitch = patterns.repeated_notes(rng, harmony(), 48, 72)[:, 2]
    common = collections.Counter(pitch.tolist()).most_common(1)[0][1]
    assert common >= len(pitch) / 12
    assert len(set(pitch.tolist())) <= 12


def test_a_part_doubles_another_in_parallel():
  tune = patterns.melody(np.random.default_rng(0), harmony(), 60, 84)
  apart = set()
  for rng in rngs(40):
    rows = patterns.doubled(rng, harmony(), tune, 30, 100)
    late = rows[0, 0] - tune[0, 0]
    assert late in (0, 4)
    kept = tune[: len(rows)]
    np.testing.assert_allclose(rows[:, 0], kept[:, 0] + late)
    assert np.isin(rows[:, 2], harmony().scale_pitches(0, 127)).all()
    difference = np.unique((rows[:, 2] - kept[:, 2]) % 12)
    assert len(difference) <= 2  # Thirds and sixths are large and small.
    apart.add(tuple(difference.tolist()))
  assert (0.0,) in apart and len(apart) >= 3


def test_what_does_not_fit_the_range_is_not_doubled():
  tune = np.array([[0.0, 1.0, 60.0, 0.0], [1.0, 1.0, 84.0, 0.0]])
  for rng in rngs():
    pitch = patterns.doubled(rng, harmony(), tune, 55, 66)[:, 2]
    assert ((pitch >= 55) & (pitch <= 66)).all()


def test_a_groove_repeats_its_bar_with_fills():
  for rng in rngs():
    rows = drum_patterns.groove(rng, harmony(), 0, 0)
    bars = collections.Counter(
      frozenset(
        (round(s % 4, 6), d)
        for s, d in rows[rows[:, 0] // 4 == bar][:, [0, 2]].tolist()
      )
      for bar in range(NUM_BARS)
    )
    assert bars.most_common(1)[0][1] >= NUM_BARS / 4
    assert len(bars) > 1
