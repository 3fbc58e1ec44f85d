"""Standard MIDI Files: reads what can be read of one, and writes notes."""

import collections
from collections.abc import Iterator, Sequence
import dataclasses
import os
import struct
import warnings

from jaxtyping import Float64, Int64
import mido
import numpy as np

from music_spectrogram_diffusion.notes import cleaning
from music_spectrogram_diffusion.notes.notes import MAX_DURATION_S, Notes

MIDI_SUFFIXES = (".mid", ".midi", ".kar", ".rmi")
MAX_FILE_BYTES = 8 * 2**20

_DRUM_CHANNEL = 9
_NUM_CHANNELS = 16
_NOTE_OFF = 0x80
_NOTE_ON = 0x90
_CONTROL = 0xB0
_PROGRAM = 0xC0
_CHANNEL_PRESSURE = 0xD0
_SYSEX = (0xF0, 0xF7)
_META = 0xFF
_META_PORT = 0x21
_META_END_OF_TRACK = 0x2F
_META_TEMPO = 0x51
# Bytes after the system messages that have no place in a file but occur.
_SYSTEM_BYTES = {0xF1: 1, 0xF2: 2, 0xF3: 1}
_DEFAULT_TEMPO = 500_000  # Microseconds per quarter note.
_SMPTE_RATES = {24: 24.0, 25: 25.0, 29: 30000 / 1001, 30: 30.0}
_MAX_PROBLEMS = 3  # Told of one file.


class MidiError(ValueError):
  """A MIDI file that cannot be used; the message is one line with its name."""


class _BrokenTrackError(Exception):
  """The rest of a track cannot be read."""


@dataclasses.dataclass
class _Track:
  """What counts of a track, and where its reader stands.

  Attributes:
    events: (tick, channel, kind, first, second data byte) of each message of
      a channel. Channels number on over the ports: 16 * port + channel.
    tempos: (tick, microseconds per quarter note) of each tempo.
    port: Port of what comes next.
    end: Tick reached so far.
    problem: What is wrong with the track, if anything.
  """

  events: list[tuple[int, int, int, int, int]] = dataclasses.field(
    default_factory=list
  )
  tempos: list[tuple[int, int]] = dataclasses.field(default_factory=list)
  port: int = 0
  end: int = 0
  problem: str = ""


def read_midi(path: str | os.PathLike) -> Notes:
  """Reads the notes of a MIDI file; see `parse_midi`."""
  try:
    with open(path, "rb") as file:
      data = file.read(MAX_FILE_BYTES + 1)
  except OSError as error:
    raise MidiError(f"{path}: cannot be read: {error.strerror}.") from error
  return parse_midi(data, str(path))


def parse_midi(data: bytes, name: str) -> Notes:
  """Reads the notes of a MIDI file of type 0 or 1, also in a RIFF wrapper.

  Channel 10 of each port plays drums. Programs and pedals belong to channels,
  whatever track they stand in. Notes held by the sustain pedal are lengthened
  to its release, notes never ended last to the end of their track, those of
  no length get 10 ms, and each is cut where its pitch is struck again. Of
  damaged tracks, what stands before the damage is used, with one warning.

  Args:
    data: Content of the file.
    name: What messages call the file.

  Returns:
    The notes in order of onset; none, and a warning, for an intact file
    without notes.

  Raises:
    MidiError: The file is not MIDI, or of a kind or length that cannot be
      used, or nothing could be read of it.
  """
  try:
    notes, problems = _parse(data)
  except ValueError as error:
    raise MidiError(f"{name}: {error}") from error
  if not len(notes) and problems:
    raise MidiError(f"{name}: no notes could be read: {_join(problems)}.")
  if not len(notes):
    warnings.warn(f"{name}: the file has no notes.", stacklevel=2)
  elif problems:
    warnings.warn(f"{name}: {_join(problems)}; the rest is used.", stacklevel=2)
  return notes


def _join(problems: Sequence[str]) -> str:
  told = list(problems[:_MAX_PROBLEMS])
  if len(problems) > len(told):
    told.append(f"and {len(problems) - len(told)} more problems")
  return "; ".join(told)


def _parse(data: bytes) -> tuple[Notes, list[str]]:
  """The notes of a file, and what was wrong with it."""
  if not data:
    raise ValueError("the file is empty; expected a MIDI file.")
  if len(data) > MAX_FILE_BYTES:
    raise ValueError(
      f"the file has more than {MAX_FILE_BYTES} bytes, the most that a MIDI"
      " file may have."
    )
  data = _unwrap_riff(data)
  num_tracks, division, position = _parse_header(data)
  tracks = []
  problems = []
  for chunk, missing in _track_chunks(data, position):
    track = _parse_track(chunk)
    tracks.append(track)
    if missing:
      track.problem = f"is cut off, {missing} bytes are missing"
    if track.problem:
      problems.append(f"track {len(tracks)} {track.problem}")
  if len(tracks) < num_tracks:
    problems.append(f"{len(tracks)} of {num_tracks} tracks are there")
  tempos = [tempo for track in tracks for tempo in track.tempos]
  return _play(tracks, _Clock.from_division(division, tempos)), problems


def _unwrap_riff(data: bytes) -> bytes:
  """The MIDI file in a RIFF file of form RMID; other data as they are."""
  if data[:4] != b"RIFF" or data[8:12] != b"RMID":
    return data
  position = 12
  while position + 8 <= len(data):
    kind, length = struct.unpack_from("<4sI", data, position)
    position += 8
    if kind == b"data":
      return data[position : position + length]
    position += length + length % 2  # Chunks are padded to even lengths.
  raise ValueError("the RIFF file has no data chunk; expected one with MIDI.")


def _parse_header(data: bytes) -> tuple[int, int, int]:
  """Number of tracks, division and the position after the header."""
  if data[:4] != b"MThd":
    raise ValueError(
      f"this is not a MIDI file: it begins with {data[:4]!r}, expected b'MThd'."
    )
  if len(data) < 14:
    raise ValueError(f"the header has {len(data)} bytes, expected 14.")
  length, kind, num_tracks, division = struct.unpack_from(">IHHh", data, 4)
  if length < 6:
    raise ValueError(f"the header's length is {length}, expected 6.")
  if kind == 2:
    raise ValueError(
      "this is a MIDI file of type 2 (patterns without a common time);"
      " save it as type 0 or 1."
    )
  if kind > 2:
    raise ValueError(f"the MIDI file's type is {kind}, expected 0 or 1.")
  return num_tracks, division, 8 + length


def _track_chunks(data: bytes, position: int) -> Iterator[tuple[bytes, int]]:
  """The data of each track, and how many bytes of it are missing."""
  while position + 8 <= len(data):
    kind, length = struct.unpack_from(">4sI", data, position)
    position += 8
    if kind == b"MTrk":
      chunk = data[position : position + length]
      yield chunk, length - len(chunk)
    position += length


def _parse_track(data: bytes) -> _Track:
  """Reads a track up to its end, or to what cannot be read."""
  track = _Track()
  try:
    _parse_events(data, track)
  except IndexError:
    track.problem = "ends within an event"
  except _BrokenTrackError as error:
    track.problem = str(error)
  return track


def _parse_events(data: bytes, track: _Track):
  """Appends what `data` says to `track`; raises where it breaks."""
  position = running = 0
  while position < len(data):
    delta, position = _variable_length(data, position)
    track.end += delta
    status = running
    if data[position] >= 0x80:
      status = data[position]
      position += 1
    if status == _META:
      kind = data[position]
      length, position = _variable_length(data, position + 1)
      if kind == _META_END_OF_TRACK:
        return
      _apply_meta(track, kind, data[position : position + length])
      position += length
    elif status in _SYSEX:
      length, position = _variable_length(data, position)
      position += length
    elif status > 0xF0:
      position += _SYSTEM_BYTES.get(status, 0)
    elif status:
      running = status  # Lenient: goes on after what is not of a channel.
      kind = status & 0xF0
      first = data[position]
      position += 1
      second = 0
      if kind not in (_PROGRAM, _CHANNEL_PRESSURE):
        second = data[position]
        position += 1
      if first > 127 or second > 127:
        track.problem = "has data bytes over 127"
      if first <= 127:
        channel = _NUM_CHANNELS * track.port + status % _NUM_CHANNELS
        event = (track.end, channel, kind, first, min(second, 127))
        track.events.append(event)
    else:
      raise _BrokenTrackError(f"has data before any status at byte {position}")
  if position > len(data):
    raise IndexError


def _apply_meta(track: _Track, kind: int, body: bytes):
  """Takes a port or a tempo; what is broken, or of another kind, is nothing."""
  if kind == _META_PORT and len(body) == 1:
    track.port = body[0]
  elif kind == _META_TEMPO and len(body) == 3:
    tempo = int.from_bytes(body, "big")
    if tempo:
      track.tempos.append((track.end, tempo))
    else:
      track.problem = "has a tempo of 0"


def _variable_length(data: bytes, position: int) -> tuple[int, int]:
  """A number of one to four bytes, seven bits each, and what follows it."""
  value = 0
  for here in range(position, position + 4):
    byte = data[here]
    value = value << 7 | byte & 0x7F
    if byte < 0x80:
      return value, here + 1
  raise _BrokenTrackError(f"has a number of over four bytes at byte {position}")


@dataclasses.dataclass(frozen=True)
class _Clock:
  """Turns ticks into seconds.

  Attributes:
    tick: Where each tempo begins, ascending, the first at 0.
    start_s: The same in seconds.
    tick_s: Seconds per tick from there on.
  """

  tick: Int64[np.ndarray, " tempos"]
  start_s: Float64[np.ndarray, " tempos"]
  tick_s: Float64[np.ndarray, " tempos"]

  @classmethod
  def from_division(
    cls, division: int, tempos: Sequence[tuple[int, int]]
  ) -> "_Clock":
    """Makes the clock of a file.

    Args:
      division: Of the header; positive: ticks per quarter note, negative: the
        high byte is minus the frames per second, the low one ticks per frame.
      tempos: Tick and microseconds per quarter note of each tempo.
    """
    if division == 0:
      raise ValueError(
        "the header gives 0 ticks to a quarter note, expected at least 1."
      )
    if division < 0:
      frame_rate, frame_ticks = -(division >> 8), division & 0xFF
      if frame_rate not in _SMPTE_RATES or not frame_ticks:
        raise ValueError(
          f"the header gives {frame_rate} frames a second of {frame_ticks}"
          " ticks, expected 24, 25, 29 or 30 of at least 1."
        )
      tick_s = 1 / (_SMPTE_RATES[frame_rate] * frame_ticks)
      return cls(np.array([0]), np.array([0.0]), np.array([tick_s]))
    tempos = [(0, _DEFAULT_TEMPO), *sorted(tempos, key=lambda tempo: tempo[0])]
    tick, tempo = np.array(tempos, np.int64).T
    tick_s = tempo / (1e6 * division)
    start_s = np.cumsum(np.diff(tick) * tick_s[:-1])
    return cls(tick, np.concatenate([[0.0], start_s]), tick_s)

  def seconds(self, tick: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """The time of each tick; of tempos at one tick, the last counts."""
    index = np.searchsorted(self.tick, tick, "right") - 1
    since = tick - self.tick[index]
    return self.start_s[index] + since * self.tick_s[index]


def _play(tracks: Sequence[_Track], clock: _Clock) -> Notes:
  """Plays the tracks together and returns the notes that sound."""
  program = collections.defaultdict(int)  # Of each channel.
  struck = collections.defaultdict(collections.deque)
  rows = []  # (onset, channel, pitch, velocity, program) of each note
  offset = []
  pedals = []  # (tick, channel, is it down) of each movement
  events = [
    (event, number)
    for number, track in enumerate(tracks)
    for event in track.events
  ]
  events.sort(key=lambda pair: pair[0][0])
  for (tick, channel, kind, first, second), number in events:
    if kind == _PROGRAM:
      program[channel] = first
    elif kind == _CONTROL and first == cleaning.SUSTAIN_CONTROL:
      pedals.append((tick, channel, second >= cleaning.PEDAL_DOWN))
    elif kind == _NOTE_ON and second:
      struck[number, channel, first].append(len(rows))
      rows.append((tick, channel, first, second, program[channel]))
      offset.append(tracks[number].end)
    elif kind in (_NOTE_ON, _NOTE_OFF) and struck[number, channel, first]:
      # The note struck first is the one that ends.
      offset[struck[number, channel, first].popleft()] = tick

  onset, channel, pitch, velocity, played = (
    np.array(rows, np.int64).reshape(-1, 5).T
  )
  is_drum = channel % _NUM_CHANNELS == _DRUM_CHANNEL
  offset_s = clock.seconds(np.array(offset, np.int64))
  if len(rows) and offset_s.max() > MAX_DURATION_S:
    raise ValueError(
      f"the notes last {offset_s.max() / 3600:.0f} hours, expected at most"
      f" {MAX_DURATION_S / 3600:.0f}."
    )
  notes = Notes.from_columns(
    onset=clock.seconds(onset),
    offset=offset_s,
    pitch=pitch,
    velocity=velocity,
    program=np.where(is_drum, 0, played),
    is_drum=is_drum,
  )
  pedal_tick, pedal_channel, pedal_down = (
    np.array(pedals, np.int64).reshape(-1, 3).T
  )
  end = max((track.end for track in tracks), default=0)
  notes = cleaning.apply_sustain(
    notes,
    channel,
    pedal_s=clock.seconds(pedal_tick),
    pedal_channel=pedal_channel,
    pedal_down=pedal_down.astype(np.bool_),
    end_s=float(clock.seconds(np.array([end]))[0]),
  )
  return cleaning.trim_overlaps(cleaning.lengthen_empty(notes))


def write_midi(notes: Notes, path: str | os.PathLike):
  """Writes a MIDI file of type 1, a track for each program and the drums.

  Times are rounded to 0.1 ms, and no note is shorter. Every 15 programs share
  a port, whose channel 10 is left to the drums.
  """
  file = mido.MidiFile(type=1, ticks_per_beat=5000)  # 10 ticks a ms at 120 bpm
  file.add_track().append(mido.MetaMessage("set_tempo", tempo=_DEFAULT_TEMPO))
  if notes.is_drum.any():
    file.tracks.append(_track_of(notes[notes.is_drum], 0, _DRUM_CHANNEL))
  pitched = notes[~notes.is_drum]
  for index, program in enumerate(np.unique(pitched.program)):
    port, channel = divmod(index, _NUM_CHANNELS - 1)
    channel += channel >= _DRUM_CHANNEL
    rows = pitched[pitched.program == program]
    file.tracks.append(_track_of(rows, port, channel))
  with open(path, "wb") as stream:
    file.save(file=stream)


def _track_of(notes: Notes, port: int, channel: int) -> mido.MidiTrack:
  """A track that plays `notes`, all of one program."""
  ticks_per_s = 10_000
  onset = np.rint(notes.onset * ticks_per_s).astype(np.int64)
  offset = np.rint(notes.offset * ticks_per_s).astype(np.int64)
  offset = np.maximum(offset, onset + 1)
  # Of what happens at one tick, notes end first.
  tick = np.concatenate([offset, onset])
  order = np.argsort(tick, kind="stable")
  pitch = np.tile(notes.pitch, 2)[order].tolist()
  velocity = np.concatenate([0 * notes.velocity, notes.velocity])
  velocity = velocity[order].tolist()
  delta = np.diff(tick[order], prepend=0).tolist()
  track = mido.MidiTrack()
  track.append(mido.MetaMessage("midi_port", port=port))
  program = int(notes.program[0])
  track.append(mido.Message("program_change", channel=channel, program=program))
  track.extend(
    mido.Message("note_on", channel=channel, note=n, velocity=v, time=d)
    for n, v, d in zip(pitch, velocity, delta, strict=True)
  )
  return track
