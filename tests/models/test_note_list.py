import functools

import hypothesis
from hypothesis import strategies as st
import jax
from jax import numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion import notes
from music_spectrogram_diffusion.models import note_list

VOCABULARY = notes.Vocabulary(velocity_bins=32)
TOKENS, NOTES = 400, 64
NEVER = note_list.NEVER


@functools.partial(jax.jit, static_argnames="max_notes")
def parse(tokens, max_notes=NOTES):
  return note_list.parse_note_list(
    tokens, vocabulary=VOCABULARY, max_notes=max_notes
  )


def rows_of(tokens, max_notes=NOTES):
  """Rows (pitch, program, is_drum, onset, offset, tied, bin) of a segment."""
  padded = np.pad(np.asarray(tokens, np.int32), (0, TOKENS - len(tokens)))
  listed = parse(padded[None], max_notes)
  velocity_bin = np.rint(32 * np.asarray(listed.velocity)).astype(int)
  columns = [
    listed.pitch,
    listed.program,
    listed.is_drum,
    listed.onset,
    listed.offset,
    listed.tied,
    velocity_bin,
  ]
  mask = np.asarray(listed.mask)
  columns = (np.asarray(column)[mask].tolist() for column in columns)
  return list(zip(*columns, strict=True))


@st.composite
def songs(draw):
  row = st.tuples(
    st.integers(0, 2400),
    st.integers(1, 1800),
    st.integers(50, 52),
    st.integers(1, 127),
    st.sampled_from([0, 41]),
    st.booleans(),
  )
  rows = draw(st.lists(row, max_size=25))
  onset, length, pitch, velocity, program, is_drum = (
    np.array(rows, np.int64).reshape(-1, 6).T
  )
  program[is_drum == 1] = 0
  return notes.Notes.from_columns(
    onset / 100, (onset + length) / 100, pitch, velocity, program, is_drum
  )


@hypothesis.settings(max_examples=60)
@hypothesis.given(songs(), st.sampled_from([40, 256, 1000]), st.booleans())
def test_the_list_holds_the_notes_that_were_tokenized(
  song, segment_frames, describe_ties
):
  song = notes.trim_overlaps(song)
  segments = notes.tokenize_segments(
    song,
    vocabulary=notes.Vocabulary(32, describe_ties),
    segment_frames=segment_frames,
    num_segments=4,
    song_frames=10_000,
  )
  onset = np.rint(100 * song.onset).astype(int)
  offset = np.rint(100 * song.offset).astype(int)
  bins = VOCABULARY.velocity_to_bin(song.velocity)
  for index, tokens in enumerate(segments):
    start = 2 * segment_frames * index
    end = start + 2 * segment_frames
    tied = ~song.is_drum & (onset < start) & (offset >= start)
    ends = np.where((offset < end) & ~song.is_drum, offset - start, NEVER)
    known = ~tied | describe_ties
    begins = np.where(known, np.maximum(onset - start, -1000), 0)
    expected = [
      (
        int(song.pitch[i]),
        int(song.program[i]),
        bool(song.is_drum[i]),
        int(begins[i]),
        int(ends[i]),
        bool(tied[i]),
        int(bins[i]) if known[i] else 0,
      )
      for i in np.flatnonzero(tied | ((onset >= start) & (onset < end)))
    ]
    assert sorted(rows_of(tokens)) == sorted(expected)


def tokens_of(text):
  """Tokens in words: `s50` a shift, `v3`, `p60`, `i40` a program, `d36`."""
  kinds = dict(
    s=VOCABULARY.shift,
    v=VOCABULARY.velocity,
    p=VOCABULARY.pitch,
    i=VOCABULARY.program,
    d=VOCABULARY.drum,
  )
  return [
    VOCABULARY.tie if word == "tie" else kinds[word[0]][int(word[1:])]
    for word in text.split()
  ] + [notes.EOS]


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("", []),
    ("tie", []),
    ("i0 p60 tie", [(60, 0, False, 0, NEVER, True, 0)]),
    ("i0 p60 tie s8 i0 v0 p60", [(60, 0, False, 0, 8, True, 0)]),
    # A tie section's times are ages, and nothing of it holds after it.
    (
      "s7 i3 v5 p60 s1000 p61 tie i3 v9 p62 s8 v0 p60",
      [
        (60, 3, False, -7, 8, True, 5),
        (61, 3, False, -1000, NEVER, True, 5),
        (62, 3, False, 0, NEVER, False, 9),
      ],
    ),
    # There is one tie token; others are passed over.
    (
      "tie s5 i0 v1 p60 tie p61 tie",
      [
        (60, 0, False, 5, NEVER, False, 1),
        (61, 0, False, 5, NEVER, False, 1),
      ],
    ),
    # A program holds until the next one, a velocity likewise.
    (
      "tie i4 v9 p60 s3 p61 i5 p61",
      [
        (60, 4, False, 0, NEVER, False, 9),
        (61, 4, False, 3, NEVER, False, 9),
        (61, 5, False, 3, NEVER, False, 9),
      ],
    ),
    # A pitch that is struck again ends there.
    (
      "tie i4 v9 p60 s3 p60",
      [(60, 4, False, 0, 3, False, 9), (60, 4, False, 3, NEVER, False, 9)],
    ),
    # A drum has no end, no program, and does not end a pitch.
    (
      "tie i4 v9 p36 s3 v2 d36",
      [(36, 4, False, 0, NEVER, False, 9), (36, 0, True, 3, NEVER, False, 2)],
    ),
    # Shifts in a row add up; each run counts from the segment's start.
    (
      "tie i4 s1000 s5 v1 p60 s1000 s90 v0 p60",
      [(60, 4, False, 1005, 1090, False, 1)],
    ),
  ],
)
def test_tokens_by_hand(text, expected):
  assert rows_of(tokens_of(text)) == expected


def test_what_is_more_than_max_notes_is_left_out_from_the_end():
  text = "i0 p60 tie v1 " + " ".join(f"s{i} p{i}" for i in range(1, 10))
  everything = rows_of(tokens_of(text))
  assert len(everything) == 10
  assert rows_of(tokens_of(text), max_notes=4) == everything[:4]


def test_examples_of_a_batch_are_parsed_apart():
  texts = ["i0 p60 tie", "tie v5 i3 p40", "tie s7 d40"]
  rows = [np.pad(t, (0, TOKENS - len(t))) for t in map(tokens_of, texts)]
  together = parse(jnp.asarray(np.stack(rows), jnp.int32))
  for i in range(3):
    alone = parse(rows[i][None].astype(np.int32))
    for name, column in vars(alone).items():
      np.testing.assert_array_equal(column[0], getattr(together, name)[i])


def buckets_of(onset, offset, frames, tied=False):
  one = jnp.ones((1, 1), jnp.int32)
  listed = note_list.NoteList(
    pitch=one,
    is_drum=one < 0,
    program=one,
    velocity=jnp.ones((1, 1)),
    onset=jnp.full_like(one, onset),
    offset=jnp.full_like(one, offset),
    tied=jnp.full_like(one, tied, bool),
    mask=one > 0,
  )
  frames = list(frames)
  times = np.zeros(2000, np.int32)
  times[: len(frames)] = frames
  buckets = jax.jit(note_list.relative_time_buckets)(listed, times)
  return buckets[0, : len(frames), 0].tolist()


def test_buckets_are_powers_of_two_of_the_time_to_the_nearest_change():
  frames = [0, 92, 93, 97, 98, 99, 100, 101, 102, 104, 119]
  assert buckets_of(100, 120, frames) == [3, 3, 2, 1, 1, 0, 4, 4, 5, 6, 8]
  frames = [120, 121, 122, 124, 128, 247, 248, 2000]
  assert buckets_of(100, 120, frames) == [13, 13, 14, 15, 16, 19, 20, 20]


def test_a_held_note_has_a_bucket_of_its_own_until_it_ends():
  assert buckets_of(0, 10, [2, 9, 10, 12], tied=True) == [21, 21, 13, 14]


def test_a_held_note_of_known_age_goes_on_as_if_it_were_not_held():
  frames = [0, 2, 9, 10, 12]
  expected = buckets_of(-6, 10, frames)
  assert buckets_of(-6, 10, frames, tied=True) == expected == [6, 7, 7, 13, 14]


def test_buckets_count_down_to_the_onset_and_up_from_it():
  passing = buckets_of(300, 900, range(2000))
  waiting, after = passing[:300], passing[300:]
  assert waiting == sorted(waiting, reverse=True)
  assert after == sorted(after)
  # Each kind of bucket is used up to its last one.
  assert set(waiting) == {0, 1, 2, 3}
  assert set(after) == set(range(4, 21))
