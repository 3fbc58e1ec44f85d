import types

import numpy as np
import pytest

from music_spectrogram_diffusion.notes import from_note_sequence


class StandIn(types.SimpleNamespace):
  """Has the parts of a NoteSequence proto that count here."""

  def __init__(self):
    super().__init__(notes=[], control_changes=[], total_time=0.0)


def proto():
  music_pb2 = pytest.importorskip("note_seq.protobuf.music_pb2")
  return music_pb2.NoteSequence()


def add(rows, **values):
  if isinstance(rows, list):
    rows.append(types.SimpleNamespace(**values))
  else:
    rows.add(**values)


def note(start, end, pitch=60, program=0, is_drum=False, instrument=0):
  return {
    "start_time": start,
    "end_time": end,
    "pitch": pitch,
    "velocity": 80,
    "program": program,
    "is_drum": is_drum,
    "instrument": instrument,
  }


def pedal(time, value, instrument=0):
  return {
    "time": time,
    "control_number": 64,
    "control_value": value,
    "instrument": instrument,
  }


@pytest.fixture(params=[StandIn, proto])
def sequence(request):
  return request.param()


def test_notes_come_over_column_by_column(sequence):
  add(sequence.notes, **note(0.5, 1.0, pitch=62, program=40))
  add(sequence.notes, **note(1.0, 2.0, 38, program=5, is_drum=True))
  sequence.total_time = 2.0
  notes = from_note_sequence(sequence)
  assert notes.onset.tolist() == [0.5, 1.0]
  assert notes.offset.tolist() == [1.0, 2.0]
  assert notes.pitch.tolist() == [62, 38]
  assert notes.velocity.tolist() == [80, 80]
  assert notes.program.tolist() == [40, 0]
  assert notes.is_drum.tolist() == [False, True]


def test_the_pedal_of_an_instrument_holds_its_notes(sequence):
  add(sequence.notes, **note(0.0, 1.0, instrument=0))
  add(sequence.notes, **note(0.0, 1.0, program=1, instrument=1))
  add(sequence.control_changes, **pedal(0.5, 64))
  add(sequence.control_changes, **pedal(3.0, 63))
  sequence.total_time = 3.0
  assert from_note_sequence(sequence).offset.tolist() == [3.0, 1.0]


def test_a_pedal_never_released_holds_to_the_total_time(sequence):
  add(sequence.notes, **note(0.0, 1.0))
  add(sequence.control_changes, **pedal(0.5, 127))
  sequence.total_time = 4.0
  assert from_note_sequence(sequence).offset.tolist() == [4.0]


def test_empty_notes_and_overlaps_are_cleaned(sequence):
  add(sequence.notes, **note(0.0, 2.0))
  add(sequence.notes, **note(1.0, 1.0))
  assert from_note_sequence(sequence).offset.tolist() == [1.0, 1.01]


def test_an_empty_sequence_has_no_notes(sequence):
  assert len(from_note_sequence(sequence)) == 0


@pytest.mark.parametrize("seed", range(9))
def test_the_pedal_does_what_it_does_in_note_seq(seed):
  sequences_lib = pytest.importorskip("note_seq.sequences_lib")
  rng = np.random.default_rng(seed)
  sequence = proto()
  # A grid of quarter seconds, so that pedals and notes often move together.
  for _ in range(200):
    start = rng.integers(0, 200)
    times = start / 4, (start + rng.integers(1, 8)) / 4
    instrument = int(rng.integers(3))
    pitch = int(rng.integers(60, 66))
    rows = note(*times, pitch, instrument, instrument == 2, instrument)
    add(sequence.notes, **rows)
  for time in np.sort(rng.choice(200, 60, replace=False)) / 4:
    value, instrument = rng.choice([0, 127]), rng.integers(3)
    add(sequence.control_changes, **pedal(time, int(value), int(instrument)))
  for instrument in range(3):
    add(sequence.control_changes, **pedal(55.0, 0, instrument))
  sequence.total_time = 55.0
  expected = sequences_lib.apply_sustain_control_changes(sequence)
  del expected.control_changes[:]

  def rows_of(notes):
    columns = notes.onset, notes.offset, notes.pitch, notes.program
    return sorted(zip(*(c.tolist() for c in columns), strict=True))

  assert rows_of(from_note_sequence(sequence)) == rows_of(
    from_note_sequence(expected)
  )
