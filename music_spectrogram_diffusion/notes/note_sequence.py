"""Notes from the NoteSequence protos of the note-seq package."""

from typing import Any

import numpy as np

from music_spectrogram_diffusion.notes import cleaning
from music_spectrogram_diffusion.notes.notes import Notes


def from_note_sequence(sequence: Any) -> Notes:
  """Converts a `note_seq.NoteSequence`, as `read_midi` would a file.

  The sustain pedal is applied for each instrument, notes of no length get
  10 ms, and overlaps are cut. The package itself is not needed.

  Args:
    sequence: The proto, or anything with its `notes`, `control_changes` and
      `total_time`.
  """
  rows = sequence.notes
  onset = np.array([row.start_time for row in rows], np.float64)
  offset = np.array([row.end_time for row in rows], np.float64)
  is_drum = np.array([row.is_drum for row in rows], np.bool_)
  program = np.array([row.program for row in rows], np.int32)
  notes = Notes.from_columns(
    onset=onset,
    offset=np.maximum(onset, offset),
    pitch=[row.pitch for row in rows],
    velocity=[max(row.velocity, 1) for row in rows],
    program=np.where(is_drum, 0, program),
    is_drum=is_drum,
  )
  pedals = [
    change
    for change in sequence.control_changes
    if change.control_number == cleaning.SUSTAIN_CONTROL
  ]
  pedals.sort(key=lambda change: change.time)
  notes = cleaning.apply_sustain(
    notes,
    np.array([row.instrument for row in rows], np.int64),
    pedal_s=np.array([change.time for change in pedals], np.float64),
    pedal_channel=np.array([change.instrument for change in pedals], np.int64),
    pedal_down=np.array(
      [change.control_value >= cleaning.PEDAL_DOWN for change in pedals],
      np.bool_,
    ),
    end_s=max(sequence.total_time, notes.duration_s),
  )
  return cleaning.trim_overlaps(cleaning.lengthen_empty(notes))
