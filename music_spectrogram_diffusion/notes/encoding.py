"""Notes to tokens: each segment of a piece as one sequence of ids."""

import bisect
from collections.abc import Sequence
import math
from typing import Literal
import warnings

from jaxtyping import Bool, Int, Int32, Int64
import numpy as np

from music_spectrogram_diffusion.notes import vocabulary as vocabularies
from music_spectrogram_diffusion.notes.notes import Notes

_NUM_PITCHES = 128
_NUM_PROGRAMS = 128
_NO_NOTE = -1


class SegmentOverflowError(ValueError):
  """A segment needs more tokens, or notes, than it may have."""


def tokenize_segments(
  notes: Notes,
  *,
  vocabulary: vocabularies.Vocabulary,
  segment_frames: int = 256,
  hop_frames: int | None = None,
  frame_rate: float = 50.0,
  max_tokens: int = 2048,
  max_notes: int | None = None,
  first_frame: int = 0,
  num_segments: int | None = None,
  song_frames: int | None = None,
  on_overflow: Literal["thin", "raise"] = "thin",
) -> list[Int32[np.ndarray, " tokens"]]:
  """Writes a piece as one token sequence for each segment of frames.

  A segment begins with its tie section, the notes held from before, ordered by
  program and pitch and closed by a tie token. Then come its events in order of
  time, each as [shift,] [program,] [velocity,] pitch or [shift,] [velocity,]
  drum, where a shift is the time since the segment's start and what has not
  changed since the event before is left out; EOS ends it. Times are rounded to
  10 ms. The format is that of Hawthorne et al. 2022,
  https://arxiv.org/abs/2206.05408. A vocabulary that describes ties writes the
  notes of the tie section as [shift,] [program,] [velocity,] pitch, too, where
  the shift is the time since the note began, 10 s if it is longer; of what came
  before the tie token, events go on with the program alone.

  A segment depends on nothing but where it starts and ends: a call with a
  `first_frame` of k hops gives what the call without gives from its
  segment k on.

  Args:
    notes: The piece. Of overlapping notes of one program and pitch, the first
      offset ends them all; cut them first with `trim_overlaps`.
    vocabulary: The ids.
    segment_frames: Frames of a segment.
    hop_frames: Frames from the start of a segment to that of the next, at most
      `segment_frames`; fewer where segments overlap. None for as many.
    frame_rate: Frames per second.
    max_tokens: Most tokens of a segment, EOS included; at least 2.
    max_notes: Most notes of a segment, those held from before included; None
      for any number.
    first_frame: Frame at which the first segment starts.
    num_segments: Number of segments to return; those that begin after the end
      of the song's last one are empty. By default as many as the song has, at
      least 1.
    song_frames: Length of the song. Events after its last frame all go into
      its last segment. By default it reaches to the last event.
    on_overflow: What to do with a segment of too many tokens or notes: "thin"
      drops its softest notes, among equally loud ones the shortest, and warns;
      "raise" raises.

  Returns:
    The tokens of each segment, unpadded.

  Raises:
    SegmentOverflowError: A segment has more than `max_tokens` tokens or
      `max_notes` notes, and `on_overflow` is "raise".
  """
  if max_tokens < 2:
    raise ValueError(
      f"Expected at least 2 tokens a segment (tie and EOS), got {max_tokens}."
    )
  hop_frames = segment_frames if hop_frames is None else hop_frames
  if not 0 < hop_frames <= segment_frames:
    raise ValueError(
      f"Expected hop_frames from 1 to {segment_frames}, got {hop_frames}."
    )
  note, is_onset, step = _sort_events(notes)
  if song_frames is None:
    song_frames = _last_frame(step, is_onset, frame_rate) + 1
  in_song = num_covering(
    song_frames - first_frame,
    segment_frames=segment_frames,
    hop_frames=hop_frames,
  )
  if num_segments is None:
    num_segments = in_song
  frame = first_frame + hop_frames * np.arange(num_segments + 1)
  first_step, end_step = (
    np.ceil(bound * vocabularies.STEPS_PER_SECOND / frame_rate).astype(np.int64)
    for bound in (frame, frame + segment_frames)
  )
  begins, ends = (
    np.searchsorted(step, first_step),
    np.searchsorted(step, end_step),
  )
  if in_song <= num_segments:
    # Later ones may still overlap the last of the song, but do not follow it.
    begins[first_step >= end_step[in_song - 1]] = len(step)
    ends[in_song - 1 :] = len(step)

  # The note that sounds for each (program, pitch), brought up to each segment.
  key = notes.program * _NUM_PITCHES + notes.pitch
  sounding = np.full(_NUM_PROGRAMS * _NUM_PITCHES, _NO_NOTE)
  onset_step = np.zeros(len(notes), np.int64)
  onset_step[note[is_onset]] = step[is_onset]
  pitched_on = np.where(is_onset, note, _NO_NOTE)
  pitched = ~notes.is_drum[note]

  def hold(events: slice):
    # Of a key that occurs twice, NumPy keeps what is assigned last.
    rows = pitched[events]
    sounding[key[note[events][rows]]] = pitched_on[events][rows]

  limits = f"{max_tokens} tokens"
  if max_notes is not None:
    limits += f" or {max_notes} notes"
  hold(slice(0, begins[0]))
  segments = []
  thinned = dropped = 0
  for index in range(num_segments):
    events = slice(begins[index], ends[index])
    tied = sounding[sounding != _NO_NOTE]
    segment = (
      tied,
      first_step[index] - onset_step[tied],
      note[events],
      is_onset[events],
      step[events] - first_step[index],
    )
    tokens = _encode(notes, *segment, vocabulary)
    # Of the notes that are not held, each one begins here.
    num_notes = len(tied) + np.count_nonzero(is_onset[events])
    fits = max_notes is None or num_notes <= max_notes
    if len(tokens) > max_tokens or not fits:
      if on_overflow == "raise":
        raise SegmentOverflowError(
          f"Expected at most {limits} a segment, got {len(tokens)} tokens and"
          f" {num_notes} notes in the one from frame {frame[index]}; drop it,"
          " or thin it out."
        )
      tokens, left_out = _encode_loudest(
        notes, *segment, vocabulary, max_tokens, max_notes
      )
      thinned += 1
      dropped += left_out
    segments.append(tokens)
    hold(slice(begins[index], begins[index + 1]))
  if thinned:
    warnings.warn(
      f"Left out {dropped} notes, the softest and shortest, in {thinned} of"
      f" {num_segments} segments with more than {limits}.",
      stacklevel=2,
    )
  return segments


def num_covering(
  num_frames: int, *, segment_frames: int, hop_frames: int
) -> int:
  """How many segments cover a song, at least 1.

  Args:
    num_frames: Frames of the song.
    segment_frames: Frames of a segment.
    hop_frames: Frames from the start of a segment to that of the next.
  """
  return 1 + max(0, math.ceil((num_frames - segment_frames) / hop_frames))


def _sort_events(
  notes: Notes,
) -> tuple[
  Int64[np.ndarray, " events"],
  Bool[np.ndarray, " events"],
  Int64[np.ndarray, " events"],
]:
  """The row, the kind (is it an onset) and the 10 ms step of each event.

  Ordered by unrounded time; at equal times the offsets first, then by drum,
  program and pitch. Drums have no offsets.
  """
  order = np.lexsort((notes.pitch, notes.program, notes.is_drum))
  pitched = order[~notes.is_drum[order]]
  note = np.concatenate([pitched, order])
  is_onset = np.arange(len(note)) >= len(pitched)
  time = np.where(is_onset, notes.onset[note], notes.offset[note])
  order = np.argsort(time, kind="stable")
  step = np.rint(vocabularies.STEPS_PER_SECOND * time[order]).astype(np.int64)
  return note[order], is_onset[order], step


def _last_frame(
  step: Int64[np.ndarray, " events"],
  is_onset: Bool[np.ndarray, " events"],
  frame_rate: float,
) -> int:
  """The frame in which the last event falls; -1 without events.

  An offset just at the end of a frame still belongs to that frame.
  """
  frame = step * frame_rate / vocabularies.STEPS_PER_SECOND
  frame = np.where(is_onset, np.floor(frame), np.ceil(frame) - 1)
  return int(frame.max(initial=-1))


def _encode(
  notes: Notes,
  tied: Int[np.ndarray, " tied"],
  age: Int64[np.ndarray, " tied"],
  note: Int64[np.ndarray, " events"],
  is_onset: Bool[np.ndarray, " events"],
  step: Int64[np.ndarray, " events"],
  vocabulary: vocabularies.Vocabulary,
) -> Int32[np.ndarray, " tokens"]:
  """Tokens of a segment with the `tied` notes held and these events.

  Args:
    notes: The piece.
    tied: Rows of the notes held at the start, by program and then pitch.
    age: Steps from the onset of each to the start.
    note: Row of each event.
    is_onset: Whether the event turns its note on.
    step: Time of each event since the segment's start, in steps, ascending.
    vocabulary: The ids.
  """
  is_drum = notes.is_drum[note]
  pitched = np.concatenate([tied, note[~is_drum]])
  program_changes = _changes(notes.program[pitched])
  program_token = vocabulary.program.start + notes.program
  pitch_token = vocabulary.pitch.start + notes.pitch
  # Behind the end of a song there may be empty notes that lie ahead.
  age = np.clip(age, 1, vocabularies.MAX_SHIFT)
  tied_velocity = vocabulary.velocity_to_bin(notes.velocity[tied])
  described = np.full(len(tied), vocabulary.describe_ties)
  tie_section = _interleave(
    [
      vocabulary.shift.start + age,
      program_token[tied],
      vocabulary.velocity.start + tied_velocity,
      pitch_token[tied],
    ],
    [
      described & _changes(age),
      program_changes[: len(tied)],
      described & _changes(tied_velocity),
      np.ones(len(tied), np.int64),
    ],
  )

  writes_program = np.zeros(len(note), np.int64)
  writes_program[~is_drum] = program_changes[len(tied) :]
  velocity = vocabulary.velocity_to_bin(notes.velocity[note]) * is_onset
  writes_shift = np.diff(step, prepend=0) != 0
  full_shifts = np.maximum(step - 1, 0) // vocabularies.MAX_SHIFT
  last_shift = step - full_shifts * vocabularies.MAX_SHIFT
  events = _interleave(
    [
      np.full(len(note), vocabulary.shift[-1]),
      vocabulary.shift.start + last_shift,
      program_token[note],
      vocabulary.velocity.start + velocity,
      np.where(
        is_drum, vocabulary.drum.start + notes.pitch[note], pitch_token[note]
      ),
    ],
    [
      full_shifts * writes_shift,
      writes_shift,
      writes_program,
      _changes(velocity),
      np.ones(len(note), np.int64),
    ],
  )
  parts = [tie_section, [vocabulary.tie], events, [vocabularies.EOS]]
  return np.concatenate(parts).astype(np.int32)


def _changes(values: Int[np.ndarray, " rows"]) -> Bool[np.ndarray, " rows"]:
  """Whether each value, 0 or more, is new; the first always is."""
  return np.diff(values, prepend=-1) != 0


def _interleave(
  columns: Sequence[Int[np.ndarray, " rows"]], counts: Sequence[np.ndarray]
) -> Int[np.ndarray, " tokens"]:
  """Reads `columns` row by row, each value as often as its count says."""
  return np.repeat(np.stack(columns, 1).ravel(), np.stack(counts, 1).ravel())


def _encode_loudest(
  notes: Notes,
  tied: Int[np.ndarray, " tied"],
  age: Int64[np.ndarray, " tied"],
  note: Int64[np.ndarray, " events"],
  is_onset: Bool[np.ndarray, " events"],
  step: Int64[np.ndarray, " events"],
  vocabulary: vocabularies.Vocabulary,
  max_tokens: int,
  max_notes: int | None,
) -> tuple[Int32[np.ndarray, " tokens"], int]:
  """Like `_encode`, with as many of the loudest notes as fit.

  Returns:
    At most `max_tokens` tokens of at most `max_notes` notes, and the number of
    notes left out.
  """
  rows = np.unique(np.concatenate([tied, note]))
  length_s = notes.offset[rows] - notes.onset[rows]
  rows = rows[np.lexsort((-length_s, -notes.velocity[rows]))]
  rank = np.empty(len(notes), np.int64)
  rank[rows] = np.arange(len(rows))

  def encode(count: int):
    kept = rank[note] < count
    still_tied = rank[tied] < count
    return _encode(
      notes,
      tied[still_tied],
      age[still_tied],
      note[kept],
      is_onset[kept],
      step[kept],
      vocabulary,
    )

  # A note adds a token at least, and never takes one away: bisection is exact.
  most = max_tokens if max_notes is None else min(max_tokens, max_notes)
  counts = range(min(len(rows), most) + 1)
  count = bisect.bisect(counts, max_tokens, key=lambda n: len(encode(n))) - 1
  return encode(count), len(rows) - count
