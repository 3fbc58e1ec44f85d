"""Facts about `evaluation.transcription`."""

import numpy as np
import pytest

from music_spectrogram_diffusion.evaluation import transcription
from music_spectrogram_diffusion.notes import Notes

SCALE = Notes.from_columns(
  [0.0, 0.5, 1.0, 1.5], [0.5, 1.0, 1.5, 2.0], [60, 62, 64, 65], 90
)
SILENCE = SCALE[:0]


def test_note_f1_of_a_perfect_transcription_is_1():
  assert transcription.note_f1(SCALE, SCALE) == 1
  assert transcription.note_f1(SCALE, SCALE, offset_ratio=0.2) == 1


def test_note_f1_of_silence_is_1_for_silence_and_0_for_notes():
  assert transcription.note_f1(SILENCE, SILENCE) == 1
  assert transcription.note_f1(SCALE, SILENCE) == 0
  assert transcription.note_f1(SILENCE, SCALE) == 0


def test_note_f1_is_the_harmonic_mean_of_precision_and_recall():
  heard = Notes.concatenate([SCALE[:3], SCALE[1:3], SCALE[1:2]])
  precision, recall = 3 / 6, 3 / 4
  expected = 2 * precision * recall / (precision + recall)
  assert transcription.note_f1(SCALE, heard) == pytest.approx(expected)


@pytest.mark.parametrize("late_s, found", [(0.045, True), (0.055, False)])
def test_onsets_match_within_50_ms(late_s, found):
  late = Notes.from_columns(
    SCALE.onset + late_s, SCALE.offset + late_s, SCALE.pitch, 90
  )
  assert transcription.matched_notes(SCALE, late).all() == found


def test_a_semitone_off_does_not_match():
  sharp = Notes.from_columns(SCALE.onset, SCALE.offset, SCALE.pitch + 1, 90)
  np.testing.assert_array_equal(
    transcription.matched_notes(SCALE, sharp), [False] * 4
  )


@pytest.mark.parametrize("late_s, found", [(0.09, True), (0.11, False)])
def test_offsets_match_within_a_fifth_of_the_note(late_s, found):
  held = Notes.from_columns(SCALE.onset, SCALE.offset + late_s, SCALE.pitch, 90)
  assert transcription.matched_notes(SCALE, held).all()
  matched = transcription.matched_notes(SCALE, held, offset_ratio=0.2)
  assert matched.all() == found


def test_matched_notes_marks_the_rows_that_were_heard():
  np.testing.assert_array_equal(
    transcription.matched_notes(SCALE, SCALE[np.array([3, 1])]),
    [False, True, False, True],
  )
