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


def rows(*rows):
  """Notes of (onset, offset, pitch, program), of "drum" for a program."""
  onset, offset, pitch, program = zip(*rows, strict=True)
  is_drum = [each == "drum" for each in program]
  program = [0 if each == "drum" else each for each in program]
  return Notes.from_columns(onset, offset, pitch, 90, program, is_drum)


BAND = rows(
  (0.0, 1.0, 60, 0),
  (0.0, 1.0, 60, 40),
  (1.0, 2.0, 62, 41),
  (2.0, 3.0, 40, 33),
  (0.0, 0.1, 38, "drum"),
  (1.0, 1.1, 38, "drum"),
)


def played(change):
  """BAND with the columns that `change` makes of its own."""
  columns = {
    name: getattr(BAND, name).copy()
    for name in ("onset", "offset", "pitch", "program", "is_drum")
  }
  change(columns)
  return Notes.from_columns(velocity=1, **columns)


def set_rows(name, index, value):
  def change(columns):
    columns[name][index] = value

  return change


@pytest.mark.parametrize("notes", [BAND, SCALE, BAND[4:], SILENCE])
def test_scores_of_identical_notes_are_1(notes):
  assert transcription.scores(notes, notes) == {
    "flat": 1.0,
    "midi_class": 1.0,
    "full": 1.0,
    "onset": 1.0,
  }


# Matches among 6 notes, 4 of them pitched; F1 is 2 * matches / notes of both.
@pytest.mark.parametrize(
  "change, flat, midi_class, full, onset",
  [
    # Velocities count for nothing.
    (lambda columns: None, 6, 6, 6, 4),
    # A piano taken for an electric piano, of the same class.
    (set_rows("program", 0, 4), 6, 6, 5, 4),
    # A violin taken for a trumpet: then nothing says which of two is which.
    (set_rows("program", 1, 56), 6, 5, 5, 4),
    # An octave off, then 60 ms late.
    (set_rows("pitch", 2, 74), 5, 5, 5, 3),
    (set_rows("onset", 2, 1.06), 5, 5, 5, 3),
    # Cut to half its length: its onset is right.
    (set_rows("offset", 3, 2.5), 5, 5, 5, 4),
    # A drum that rings on is right, one of another kind is not.
    (set_rows("offset", 4, 3.0), 6, 6, 6, 4),
    (set_rows("pitch", 4, 36), 5, 5, 5, 4),
  ],
)
def test_scores_of_edits_are_as_counted_by_hand(
  change, flat, midi_class, full, onset
):
  assert transcription.scores(BAND, played(change)) == {
    "flat": pytest.approx(flat / 6),
    "midi_class": pytest.approx(midi_class / 6),
    "full": pytest.approx(full / 6),
    "onset": pytest.approx(onset / 4),
  }


def test_drums_and_pitched_notes_are_never_taken_for_each_other():
  drums = rows((0.0, 0.1, 38, "drum"))
  piano = rows((0.0, 0.1, 38, 0))
  assert set(transcription.scores(drums, piano).values()) == {0.0}


def test_notes_of_no_length_do_not_count():
  with_more = Notes.concatenate([BAND, rows((0.5, 0.5, 70, 0))])
  assert transcription.scores(with_more, BAND)["full"] == 1
  assert transcription.scores(BAND, with_more)["onset"] == 1


def test_missed_and_invented_notes_count_against():
  # 3 of 6 found, 4 told: precision 3/4, recall 3/6.
  heard = Notes.concatenate([BAND[:3], rows((5.0, 6.0, 60, 0))])
  assert transcription.scores(BAND, heard)["full"] == pytest.approx(0.6)
  assert transcription.scores(BAND, SILENCE)["flat"] == 0
  assert transcription.scores(SILENCE, BAND)["flat"] == 0


def test_matches_are_as_many_as_of_all_notes_at_once():
  rng = np.random.default_rng(0)

  def draw(count):
    onset = rng.uniform(0, 3, count)
    return Notes.from_columns(
      onset,
      onset + rng.uniform(0.02, 0.3, count),
      rng.integers(60, 63, count),
      9,
    )

  reference, estimate = draw(90), draw(110)
  found = transcription.scores(reference, estimate)
  assert found["flat"] == pytest.approx(
    transcription.note_f1(reference, estimate, offset_ratio=0.2)
  )
  assert found["onset"] == pytest.approx(
    transcription.note_f1(reference, estimate)
  )
  assert 0.1 < found["flat"] < found["onset"] < 0.9
