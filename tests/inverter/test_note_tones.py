"""Harmonics of notes, drawn from a spectrogram's magnitudes."""

import numpy as np
import pytest

from music_spectrogram_diffusion import audio, notes
from music_spectrogram_diffusion.inverter import note_tones

CONFIG = audio.SpectrogramConfig()
HOP, RATE = CONFIG.hop_length, CONFIG.sample_rate
NUM_FRAMES = 101


def make_tones(*columns, **settings):
  return note_tones.NoteTones(
    notes.Notes.from_columns(*columns, **settings), CONFIG
  )


def level(samples):
  return np.sqrt(np.mean(np.square(samples)))


def at_second(samples, start_s, end_s):
  """Samples of a time; the first one lies a hop after the song's beginning."""
  return samples[round(start_s * RATE) - HOP : round(end_s * RATE) - HOP]


PEAK = audio.window(CONFIG).sum() / 2
"""Of a sinusoid of amplitude 1 in a spectrum."""


@pytest.fixture
def even():
  return np.full((NUM_FRAMES, 513), PEAK, np.float32)


def test_partials_lie_at_multiples_of_the_pitch_as_loud_as_the_spectrum(even):
  even[:, 300:] = 0.0
  even[:, 50:60] *= 3.0  # Around the second harmonic.
  tones = make_tones([0.0], [2.0], [69], [90], 0)
  samples = at_second(tones.draw(even, 0), 0.5, 1.5)
  spectrum = np.abs(np.fft.rfft(samples)) / (len(samples) / 2)
  expected = np.zeros_like(spectrum)
  expected[[440, 880, 1320, 1760, 2200, 2640]] = [1, 3, 1, 1, 1, 1]
  np.testing.assert_allclose(spectrum, expected, atol=2e-3)


def test_low_notes_have_twelve_harmonics_and_high_ones_at_least_one(even):
  tones = make_tones([0.0, 2.0], [1.0, 3.0], [33, 108], [90, 90], 0)
  even = np.full((200, 513), PEAK, np.float32)
  samples = tones.draw(even, 0)
  for start_s, pitch_hz, number in ((0.2, 55.0, 12), (2.2, 4186.0, 1)):
    heard = at_second(samples, start_s, start_s + 0.6)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    peaks = (spectrum[1:-1] > spectrum[:-2]) & (spectrum[1:-1] > spectrum[2:])
    loud = np.flatnonzero(peaks & (spectrum[1:-1] > 0.3 * spectrum.max())) + 1
    expected = pitch_hz * np.arange(1, number + 1)
    np.testing.assert_allclose(loud / 0.6, expected, atol=1.0)


def test_any_part_is_the_same_as_in_the_whole(even):
  even *= np.linspace(0.1, 2.0, NUM_FRAMES)[:, None].astype(np.float32)
  tones = make_tones([0.1, 0.93], [0.5, 1.9], [41, 76], [90, 90], 0)
  whole = tones.draw(even, 0)
  parts = [
    tones.draw(even[start : end + 1], start)
    for start, end in ((0, 7), (7, 60), (60, 61), (61, NUM_FRAMES - 1))
  ]
  np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)
  assert np.abs(whole).max() > 0.1


def test_a_note_sounds_from_its_onset_and_dies_away_after_its_offset(even):
  samples = make_tones([0.5], [1.0], [69], [90], 0).draw(even, 0)
  sounding = level(at_second(samples, 0.6, 0.9))
  assert not at_second(samples, 0.0, 0.49).any()
  assert level(at_second(samples, 0.505, 0.525)) > 0.7 * sounding
  assert level(at_second(samples, 1.09, 1.11)) == pytest.approx(
    sounding / np.e, rel=0.2
  )
  assert level(at_second(samples, 1.45, 1.5)) < 0.02 * sounding
  assert not at_second(samples, 1.51, 2.0).any()


def test_levels_go_straight_from_frame_to_frame(even):
  even[:50] = 0.0
  samples = make_tones([0.0], [2.0], [60], [90], 0).draw(even, 0)
  assert not samples[: 49 * HOP].any()
  halves = samples[49 * HOP : 50 * HOP].reshape(2, -1)
  after = level(samples[50 * HOP : 60 * HOP])
  assert 0 < level(halves[0]) < level(halves[1]) < after


def test_where_no_note_sounds_is_silence(even):
  tones = make_tones([0.5], [1.0], [69], [90], 0)
  for first_frame in (-3, 90):
    samples = tones.draw(even[:8], first_frame)
    np.testing.assert_array_equal(samples, np.zeros(7 * HOP, np.float32))


@pytest.mark.parametrize("apart_s", [0.0, 0.5 / 110, 0.25])
def test_notes_held_together_never_cancel_each_other(even, apart_s):
  """Half a period apart is where they would."""
  alone = make_tones([0.0], [1.5], [45], [90], 0).draw(even, 0)
  twice = [0.0, apart_s], [1.5, 1.5], [45, 45], [90, 90]
  together = make_tones(*twice, 0).draw(even, 0)
  np.testing.assert_allclose(
    at_second(together, 0.5, 1.0), 2 * at_second(alone, 0.5, 1.0), atol=1e-3
  )


def test_a_note_that_is_struck_again_begins_anew(even):
  columns = [0.0, 0.5], [0.5, 1.5], [45, 45], [90, 90]
  again = make_tones(*columns, 0).draw(even, 0)
  first, second = (
    make_tones(*([column[i]] for column in columns), 0).draw(even, 0)
    for i in range(2)
  )
  np.testing.assert_allclose(again, first + second, atol=1e-4)
  np.testing.assert_allclose(
    at_second(second, 0.7, 0.9), at_second(first, 0.2, 0.4), atol=1e-3
  )


def test_many_notes_at_once_are_the_sum_of_all(even):
  number = 300  # More than are drawn in one go.
  columns = [0.0] * number, [1.5] * number, [45] * number, [90] * number
  alone = make_tones([0.0], [1.5], [45], [90], 0).draw(even, 0)
  together = make_tones(*columns, 0).draw(even, 0)
  np.testing.assert_allclose(together, number * alone, atol=0.01)


def test_before_the_song_is_nothing_even_of_notes_at_its_beginning(even):
  tones = make_tones([0.0], [1.0], [60], [90], 0)
  samples = tones.draw(even, -4)
  assert not samples[: 2 * HOP].any()
  np.testing.assert_allclose(
    samples[4 * HOP :], tones.draw(even[4:], 0), atol=1e-6
  )


def test_drums_have_no_tones_and_neither_has_what_cannot_be_heard():
  drums = make_tones([0.0], [1.0], [60], [90], 0, is_drum=True)
  assert len(drums) == 0
  too_high = make_tones([0.0, 0.0], [1.0, 1.0], [127, 60], [90, 90], 0)
  assert len(too_high) == 1  # 12.5 kHz at 16 000 samples a second.


def test_at_low_sample_rates_no_harmonic_passes_half_of_them():
  config = audio.SpectrogramConfig(
    sample_rate=4000, hop_length=80, win_length=160, n_fft=256, fmax=2000.0
  )
  played = notes.Notes.from_columns([0.0], [2.0], [69], [90], 0)
  tones = note_tones.NoteTones(played, config)
  peak = audio.window(config).sum() / 2
  even = np.full((101, 129), peak, np.float32)
  samples = tones.draw(even, 0)[2000:6000]
  spectrum = np.abs(np.fft.rfft(samples)) / (len(samples) / 2)
  assert set(np.flatnonzero(spectrum > 0.5)) == {440, 880, 1320, 1760}
