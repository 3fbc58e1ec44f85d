import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from music_spectrogram_diffusion.notes import (
  Notes,
  SegmentOverflowError,
  Vocabulary,
  num_covering,
  tokenize_segments,
)

# Ids of the published vocabulary, written out.
EOS = 1
TIE = 1134
OFF, ON = 1132, 1133


def shift(step):
  return 3 + step


def pitch(number):
  return 1004 + number


def program(number):
  return 1135 + number


def drum(number):
  return 1263 + number


def tokenize(notes, vocabulary=None, **settings):
  vocabulary = vocabulary or Vocabulary()
  segments = tokenize_segments(notes, vocabulary=vocabulary, **settings)
  assert all(tokens.dtype == np.int32 for tokens in segments)
  return [tokens.tolist() for tokens in segments]


def slow_tokenize(notes, bins, describe_ties, num_segments):
  """The rules one by one, for one note, event and segment after the other."""
  first_velocity = 3 + 1001 + 128
  tie = first_velocity + bins + 1
  rows = sorted(range(len(notes)), key=lambda i: notes.pitch[i])
  rows.sort(key=lambda i: notes.program[i])
  rows.sort(key=lambda i: notes.is_drum[i])
  events = [(notes.offset[i], i, False) for i in rows if not notes.is_drum[i]]
  events += [(notes.onset[i], i, True) for i in rows]
  events.sort(key=lambda event: event[0])
  segments = []
  for segment in range(num_segments):
    begin = 512 * segment
    end = begin + 512 if segment < num_segments - 1 else float("inf")
    state = {}
    body = []
    for time, i, is_onset in events:
      step = round(float(time) * 100)
      if step < begin and not notes.is_drum[i]:
        voice = int(notes.program[i]), int(notes.pitch[i])
        state[voice] = (step, notes.velocity[i]) if is_onset else None
      if begin <= step < end:
        body.append((step - begin, i, is_onset))
    tokens = []
    now = current_program = current_velocity = None
    for voice in sorted(voice for voice, sounds in state.items() if sounds):
      onset, velocity = state[voice]
      age = min(begin - onset, 1000)
      velocity = -(-bins * velocity // 127)
      if describe_ties and age != now:
        tokens.append(shift(age))
        now = age
      if voice[0] != current_program:
        tokens.append(tie + 1 + voice[0])
        current_program = voice[0]
      if describe_ties and velocity != current_velocity:
        tokens.append(first_velocity + velocity)
        current_velocity = velocity
      tokens.append(pitch(voice[1]))
    tokens.append(tie)
    now = current_velocity = None
    for step, i, is_onset in body:
      event = []
      if not notes.is_drum[i] and notes.program[i] != current_program:
        current_program = notes.program[i]
        event.append(tie + 1 + current_program)
      velocity = -(-bins * notes.velocity[i] // 127) if is_onset else 0
      if velocity != current_velocity:
        current_velocity = velocity
        event.append(first_velocity + velocity)
      is_drum = notes.is_drum[i]
      event.append((tie + 129 if is_drum else 1004) + notes.pitch[i])
      if step and step != now:
        now = step
        while step > 0:
          tokens.append(shift(min(step, 1000)))
          step -= 1000
      tokens += event
    segments.append([int(token) for token in [*tokens, EOS]])
  return segments


@st.composite
def songs(draw, step_ms=1):
  """Up to 40 notes of few voices, so that they meet and overlap."""
  row = st.tuples(
    st.integers(0, 12_000 // step_ms),
    st.integers(0, 7_000 // step_ms) | st.integers(0, 3),
    st.sampled_from([0, 60, 127]),
    st.integers(1, 127),
    st.sampled_from([0, 41, 127]),
    st.booleans(),
  )
  rows = draw(st.lists(row, max_size=40))
  onset, length, *rest = np.array(rows, np.int64).reshape(-1, 6).T
  onset_s = onset * step_ms / 1000
  offset_s = (onset + length) * step_ms / 1000
  return Notes.from_columns(onset_s, offset_s, *rest)


def test_a_note_is_program_velocity_pitch_and_its_end_the_same():
  notes = Notes.from_columns(0.5, 1.25, 60, 100, 40)
  assert tokenize(notes) == [
    [TIE, shift(50), program(40), ON, pitch(60)]
    + [shift(125), OFF, pitch(60), EOS]
  ]


def test_nothing_is_the_tie_alone():
  assert tokenize(Notes.from_columns([], [], [], [])) == [[TIE, EOS]]


def test_an_event_at_the_start_has_no_shift():
  assert tokenize(Notes.from_columns(0.0, 1.0, 60, 100)) == [
    [TIE, program(0), ON, pitch(60), shift(100), OFF, pitch(60), EOS]
  ]


def test_times_are_since_the_segment_start_and_written_once():
  notes = Notes.from_columns([1.0, 1.0, 2.0], [3.0, 3.0, 3.0], [60, 64, 67], 9)
  assert tokenize(notes) == [
    [TIE, shift(100), program(0), ON, pitch(60), pitch(64)]
    + [shift(200), pitch(67)]
    + [shift(300), OFF, pitch(60), pitch(64), pitch(67), EOS]
  ]


def test_a_drum_hit_is_velocity_and_drum_and_has_no_end():
  notes = Notes.from_columns([0.1, 0.2], [1, 1], [36, 38], 100, 0, True)
  assert tokenize(notes) == [
    [TIE, shift(10), ON, drum(36), shift(20), drum(38), EOS]
  ]


def test_drums_come_after_pitched_onsets_and_do_not_change_the_program():
  notes = Notes.from_columns(
    [1, 1, 1], [2, 2, 2], [36, 50, 40], 100, [0, 5, 5], [True, False, False]
  )
  assert tokenize(notes) == [
    [TIE, shift(100), program(5), ON, pitch(40), pitch(50), drum(36)]
    + [shift(200), OFF, pitch(40), pitch(50), EOS]
  ]


def test_at_equal_times_offsets_come_first():
  notes = Notes.from_columns([0, 1], [1, 2], [60, 60], 100)
  assert tokenize(notes) == [
    [TIE, program(0), ON, pitch(60), shift(100), OFF, pitch(60), ON, pitch(60)]
    + [shift(200), OFF, pitch(60), EOS]
  ]


def test_a_note_within_one_step_keeps_its_onset_first():
  notes = Notes.from_columns(1.001, 1.003, 60, 100)
  assert tokenize(notes) == [
    [TIE, shift(100), program(0), ON, pitch(60), OFF, pitch(60), EOS]
  ]


def test_times_round_half_to_even():
  notes = Notes.from_columns([0.125, 0.375], [0.5, 0.5], [1, 2], 100)
  tokens = tokenize(notes)[0]
  assert shift(12) in tokens and shift(38) in tokens


def test_velocity_bins_are_written_and_repeated_ones_dropped():
  vocabulary = Vocabulary(velocity_bins=127)
  notes = Notes.from_columns([0, 1, 2], [3, 4, 5], [60, 61, 62], [9, 9, 8])
  (tokens,) = tokenize(notes, vocabulary)
  velocities = [t - 1132 for t in tokens if t in vocabulary.velocity]
  assert velocities == [9, 8, 0]


def test_held_notes_are_listed_by_program_then_pitch():
  notes = Notes.from_columns(
    [0, 1, 2], [6, 6, 7], [70, 50, 60], 100, [10, 20, 10]
  )
  assert tokenize(notes)[1] == (
    [program(10), pitch(60), pitch(70), program(20), pitch(50), TIE]
    + [shift(88), program(10), OFF, pitch(70), program(20), pitch(50)]
    + [shift(188), program(10), pitch(60), EOS]
  )


def test_the_program_of_the_tie_section_is_not_repeated():
  notes = Notes.from_columns(0, 6, 60, 100, 40)
  assert tokenize(notes)[1] == (
    [program(40), pitch(60), TIE, shift(88), OFF, pitch(60), EOS]
  )


def test_described_ties_have_their_age_up_to_10_s_and_their_velocity():
  vocabulary = Vocabulary(velocity_bins=127, describe_ties=True)
  notes = Notes.from_columns(
    [0.0, 4.0, 4.0], 26.0, [60, 62, 64], [90, 90, 30], [10, 10, 20]
  )
  loud, soft = vocabulary.velocity[90], vocabulary.velocity[30]
  piano, organ = vocabulary.program[10], vocabulary.program[20]
  segments = tokenize(notes, vocabulary, first_frame=256, num_segments=2)
  assert segments[0] == (
    [shift(512), piano, loud, pitch(60), shift(112), pitch(62)]
    + [organ, soft, pitch(64), vocabulary.tie, EOS]
  )
  assert segments[1][:5] == [shift(1000), piano, loud, pitch(60), shift(624)]


def test_a_note_that_ends_at_the_boundary_is_still_listed():
  notes = Notes.from_columns([0, 6], [5.12, 7], [60, 62], 100)
  assert tokenize(notes)[1][:6] == (
    [program(0), pitch(60), TIE, OFF, pitch(60), shift(88)]
  )


def test_a_note_that_begins_at_the_boundary_is_not_listed():
  notes = Notes.from_columns(5.12, 6, 60, 100)
  assert tokenize(notes) == [
    [TIE, EOS],
    [TIE, program(0), ON, pitch(60), shift(88), OFF, pitch(60), EOS],
  ]


def test_the_end_of_the_song_stays_in_its_last_segment():
  notes = Notes.from_columns(0, 5.12, 60, 100)
  assert tokenize(notes) == [
    [TIE, program(0), ON, pitch(60), shift(512), OFF, pitch(60), EOS]
  ]


def test_events_after_the_song_go_into_its_last_segment():
  notes = Notes.from_columns([1.0, 26.0], [2.0, 27.0], [60, 62], 100)
  segments = tokenize(notes, song_frames=256)
  assert len(segments) == 1
  assert segments[0][-7:] == (
    [pitch(62), shift(1000), shift(1000), shift(700), OFF, pitch(62), EOS]
  )


def test_a_shift_of_exactly_1000_is_one_token():
  notes = Notes.from_columns(10.0, 11.0, 60, 100)
  assert tokenize(notes, song_frames=256)[0][:3] == (
    [TIE, shift(1000), program(0)]
  )


def test_of_overlapping_equal_notes_the_first_offset_ends_both():
  notes = Notes.from_columns([0, 1], [11, 4], 60, 100)
  assert [segment[:2] for segment in tokenize(notes)[1:]] == [
    [TIE, EOS],
    [TIE, shift(76)],
  ]


def test_no_note_is_listed_after_the_last_event():
  notes = Notes.from_columns(0, 1, 60, 100)
  assert tokenize(notes, num_segments=3)[1:] == [[TIE, EOS], [TIE, EOS]]


def test_a_window_holds_only_its_own_events():
  notes = Notes.from_columns([0, 6, 12], [1, 13, 14], [60, 62, 64], 100)
  window = tokenize(notes, first_frame=350, num_segments=1, segment_frames=100)
  assert window == [[program(0), pitch(62), TIE, EOS]]


@pytest.mark.parametrize("frame_rate", [50.0, 31.25, 62.5, 86.1328125])
def test_windows_of_any_frame_rate_share_out_all_events(frame_rate):
  rng = np.random.default_rng(0)
  onset = rng.uniform(0, 20, 200)
  notes = Notes.from_columns(onset, onset + 1, np.arange(200) % 128, 100)
  segments = tokenize(notes, frame_rate=frame_rate, segment_frames=100)
  bodies = [tokens[tokens.index(TIE) :] for tokens in segments]
  assert sum(t in range(1004, 1132) for t in sum(bodies, [])) == 400
  for index, tokens in enumerate(segments):
    start = int(np.ceil(100 * index * 100 / frame_rate))
    end = int(np.ceil(100 * (index + 1) * 100 / frame_rate))
    shifts = [t - 3 for t in tokens if t in range(3, 1004)]
    assert shifts == sorted(shifts) and max(shifts) <= end - start


@hypothesis.given(songs(), st.sampled_from([1, 127]), st.booleans())
def test_tokens_are_those_of_the_rules_one_by_one(notes, bins, describe_ties):
  segments = tokenize(notes, Vocabulary(bins, describe_ties))
  assert segments == slow_tokenize(notes, bins, describe_ties, len(segments))


@hypothesis.given(songs(), st.integers(0, 4), st.booleans())
def test_a_later_start_gives_the_later_segments(notes, skipped, describe_ties):
  vocabulary = Vocabulary(127, describe_ties)
  segments = tokenize(notes, vocabulary, num_segments=6)
  later = tokenize(
    notes, vocabulary, first_frame=256 * skipped, num_segments=6 - skipped
  )
  assert later == segments[skipped:]
  in_song = tokenize(notes, vocabulary)
  if skipped < len(in_song):
    later = tokenize(notes, vocabulary, first_frame=256 * skipped)
    assert later == in_song[skipped:]


@hypothesis.given(songs(), st.integers(1, 600))
def test_ids_are_those_of_the_vocabulary_even_behind_the_song(
  notes, song_frames
):
  vocabulary = Vocabulary(127, describe_ties=True)
  segments = tokenize(
    notes, vocabulary, song_frames=song_frames, num_segments=6
  )
  assert all(0 < token < vocabulary.drum.stop for token in sum(segments, []))


def test_thinned_ties_keep_their_own_ages_and_velocities():
  vocabulary = Vocabulary(velocity_bins=127, describe_ties=True)
  notes = Notes.from_columns(
    [0.0, 1.0, 2.0], 9.0, [60, 62, 64], [50, 20, 90], 10
  )
  with pytest.warns(UserWarning, match="Left out 1 notes"):
    segments = tokenize(notes, vocabulary, first_frame=256, max_notes=2)
  assert segments[0][:7] == (
    [shift(512), vocabulary.program[10], vocabulary.velocity[50], pitch(60)]
    + [shift(312), vocabulary.velocity[90], pitch(64)]
  )


def test_too_many_tokens_keep_the_loudest_and_longest_notes():
  notes = Notes.from_columns(
    0.0, [1.0, 2.0, 3.0, 4.0], [60, 61, 62, 63], [50, 90, 50, 50]
  )
  with pytest.warns(UserWarning, match="Left out 2 notes.* in 1 of 1 segments"):
    segments = tokenize(notes, max_tokens=11)
  assert segments == [
    [TIE, program(0), ON, pitch(61), pitch(63)]
    + [shift(200), OFF, pitch(61), shift(400), pitch(63), EOS]
  ]


def test_thinning_leaves_out_whole_notes_and_no_more_than_needed():
  rng = np.random.default_rng(0)
  onset = rng.uniform(0, 20, 2000)
  notes = Notes.from_columns(
    onset,
    onset + rng.exponential(2, 2000),
    rng.integers(0, 128, 2000),
    rng.integers(1, 128, 2000),
    rng.integers(0, 128, 2000),
  )
  with pytest.warns(UserWarning, match="Left out"):
    segments = tokenize(notes, max_tokens=300)
  lengths = [len(tokens) for tokens in segments]
  assert max(lengths) <= 300
  assert np.mean(lengths[:4]) > 290


def test_even_a_tie_section_that_is_too_long_is_thinned():
  program_of, pitch_of = np.divmod(np.arange(16384), 128)
  notes = Notes.from_columns(0.0, 12.0, pitch_of, 100, program_of)
  with pytest.warns(UserWarning, match="in 3 of 3 segments"):
    segments = tokenize(notes)
  assert [len(tokens) for tokens in segments] == [2048, 2048, 2048]


def test_too_many_notes_keep_the_loudest_held_ones_and_drums_included():
  notes = Notes.from_columns(
    [0.0, 6.0, 6.0, 6.0],
    [7.0, 6.5, 6.5, 6.1],
    [60, 61, 62, 36],
    [80, 50, 90, 70],
    is_drum=[False, False, False, True],
  )
  assert len(tokenize(notes, max_notes=4)) == 2
  with pytest.warns(UserWarning, match="1 notes.* in 1 of 2 .* or 3 notes"):
    _, tokens = tokenize(notes, max_notes=3)
  assert tokens == (
    [program(0), pitch(60), TIE, shift(88), ON, pitch(62), drum(36)]
    + [shift(138), OFF, pitch(62), shift(188), pitch(60), EOS]
  )


@pytest.mark.parametrize("limit", [{"max_tokens": 64}, {"max_notes": 64}])
def test_too_many_tokens_or_notes_raise_where_asked(limit):
  notes = Notes.from_columns(0.0, np.ones(99), np.arange(99), 100)
  with pytest.raises(SegmentOverflowError, match="at most .*64 .* frame 0"):
    tokenize(notes, on_overflow="raise", **limit)


def test_room_for_less_than_tie_and_end_is_refused():
  with pytest.raises(ValueError, match="at least 2 tokens"):
    tokenize(Notes.from_columns(0, 1, 60, 100), max_tokens=1)


def test_overlapping_segments_are_those_that_start_there():
  rng = np.random.default_rng(0)
  onset = rng.uniform(0, 12, 60)
  notes = Notes.from_columns(
    onset,
    onset + rng.uniform(0.1, 4, 60),
    rng.integers(40, 80, 60),
    80,
    rng.choice([0, 40], 60),
  )
  kinds = dict(segment_frames=100, num_segments=7, song_frames=850)
  overlapping = tokenize(notes, hop_frames=75, **kinds)
  for index, tokens in enumerate(overlapping):
    kinds["num_segments"] = 1
    [alone] = tokenize(notes, first_frame=75 * index, **kinds)
    assert tokens == alone


@pytest.mark.parametrize("end_s", [1.7, 1.78, 1.86, 1.94, 2.0, 2.3])
def test_a_segment_beyond_the_end_has_what_happens_where_it_overlaps(end_s):
  notes = Notes.from_columns([0.5, 1.6], [end_s, 1.65], [60, 64], 80)
  kinds = dict(segment_frames=100, hop_frames=75)
  [_, tail] = tokenize(notes, num_segments=2, **kinds)
  assert tail == tokenize(notes, song_frames=175, **kinds)[1]
  assert tail.count(3 + 1001 + 60) == 2  # It is held, and let go of.


def test_a_song_has_as_many_overlapping_segments_as_cover_it():
  for num_frames in (0, 1, 99, 100, 101, 175, 176, 1000):
    count = num_covering(num_frames, segment_frames=100, hop_frames=75)
    assert 75 * (count - 1) + 100 >= num_frames
    assert count == 1 or 75 * (count - 2) + 100 < num_frames


def test_what_comes_after_the_end_goes_into_the_last_overlapping_segment():
  notes = Notes.from_columns([0.0, 5.0], [0.5, 5.5], [60, 62], 80)
  last = tokenize(notes, segment_frames=100, hop_frames=75, song_frames=170)
  assert len(last) == 2
  assert any(3 + 1001 + 62 == token for token in last[1])


@pytest.mark.parametrize("hop_frames", [0, -1, 257])
def test_a_hop_beyond_the_segment_is_an_error(hop_frames):
  with pytest.raises(
    ValueError, match=f"hop_frames from 1 to 256, got {hop_frames}"
  ):
    tokenize(Notes.from_columns(0, 1, 60, 80), hop_frames=hop_frames)
