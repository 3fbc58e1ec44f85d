"""From notes as they are played to notes as they sound and can be written."""

import dataclasses

from jaxtyping import Bool, Float64, Int
import numpy as np

from music_spectrogram_diffusion.notes.notes import Notes

MIN_DURATION_S = 0.01
SUSTAIN_CONTROL = 64  # MIDI controller of the pedal.
PEDAL_DOWN = 64  # Least value of the controller that counts as down.


def apply_sustain(
  notes: Notes,
  channel: Int[np.ndarray, " notes"],
  *,
  pedal_s: Float64[np.ndarray, " pedals"],
  pedal_channel: Int[np.ndarray, " pedals"],
  pedal_down: Bool[np.ndarray, " pedals"],
  end_s: float,
) -> Notes:
  """Lengthens the notes that end while the sustain pedal is down.

  Such a note lasts until the pedal is released, or the same pitch is struck
  again on its channel; with a pedal that is never released, until `end_s`. At
  equal times the pedal moves before the notes. Drums are left alone.

  Args:
    notes: Notes as played.
    channel: Channel (or other group with a pedal of its own) of each note.
    pedal_s: Time of each pedal movement, ascending.
    pedal_channel: Channel that the movement is for.
    pedal_down: Whether the pedal is down from then on.
    end_s: End of the piece, in seconds.
  """
  offset = notes.offset.copy()
  next_strike = _next_onset(notes, [notes.is_drum, channel, notes.pitch])
  for one in np.unique(pedal_channel):
    moves = pedal_channel == one
    time, down = pedal_s[moves], pedal_down[moves]
    release = np.where(down, np.inf, time)
    release = np.minimum.accumulate(release[::-1])[::-1]
    rows = np.flatnonzero((channel == one) & ~notes.is_drum)
    last_move = np.searchsorted(time, offset[rows], "right") - 1
    held = (last_move >= 0) & down[last_move]
    rows, release = rows[held], release[last_move[held]]
    release = np.where(np.isinf(release), end_s, release)
    release = np.minimum(release, next_strike[rows])
    offset[rows] = np.maximum(offset[rows], release)
  return dataclasses.replace(notes, offset=offset)


def trim_overlaps(notes: Notes) -> Notes:
  """Cuts each note where the same pitch of its program is struck again.

  Of notes struck at the same time only the last row is kept; so tokens can
  represent the result.
  """
  next_strike = _next_onset(notes, [notes.is_drum, notes.program, notes.pitch])
  offset = np.minimum(notes.offset, next_strike)
  return dataclasses.replace(notes, offset=offset)[notes.onset < offset]


def lengthen_empty(notes: Notes) -> Notes:
  """Gives notes of no length one of 10 ms."""
  empty = notes.offset <= notes.onset
  offset = np.where(empty, notes.onset + MIN_DURATION_S, notes.offset)
  return dataclasses.replace(notes, offset=offset)


def _next_onset(
  notes: Notes, voice: list[np.ndarray]
) -> Float64[np.ndarray, " notes"]:
  """Onset of the next note with equal values of `voice`; inf for the last."""
  order = np.lexsort((notes.onset, *voice))
  following = np.full(len(notes), np.inf)
  same = np.ones(max(len(notes) - 1, 0), np.bool_)
  for column in voice:
    same &= column[order[1:]] == column[order[:-1]]
  following[order[:-1][same]] = notes.onset[order[1:][same]]
  return following
