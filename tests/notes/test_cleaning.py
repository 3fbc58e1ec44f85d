import numpy as np

from music_spectrogram_diffusion.notes import Notes, cleaning, trim_overlaps


def sustained(notes, pedals, channel=0, end_s=10.0):
  """Offsets under `pedals`, a list of (time, channel, is it down)."""
  times, channels, down = zip(*pedals, strict=True)
  return cleaning.apply_sustain(
    notes,
    np.broadcast_to(np.asarray(channel, np.int64), len(notes)),
    pedal_s=np.array(times, np.float64),
    pedal_channel=np.array(channels, np.int64),
    pedal_down=np.array(down, np.bool_),
    end_s=end_s,
  ).offset.tolist()


def test_a_note_released_under_the_pedal_lasts_to_its_release():
  notes = Notes.from_columns([0, 2, 4], [1, 3, 5], 60 + np.arange(3), 100)
  assert sustained(notes, [(0.5, 0, True), (4.5, 0, False)]) == [4.5, 4.5, 5.0]


def test_a_pedal_pressed_after_the_note_changes_nothing():
  notes = Notes.from_columns(0, 1, 60, 100)
  assert sustained(notes, [(1.5, 0, True), (4.5, 0, False)]) == [1.0]


def test_at_equal_times_the_pedal_moves_first():
  notes = Notes.from_columns(0, 1, 60, 100)
  assert sustained(notes, [(1.0, 0, True), (2.0, 0, False)]) == [2.0]
  assert sustained(notes, [(0.0, 0, True), (1.0, 0, False)]) == [1.0]


def test_striking_the_pitch_again_ends_the_sustain():
  notes = Notes.from_columns([0, 2, 2.5], [1, 3, 3], [60, 60, 61], 100)
  assert sustained(notes, [(0.5, 0, True), (4.5, 0, False)]) == [2.0, 4.5, 4.5]


def test_pressing_a_pressed_pedal_again_does_not_release_it():
  notes = Notes.from_columns(0, 1, 60, 100)
  pedals = [(0.5, 0, True), (2, 0, True), (3, 0, False), (4, 0, False)]
  assert sustained(notes, pedals) == [3.0]


def test_a_pedal_never_released_holds_to_the_end():
  notes = Notes.from_columns(0, 1, 60, 100)
  assert sustained(notes, [(0.5, 0, True)]) == [10.0]


def test_pedals_hold_their_own_channel_and_no_drums():
  notes = Notes.from_columns(
    0, [1, 1, 1], 60, 100, is_drum=[False, False, True]
  )
  pedals = [(0.5, 0, True), (3, 0, False)]
  assert sustained(notes, pedals, channel=[0, 1, 0]) == [3.0, 1.0, 1.0]


def test_overlaps_are_cut_at_the_later_onset():
  notes = Notes.from_columns([1, 0, 0], [2, 3, 3], [60, 60, 61], 100)
  trimmed = trim_overlaps(notes)
  assert trimmed.onset.tolist() == [1.0, 0.0, 0.0]
  assert trimmed.offset.tolist() == [2.0, 1.0, 3.0]


def test_other_programs_and_drums_do_not_overlap():
  notes = Notes.from_columns(
    [0, 1, 2], [9, 9, 9], 60, 100, [0, 1, 0], [False, False, True]
  )
  assert trim_overlaps(notes).offset.tolist() == [9.0, 9.0, 9.0]


def test_of_notes_struck_together_the_last_row_stays():
  notes = Notes.from_columns([0, 0], [1, 2], 60, [50, 60])
  assert trim_overlaps(notes).velocity.tolist() == [60]


def test_notes_of_no_length_get_10_ms():
  notes = Notes.from_columns([1, 1], [1, 1.005], [60, 61], 100)
  assert cleaning.lengthen_empty(notes).offset.tolist() == [1.01, 1.005]
