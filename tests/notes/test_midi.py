import struct
import time
import tracemalloc
import warnings

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from music_spectrogram_diffusion.notes import (
  MidiError,
  Notes,
  Vocabulary,
  parse_midi,
  read_midi,
  tokenize_segments,
  write_midi,
)

END = b"\xff\x2f\x00"


def length(value):
  """A number as MIDI writes it, seven bits a byte."""
  digits = [value & 0x7F]
  while value := value >> 7:
    digits.append(value & 0x7F | 0x80)
  return bytes(reversed(digits))


def at(delta, *data):
  return length(delta) + bytes(data)


def on(delta, pitch, velocity=100, channel=0):
  return at(delta, 0x90 + channel, pitch, velocity)


def off(delta, pitch, channel=0):
  return at(delta, 0x80 + channel, pitch, 64)


def pedal(delta, value, channel=0):
  return at(delta, 0xB0 + channel, 64, value)


def program(delta, number, channel=0):
  return at(delta, 0xC0 + channel, number)


def tempo(delta, microseconds):
  return at(delta, 0xFF, 0x51, 3) + microseconds.to_bytes(3, "big")


def track(*events, end=0):
  data = b"".join(events) + length(end) + END
  return b"MTrk" + struct.pack(">I", len(data)) + data


def midi(*tracks, kind=1, division=500):
  """A file; at the default tempo and division a tick is 1 ms."""
  header = struct.pack(">IHHh", 6, kind, len(tracks), division)
  return b"MThd" + header + b"".join(tracks)


SONG = midi(
  track(tempo(0, 400_000), tempo(900, 600_000)),
  track(program(0, 40), on(0, 60), pedal(100, 127), off(100, 60), on(50, 62))
  + track(on(5, 36, channel=9), at(0, 38, 90), at(100, 36, 0), at(0, 38, 0)),
  track(program(0, 5, 3), on(300, 70, channel=3), off(999, 70, channel=3)),
)


def parse(data):
  """Notes of a file that nothing is wrong with."""
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    return parse_midi(data, "song.mid")


def parse_damaged(data, message):
  """Notes of a file that is warned of, in one line with its name."""
  with pytest.warns(UserWarning, match=message) as caught:
    notes = parse_midi(data, "song.mid")
  (warning,) = caught
  assert str(warning.message).startswith("song.mid: ")
  assert "\n" not in str(warning.message)
  return notes


def times(notes):
  return notes.onset.tolist(), notes.offset.tolist()


def test_a_note_has_its_times_pitch_velocity_and_program():
  notes = parse(midi(track(program(0, 40), on(500, 60, 90), off(250, 60))))
  assert times(notes) == ([0.5], [0.75])
  assert notes.pitch.tolist() == [60]
  assert notes.velocity.tolist() == [90]
  assert notes.program.tolist() == [40]
  assert not notes.is_drum[0]


def test_velocity_0_and_running_status_end_a_note():
  notes = parse(midi(track(on(0, 60), at(500, 60, 0)), kind=0))
  assert times(notes) == ([0.0], [0.5])


def test_running_status_goes_on_after_meta_events():
  text = at(0, 0xFF, 0x01, 2) + b"hi"
  notes = parse(midi(track(on(0, 60), text, at(500, 60, 0))))
  assert times(notes) == ([0.0], [0.5])


def test_channel_10_is_drums_without_program():
  drums = track(program(0, 30, 9), on(0, 36, channel=9), off(9, 36, channel=9))
  notes = parse(midi(drums))
  assert notes.is_drum.tolist() == [True]
  assert notes.program.tolist() == [0]


def test_programs_belong_to_channels_across_tracks():
  programs = track(program(0, 40, 0), program(0, 41, 1), program(500, 42, 0))
  first = track(on(0, 60), off(400, 60), on(200, 60), off(100, 60))
  second = track(on(0, 60, channel=1), off(999, 60, channel=1))
  notes = parse(midi(programs, first, second))
  assert notes.program.tolist() == [40, 41, 42]


def test_ports_have_channels_of_their_own():
  def part(port, number):
    return track(
      at(0, 0xFF, 0x21, 1, port), program(0, number), on(0, 60), off(99, 60)
    )

  notes = parse(midi(*(part(port, 2 * port) for port in range(20))))
  assert notes.program.tolist() == list(range(0, 40, 2))


def test_tempo_changes_count_for_all_tracks():
  tempos = track(tempo(0, 1_000_000), tempo(500, 250_000))
  notes = parse(midi(tempos, track(on(250, 60), off(750, 60))))
  assert times(notes) == ([0.5], [1.25])


@pytest.mark.parametrize(
  "rate, ticks, tick_s",
  [
    (24, 4, 1 / 96),
    (25, 40, 1e-3),
    (29, 100, 1.001 / 3000),
    (30, 80, 1 / 2400),
  ],
)
def test_smpte_divisions_are_converted_and_ignore_the_tempo(
  rate, ticks, tick_s
):
  (division,) = struct.unpack(">h", struct.pack(">bB", -rate, ticks))
  song = midi(track(tempo(0, 9), on(0, 60), off(960, 60)), division=division)
  np.testing.assert_allclose(parse(song).offset, [960 * tick_s])


def test_the_pedal_holds_notes_but_not_drums():
  notes = parse(
    midi(
      track(
        pedal(0, 64, 0) + pedal(0, 64, 9) + on(0, 60) + on(0, 36, channel=9),
        off(100, 60) + off(0, 36, channel=9) + pedal(400, 63, 0),
      )
    )
  )
  assert notes.offset.tolist() == [0.5, 0.1]


def test_equal_notes_end_in_the_order_they_were_struck():
  events = on(0, 60), on(1000, 60), off(10, 60), off(990, 60)
  assert times(parse(midi(track(*events)))) == ([0.0, 1.0], [1.0, 2.0])


def test_a_note_of_no_length_gets_10_ms():
  assert parse(midi(track(on(0, 60), off(0, 60)))).offset.tolist() == [0.01]


def test_stuck_notes_end_with_their_track():
  long = track(on(0, 62), off(5000, 62))
  notes = parse(midi(track(on(0, 60), end=2000), long))
  assert notes.offset.tolist() == [2.0, 5.0]


def test_an_end_without_a_note_is_passed_over():
  notes = parse(midi(track(off(0, 60), on(100, 60), off(100, 60), off(0, 60))))
  assert times(notes) == ([0.1], [0.2])


def test_hours_of_silence_are_kept():
  hours = 6 * 3600 * 1000
  notes = parse(midi(track(on(0, 60), off(9, 60), on(hours, 60), off(9, 60))))
  assert notes.duration_s == pytest.approx(6 * 3600, abs=1)


def test_riff_files_are_unwrapped():
  data = midi(track(on(0, 60), off(500, 60)))
  chunks = b"RMIDINFO" + struct.pack("<I", 3) + b"abc\0"
  chunks += b"data" + struct.pack("<I", len(data)) + data
  riff = b"RIFF" + struct.pack("<I", len(chunks)) + chunks
  assert times(parse(riff)) == ([0.0], [0.5])


def test_unknown_chunks_sysex_and_system_messages_are_passed_over():
  sysex = at(0, 0xF0, 3, 1, 2, 0xF7)
  system = at(0, 0xF2, 1, 1) + at(0, 0xF8)
  song = midi(b"XFIH\0\0\0\2ab", track(sysex, system, on(0, 60), off(500, 60)))
  song = song.replace(b"\0\2\1\xf4", b"\0\1\1\xf4", 1)  # One track, not two.
  assert times(parse(song)) == ([0.0], [0.5])


def test_broken_meta_events_are_passed_over():
  metas = (
    at(0, 0xFF, 0x51, 2, 1, 1)
    + at(0, 0xFF, 0x21, 0)
    + at(0, 0xFF, 0xF9, 1, 0)
    + at(0, 0xFF, 0x58, 0)
  )
  notes = parse(midi(track(metas, on(0, 60), off(500, 60))))
  assert times(notes) == ([0.0], [0.5])


def test_a_file_without_notes_gives_none_and_a_warning():
  assert len(parse_damaged(midi(track()), "has no notes")) == 0


def test_a_truncated_track_gives_what_is_there():
  whole = midi(track(on(0, 60), off(500, 60), on(0, 62), off(500, 62)))
  notes = parse_damaged(whole[:-5], "track 1 is cut off, 5 bytes are missing")
  assert times(notes) == ([0.0, 0.5], [0.5, 1.0])


def test_tracks_that_are_missing_are_told():
  whole = midi(track(on(0, 60), off(500, 60)), track(on(0, 60), off(500, 60)))
  notes = parse_damaged(whole[:40], "1 of 2 tracks are there")
  assert times(notes) == ([0.0], [0.5])


@pytest.mark.parametrize(
  "events, message",
  [
    (at(0, 0xF0, 9), "track 1 ends within an event"),
    (at(0, 0xFF, 0x01, 100) + b"text", "track 1 ends within an event"),
    (b"\xff\xff\xff\xff\xff", "number of over four bytes at byte 9"),
    (tempo(0, 0), "tempo of 0"),
    (at(0, 0xC0, 200), "data bytes over 127"),
  ],
)
def test_what_stands_before_damage_is_used(events, message):
  song = midi(track(on(0, 60), off(500, 60), events))
  notes = parse_damaged(song, message)
  assert times(notes)[0][0] == 0.0 and times(notes)[1][0] == 0.5


def test_data_before_any_status_lose_their_track_alone():
  notes = parse_damaged(
    midi(track(at(0, 60, 100)), track(on(0, 60), off(500, 60))),
    "track 1 has data before any status at byte 1",
  )
  assert times(notes) == ([0.0], [0.5])


def test_a_velocity_over_127_is_127():
  song = midi(track(at(0, 0x90, 60, 200), off(500, 60)))
  notes = parse_damaged(song, "track 1 has data bytes over 127")
  assert notes.velocity.tolist() == [127]


def test_an_unknown_program_leaves_the_one_before():
  events = program(0, 40), program(0, 130), on(0, 60), off(500, 60)
  notes = parse_damaged(midi(track(*events)), "data bytes over 127")
  assert notes.program.tolist() == [40]


def test_many_problems_are_one_short_line():
  broken = [track(at(0, 60, 100)) for _ in range(9)]
  parse_damaged(
    midi(track(on(0, 60), off(500, 60)), *broken), "; and 6 more problems"
  )


@pytest.mark.parametrize(
  "data, message",
  [
    (b"", "the file is empty"),
    (b"hello, world", r"not a MIDI file: it begins with b'hell'"),
    (b"RIFF\4\0\0\0WAVE", "not a MIDI file"),
    (b"RIFF\4\0\0\0RMID", "no data chunk"),
    (b"MThd\0\0", "the header has 6 bytes, expected 14"),
    (midi(track()).replace(b"\6", b"\5", 1), "length is 5, expected 6"),
    (midi(track(), kind=2), "type 2 .*save it as type 0 or 1"),
    (midi(track(), kind=3), "type is 3, expected 0 or 1"),
    (midi(track(), division=0), "0 ticks to a quarter note"),
    (midi(track(), division=-256 * 31), "31 frames a second of 0 ticks"),
    (midi(track(), division=-256 * 25), "25 frames a second of 0 ticks"),
    (midi(track(at(0, 60, 99))), "no notes could be read: track 1 has data"),
    (midi(track())[:-2], "no notes could be read: track 1 is cut off"),
    (
      midi(track(on(0, 60), off(2**28 - 1, 60))),
      "last 75 hours, .* at most 24",
    ),
    (
      midi(track(tempo(0, 2**24 - 1), on(2**28 - 1, 60)), division=1),
      "hours, expected at most 24",
    ),
    (bytes(8 * 2**20 + 1), "more than 8388608 bytes"),
  ],
)
def test_what_cannot_be_used_is_one_line_with_the_name(data, message):
  with pytest.raises(MidiError, match=message) as error:
    parse_midi(data, "song.mid")
  assert str(error.value).startswith("song.mid: ")
  assert "\n" not in str(error.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
  with pytest.raises(MidiError, match="none.mid: cannot be read: No such file"):
    read_midi(tmp_path / "none.mid")
  with pytest.raises(MidiError, match="cannot be read: Is a directory"):
    read_midi(str(tmp_path))


def test_what_is_written_reads_back_the_same(tmp_path):
  programs = np.arange(40) % 35  # More than one port of them.
  onset = np.arange(40) / 8
  notes = Notes.from_columns(
    onset, onset + 0.2505, 40 + programs, 60 + programs, programs
  )
  drums = Notes.from_columns(onset, onset + 0.1, 36, 80, 0, True)
  notes = Notes.concatenate([notes, drums])
  write_midi(notes, tmp_path / "song.mid")
  back = read_midi(tmp_path / "song.mid")

  def rows(notes):
    order = np.lexsort((notes.onset, notes.is_drum))
    return notes[order]

  for name in ("pitch", "velocity", "program", "is_drum"):
    np.testing.assert_array_equal(
      getattr(rows(back), name), getattr(rows(notes), name)
    )
  np.testing.assert_allclose(rows(back).onset, rows(notes).onset, atol=5e-5)
  np.testing.assert_allclose(rows(back).offset, rows(notes).offset, atol=5e-5)


def test_repeated_notes_that_touch_read_back_the_same(tmp_path):
  notes = Notes.from_columns([0, 1, 2], [1, 2, 2.00001], 60, 100)
  write_midi(notes, tmp_path / "song.mid")
  back = read_midi(tmp_path / "song.mid")
  np.testing.assert_allclose(back.onset, [0, 1, 2])
  np.testing.assert_allclose(back.offset, [1, 2, 2.0001])


def test_a_piece_without_notes_can_be_written(tmp_path):
  write_midi(Notes.from_columns([], [], [], []), tmp_path / "song.mid")
  with pytest.warns(UserWarning, match="has no notes"):
    assert len(read_midi(tmp_path / "song.mid")) == 0


@st.composite
def mutated_songs(draw):
  data = bytearray(SONG)
  for _ in range(draw(st.integers(1, 8))):
    start = draw(st.integers(0, len(data)))
    stop = start + draw(st.integers(0, 3))
    data[start:stop] = draw(st.binary(max_size=4))
  return bytes(data)


@hypothesis.settings(max_examples=300)
@hypothesis.given(
  mutated_songs()
  | st.binary(max_size=200)
  | st.binary(max_size=200).map(lambda data: midi(b"MTrk\0\0\0\xc8" + data))
)
def test_any_bytes_give_clean_notes_or_one_clear_line(data):
  start_s = time.process_time()
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
      notes = parse_midi(data, "song.mid")
    except MidiError as error:
      assert str(error).startswith("song.mid: ") and "\n" not in str(error)
      return
  assert (notes.offset > notes.onset).all()
  segments = tokenize_segments(notes, vocabulary=Vocabulary(), num_segments=3)
  assert all(len(tokens) <= 2048 for tokens in segments)
  assert time.process_time() - start_s < 2.0


def test_small_files_that_claim_much_take_little_memory():
  # Each byte that the parser could take for a size or a count is large.
  claims = [
    SONG[:position] + b"\xff\xff\xff\x7f" + SONG[position + 4 :]
    for position in range(len(SONG))
  ]
  tracemalloc.start()  # It sees NumPy's arrays too.
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for data in claims:
      try:
        notes = parse_midi(data, "song.mid")
        tokenize_segments(notes, vocabulary=Vocabulary(), num_segments=3)
      except MidiError:
        pass
  _, peak_bytes = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak_bytes < 50e6
