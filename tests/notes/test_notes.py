import dataclasses

import numpy as np
import pytest

from music_spectrogram_diffusion.notes import Notes


def test_scalars_stand_for_whole_columns():
  notes = Notes.from_columns([0, 1], [1, 2], [60, 62], 100, 40)
  assert len(notes) == 2
  assert notes.velocity.tolist() == [100, 100]
  assert notes.program.tolist() == [40, 40]
  assert not notes.is_drum.any()


def test_rows_are_picked_by_masks_and_joined_again():
  notes = Notes.from_columns([0, 1, 2], [1, 2, 3], [60, 62, 64], 100)
  mask = np.array([True, False, True])
  joined = Notes.concatenate([notes[mask], notes[~mask]])
  assert joined.pitch.tolist() == [60, 64, 62]
  assert joined.offset.tolist() == [1.0, 3.0, 2.0]


def test_duration_is_the_end_of_the_note_that_ends_last():
  notes = Notes.from_columns([0, 1], [5, 2], 60, 100)
  assert notes.duration_s == 5.0
  assert notes[:0].duration_s == 0.0


@pytest.mark.parametrize(
  "column, values, message",
  [
    ("onset", [0.0, -1.0], "onset from 0 to 86400 s, got -1 in note 1"),
    ("onset", [np.nan, 0.0], "onset .* got nan in note 0"),
    ("offset", [2.0, 0.5], "offset from 1 to 86400 s, got 0.5 in note 1"),
    ("offset", [2.0, 1e9], r"offset .* got 1e\+09 in note 1"),
    ("pitch", [60, 128], "pitch from 0 to 127, got 128 in note 1"),
    ("velocity", [0, 1], "velocity from 1 to 127, got 0 in note 0"),
    ("program", [-1, 0], "program from 0 to 127, got -1 in note 0"),
  ],
)
def test_values_out_of_range_are_refused(column, values, message):
  notes = Notes.from_columns([0, 1], [1, 2], 60, 100)
  values = np.array(values, getattr(notes, column).dtype)
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(notes, **{column: values})
