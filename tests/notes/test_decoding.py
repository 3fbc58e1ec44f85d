import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from music_spectrogram_diffusion.notes import (
  EOS,
  PAD,
  Notes,
  Vocabulary,
  detokenize_segments,
  tokenize_segments,
  trim_overlaps,
)

VOCABULARY = Vocabulary(velocity_bins=127)
ON, OFF = VOCABULARY.velocity[100], VOCABULARY.velocity[0]


def rows_of(notes):
  columns = (
    np.rint(100 * notes.onset).astype(int),
    np.rint(100 * notes.offset).astype(int),
    notes.pitch,
    notes.velocity,
    notes.program,
    notes.is_drum,
  )
  return sorted(zip(*(c.tolist() for c in columns), strict=True))


def decode(*segments, **settings):
  """Rows (onset step, offset step, pitch, velocity, program, is_drum)."""
  arrays = [np.array(tokens, np.int32) for tokens in segments]
  return rows_of(detokenize_segments(arrays, vocabulary=VOCABULARY, **settings))


@st.composite
def songs_on_the_grid(draw):
  row = st.tuples(
    st.integers(0, 1200),
    st.integers(1, 900),
    st.integers(50, 53),
    st.integers(1, 127),
    st.sampled_from([0, 41]),
    st.booleans(),
  )
  rows = draw(st.lists(row, max_size=40))
  onset, length, pitch, velocity, program, is_drum = (
    np.array(rows, np.int64).reshape(-1, 6).T
  )
  length[is_drum == 1] = 1
  program[is_drum == 1] = 0
  return Notes.from_columns(
    onset / 100, (onset + length) / 100, pitch, velocity, program, is_drum
  )


@hypothesis.given(
  songs_on_the_grid(), st.sampled_from([40, 256]), st.booleans()
)
def test_notes_on_the_grid_come_back(notes, segment_frames, describe_ties):
  notes = trim_overlaps(notes)
  vocabulary = Vocabulary(127, describe_ties)
  segments = tokenize_segments(
    notes, vocabulary=vocabulary, segment_frames=segment_frames
  )
  back = detokenize_segments(
    segments, vocabulary=vocabulary, segment_frames=segment_frames
  )
  assert rows_of(back) == rows_of(notes)


@pytest.mark.parametrize("bins", [1, 32])
def test_velocities_come_back_as_the_largest_of_their_bin(bins):
  vocabulary = Vocabulary(velocity_bins=bins)
  notes = Notes.from_columns([0, 1], [1, 2], [60, 61], [100, 127])
  segments = tokenize_segments(notes, vocabulary=vocabulary)
  back = detokenize_segments(segments, vocabulary=vocabulary)
  assert back.velocity.tolist() == ([127, 127] if bins == 1 else [103, 127])


def test_nothing_gives_no_notes():
  assert decode() == []
  assert decode([]) == []
  assert decode([VOCABULARY.tie, EOS, PAD, PAD]) == []


def test_a_window_within_a_note_gives_the_part_in_it():
  notes = Notes.from_columns(0, 30, 60, 80, 40)
  window = tokenize_segments(
    notes, vocabulary=VOCABULARY, first_frame=256, num_segments=2
  )
  back = detokenize_segments(window, vocabulary=VOCABULARY)
  assert rows_of(back) == [(0, 1024, 60, 100, 40, False)]


def test_a_window_within_a_described_note_knows_its_velocity():
  vocabulary = Vocabulary(127, describe_ties=True)
  notes = Notes.from_columns([0, 6], [30, 7], [60, 61], [80, 20], 40)
  window = tokenize_segments(
    notes, vocabulary=vocabulary, first_frame=256, num_segments=1
  )
  back = detokenize_segments(window, vocabulary=vocabulary)
  assert rows_of(back) == [
    (0, 512, 60, 80, 40, False),
    (88, 188, 61, 20, 40, False),
  ]


def test_a_note_not_listed_ends_at_the_segment_start():
  held = [VOCABULARY.tie, VOCABULARY.program[0], ON, VOCABULARY.pitch[60], EOS]
  assert decode(held, [VOCABULARY.tie, EOS]) == [(0, 512, 60, 100, 0, False)]


def test_a_segment_without_tie_section_ends_nothing():
  held = [VOCABULARY.tie, VOCABULARY.program[0], ON, VOCABULARY.pitch[60], EOS]
  assert decode(held, [EOS]) == [(0, 1024, 60, 100, 0, False)]


def test_a_note_that_is_listed_as_off_has_velocity_100():
  listed = [VOCABULARY.program[0], OFF, VOCABULARY.pitch[60], VOCABULARY.tie]
  assert decode([*listed, EOS]) == [(0, 512, 60, 100, 0, False)]


def test_a_note_struck_again_is_cut():
  note = [VOCABULARY.program[0], ON, VOCABULARY.pitch[60]]
  tokens = [VOCABULARY.tie, *note, VOCABULARY.shift[50], *note, EOS]
  assert decode(tokens) == [
    (0, 50, 60, 100, 0, False),
    (50, 512, 60, 100, 0, False),
  ]


def test_shifts_in_a_row_add_up():
  note = [VOCABULARY.program[0], ON, VOCABULARY.pitch[60]]
  end = [VOCABULARY.shift[1000], VOCABULARY.shift[500], OFF, note[-1], EOS]
  assert decode([VOCABULARY.tie, *note, *end]) == [(0, 1500, 60, 100, 0, False)]


def test_what_comes_after_eos_is_passed_over():
  note = [VOCABULARY.program[0], ON, VOCABULARY.pitch[60]]
  assert decode([VOCABULARY.tie, EOS, *note]) == []


_FEW = [EOS, OFF, ON, VOCABULARY.tie, VOCABULARY.pitch[60], VOCABULARY.drum[36]]
_FEW += [VOCABULARY.shift[0], VOCABULARY.shift[1000], VOCABULARY.program[7]]


@hypothesis.given(
  st.lists(
    st.lists(st.sampled_from(_FEW) | st.integers(0, 1700), max_size=60),
    max_size=4,
  )
)
def test_any_tokens_decode_to_valid_notes(segments):
  decode(*segments)
