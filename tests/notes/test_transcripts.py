"""Facts about `notes.transcripts`; frames of 8 ms, segments of 2.048 s."""

import numpy as np
import pytest

from music_spectrogram_diffusion.notes import (
  EOS,
  PAD,
  UNK,
  Notes,
  Vocabulary,
  read_transcript,
  tokenize_segments,
)

V = Vocabulary()
ON, OFF = V.velocity[1], V.velocity[0]
SHIFT, PITCH, PROGRAM, DRUM = V.shift, V.pitch, V.program, V.drum


def read(*segments, vocabulary=V):
  """Rows of (onset step, offset step, pitch, program, is drum)."""
  notes = read_transcript(
    [np.array(tokens, np.int32) for tokens in segments],
    vocabulary=vocabulary,
    segment_frames=256,
    frame_rate=125.0,
  )
  steps = np.rint(100 * np.stack([notes.onset, notes.offset])).astype(int)
  columns = (*steps, notes.pitch, notes.program, notes.is_drum)
  return list(zip(*(column.tolist() for column in columns), strict=True))


def test_what_was_tokenized_is_read_again():
  rng = np.random.default_rng(0)
  onset = rng.permutation(60) * 0.2
  song = Notes.from_columns(
    onset,
    onset + rng.integers(1, 400, 60) / 100,
    40 + np.arange(60) % 30,
    127,
    8 * (np.arange(60) // 30),
  )
  # Segments of 5.12 s start at a step of 10 ms, whichever way it is rounded.
  segments = tokenize_segments(song, vocabulary=V)
  heard = read_transcript(
    segments, vocabulary=V, segment_frames=256, frame_rate=50.0
  )
  order = np.argsort(song.onset)
  for name in ("onset", "offset", "pitch", "velocity", "program"):
    np.testing.assert_allclose(
      getattr(heard, name), getattr(song, name)[order], atol=1e-9
    )


def test_times_count_from_the_step_before_a_segment_starts():
  # 5 segments of 2.048 s: 0, 2.04, 4.09, 6.14, 8.19 and, exactly, 10.24 s.
  hit = [V.tie, ON, DRUM[38], EOS]
  assert [row[0] for row in read(*[hit] * 6)] == [0, 204, 409, 614, 819, 1024]


def test_tied_notes_go_on_and_others_end_where_the_segment_starts():
  first = [V.tie, PROGRAM[3], ON, PITCH[60], PITCH[62], EOS, PITCH[70]]
  second = [PROGRAM[3], PITCH[60], V.tie, SHIFT[10], PROGRAM[3], OFF, PITCH[60]]
  assert read(first, second) == [(0, 204, 62, 3, False), (0, 214, 60, 3, False)]


def test_what_ties_say_of_themselves_is_passed_over():
  song = Notes.from_columns([0.0, 5.0], [7.0, 6.5], [60, 62], 100)
  plain, described = (
    read(
      *tokenize_segments(
        song, vocabulary=vocabulary, segment_frames=256, frame_rate=125.0
      ),
      vocabulary=vocabulary,
    )
    for vocabulary in (V, Vocabulary(describe_ties=True))
  )
  assert described == plain
  assert [row[2] for row in plain] == [60, 62]


def test_contradictions_are_passed_over():
  assert read([PITCH[60], V.tie, OFF, PITCH[61], DRUM[40], UNK, PAD]) == []
  # Without a tie token, all is a list of tied notes, of which none sounds.
  assert read([ON, PITCH[60], SHIFT[9], OFF, PITCH[60]]) == []
  # The second is earlier than the first, and so is not struck.
  back = [V.tie, ON, SHIFT[50], PITCH[60], SHIFT[20], PITCH[61], SHIFT[80], OFF]
  assert read([*back, PITCH[60]]) == [(50, 80, 60, 0, False)]


def test_what_reaches_into_the_next_segment_is_left_to_it():
  tokens = [V.tie, ON, DRUM[38], SHIFT[204], DRUM[39], SHIFT[205], DRUM[40]]
  kept = [(0, 38), (204, 39)]
  assert [(row[0], row[2]) for row in read(tokens, [V.tie])] == kept
  # There is none after the last.
  assert [(r[0], r[2]) for r in read(tokens)] == [*kept, (205, 40)]


@pytest.mark.parametrize(
  "tokens, rows",
  [
    # A note struck again is cut; what sounds ends with the last event.
    ([SHIFT[5], PITCH[60], SHIFT[9], PITCH[60], SHIFT[12], PITCH[64]],
     [(5, 9, 60, 0, False), (9, 13, 60, 0, False), (12, 13, 64, 0, False)]),
    # Off and on at once: 10 ms. Shifts before one event add up.
    ([SHIFT[5], SHIFT[2], PITCH[60], OFF, PITCH[60]], [(7, 8, 60, 0, False)]),
    ([SHIFT[5], DRUM[38]], [(5, 6, 38, 0, True)]),
    ([], []),
  ],
)  # fmt: skip
def test_notes_end_in_time(tokens, rows):
  assert read([V.tie, ON, *tokens]) == rows


def test_no_segments_have_no_notes():
  assert read() == []
