"""Raw audio and notes of one song, checked and mended by the common rules."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import hashlib
from pathlib import Path
import struct
from typing import Any
import warnings

from jaxtyping import Float32
import mido
import numpy as np
import soundfile

from music_spectrogram_diffusion import audio as audio_lib
from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.data.builders import problems as rules
from music_spectrogram_diffusion.data.builders.problems import (
  Problems,
  SongError,
)
from music_spectrogram_diffusion.notes import Notes

SAMPLE_RATE = audio_lib.SpectrogramConfig().sample_rate
"""Rate of all prepared audio, in Hz."""

SILENCE = 1e-4
"""Audio that never goes beyond this (-80 dB) is silent."""

MAX_CLIPPED = 1e-3
"""Share of samples at full scale from which audio counts as clipped."""

DEFAULT_VELOCITY = 100
"""Velocity of notes whose labels have none."""

MAX_NOTES_AFTER_END = 0.02
"""Share of notes after the audio's end from which a pair does not fit."""

MAX_TAIL_S = 30.0
"""Seconds after the last note from which `long_tail` is counted."""

CHECKSUM_LISTS = {
  "SHA256SUMS": "sha256",
  "sha256sum.txt": "sha256",
  "MD5SUMS": "md5",
  "md5sum.txt": "md5",
}
"""Names of checksum lists, as of sha256sum, and their algorithm."""

NOTE_COLUMNS = tuple(field.name for field in dataclasses.fields(Notes))

_FULL_SCALE = 0.999  # 32735 of 32767: at the edge of 16 bits.
_BLOCK_SAMPLES = 1 << 16
_MP3_SLACK = 0.02  # The length of an mp3 without a header is an estimate.
_MIN_DURATION_S = 0.01  # A step of the token clock, as in `notes.read_midi`.
_INT16_SCALE = 32767
_UNKNOWN_SIZE = (0, 0xFFFFFFFF)  # Of a wav that was written as a stream.


def load_audio(
  path: str | Path, problems: Problems, name: str
) -> Float32[np.ndarray, " samples"]:
  """Reads a song's audio: mono, at `SAMPLE_RATE`, within [-1, 1].

  Channels are averaged. Audio whose mean peaks above full scale, as resampled
  audio may, is scaled down to it as a whole.

  Args:
    path: Any file that libsndfile decodes.
    problems: Counts what was mended.
    name: The song, for the counts.

  Raises:
    SongError: The file is missing, cut off, unreadable, of no length, silent,
      or holds values that are not finite.
  """
  decoded = _decode(Path(path))
  samples, rate = decoded.samples, decoded.sample_rate
  if not len(samples):
    raise SongError(rules.EMPTY_AUDIO, f"{path} has no samples")
  if not np.isfinite(decoded.peak):
    raise SongError(rules.NOT_FINITE, f"{path} holds NaN or infinity")
  if decoded.peak < SILENCE:
    raise SongError(rules.SILENT, f"{path} peaks at {decoded.peak:g}")
  problems.add(rules.MIXED_DOWN, name, decoded.num_channels > 1)
  if decoded.num_clipped > MAX_CLIPPED * len(samples):
    problems.add(rules.CLIPPED, name)
  if rate != SAMPLE_RATE:
    rule = rules.RESAMPLED if rate > SAMPLE_RATE else rules.UPSAMPLED
    problems.add(rule, name)
    samples = audio_lib.resample(samples, rate, SAMPLE_RATE)
    if not len(samples):
      raise SongError(rules.EMPTY_AUDIO, f"{path} is shorter than a sample")
  return limit_peak(samples, problems, name)


def limit_peak(
  samples: Float32[np.ndarray, " samples"], problems: Problems, name: str
) -> Float32[np.ndarray, " samples"]:
  """Scales audio down to a peak of 1 if it goes beyond, and counts that.

  For sums of stems, too: a wave that is scaled keeps its shape, a clipped one
  does not.
  """
  peak = max(samples.max(initial=0.0), -samples.min(initial=0.0))
  if peak <= 1.0:
    return samples
  problems.add(rules.SCALED_DOWN, name)
  return samples * np.float32(1.0 / peak)


def load_midi(path: str | Path, problems: Problems, name: str) -> Notes:
  """Reads a MIDI file's notes, sustain applied, counting what is wrong.

  Raises:
    SongError: The file is missing or no notes can be read of it.
  """
  path = Path(path)
  if not path.is_file():
    raise SongError(rules.MISSING_FILE, f"{path} is missing")
  try:
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter("always", UserWarning)
      notes = notes_lib.read_midi(path)
  except notes_lib.MidiError as error:
    raise SongError(rules.UNREADABLE_NOTES, str(error)) from error
  problems.add(rules.DAMAGED_NOTES, name, bool(caught) and len(notes) > 0)
  problems.add(rules.PITCH_BENDS, name, _has_pitch_bends(path))
  return notes


def make_notes(
  onset,
  offset,
  pitch,
  velocity,
  program=0,
  is_drum=False,
  *,
  problems: Problems,
  name: str,
) -> Notes:
  """Builds notes from columns as labels have them, by the rules.

  Rows with a time that is not finite or negative, an end before the start, or
  a pitch, velocity or program out of range are dropped. Notes of no length get
  10 ms.

  Args:
    onset: Seconds, or several array-likes of equal lengths as for
      `Notes.from_columns`; scalars stand for whole columns.
    offset: Seconds.
    pitch: MIDI pitch; not rounded here.
    velocity: 1 to 127.
    program: From 0.
    is_drum: Whether drums play.
    problems: Counts what was dropped and mended.
    name: The song, for the counts.
  """
  columns = np.broadcast_arrays(
    np.atleast_1d(np.asarray(onset, np.float64)),
    *(
      np.asarray(column, np.float64)
      for column in (offset, pitch, velocity, program)
    ),
    np.asarray(is_drum, np.bool_),
  )
  onset, offset, pitch, velocity, program, is_drum = columns
  valid = np.isfinite(onset) & np.isfinite(offset)
  valid &= (onset >= 0) & (offset >= onset)
  valid &= (pitch >= 0) & (pitch <= 127)
  valid &= (velocity >= 1) & (velocity <= 127)
  valid &= (program >= 0) & (program <= 127)
  problems.add(rules.INVALID_NOTE, name, np.count_nonzero(~valid))
  onset, offset, pitch, velocity, program, is_drum = (
    column[valid] for column in columns
  )
  empty = offset == onset
  problems.add(rules.EMPTY_NOTE, name, np.count_nonzero(empty))
  offset = np.where(empty, onset + _MIN_DURATION_S, offset)
  return Notes.from_columns(onset, offset, pitch, velocity, program, is_drum)


def clean_notes(
  notes: Notes, duration_s: float, problems: Problems, name: str
) -> Notes:
  """Makes notes what tokens can say and the audio can hold.

  Programs become the first ones of their Slakh classes. Notes that begin
  after the audio's end are dropped, those that last beyond it cut there, and
  overlaps of one program and pitch cut. Drums keep their offsets.

  Args:
    notes: All notes of the song, in any order.
    duration_s: Length of its audio.
    problems: Counts what was dropped and mended.
    name: The song, for the counts.

  Returns:
    The notes in order of onset; at equal onsets by drum, program and pitch.

  Raises:
    SongError: There are none, or more than `MAX_NOTES_AFTER_END` of them begin
      after the audio's end.
  """
  if not len(notes):
    raise SongError(rules.NO_NOTES, f"{name} has no notes")
  after = notes.onset >= duration_s
  if np.mean(after) > MAX_NOTES_AFTER_END:
    raise SongError(
      rules.LENGTHS_DIFFER,
      f"{name}: {np.count_nonzero(after)} of {len(notes)} notes begin after"
      f" the end of the audio at {duration_s:.1f} s",
    )
  problems.add(rules.NOTE_AFTER_END, name, np.count_nonzero(after))
  notes = notes[~after]
  over = np.count_nonzero(notes.offset > duration_s)
  problems.add(rules.NOTE_OVER_END, name, over)
  offset = np.minimum(notes.offset, duration_s)
  notes = dataclasses.replace(notes, offset=offset)
  problems.add(rules.OVERLAP, name, _num_overlaps(notes))
  notes = notes_lib.to_slakh_classes(notes)  # Cuts overlaps, too.
  order = np.lexsort((notes.pitch, notes.program, notes.is_drum, notes.onset))
  return notes[order]


def check_tail(
  notes: Notes, duration_s: float, problems: Problems, name: str
) -> None:
  """Counts a whole song whose notes end long before its audio does."""
  tail_s = duration_s - notes.duration_s
  if tail_s > MAX_TAIL_S:
    problems.add(rules.LONG_TAIL, f"{name}: {tail_s:.0f} s")


def make_example(
  id: str, audio: Float32[np.ndarray, " samples"], notes: Notes, **extra: Any
) -> dict[str, Any]:
  """An example of a prepared dataset, as `base.FEATURES` describes it.

  Args:
    id: Unique in the dataset.
    audio: Mono at `SAMPLE_RATE`, in [-1, 1]; becomes 16 bits.
    notes: Cleaned notes.
    extra: Values of a builder's own features.
  """
  samples = np.rint(audio * _INT16_SCALE).astype(np.int16)
  columns = {
    name: np.ascontiguousarray(getattr(notes, name)) for name in NOTE_COLUMNS
  }
  return {"id": id, "audio": samples, "notes": columns, **extra}


def notes_from_example(example: Mapping[str, Any]) -> Notes:
  """The notes of an example, of NumPy arrays or of eager tensors."""
  columns = example["notes"]
  return Notes.from_columns(*(np.asarray(columns[n]) for n in NOTE_COLUMNS))


def audio_from_example(
  example: Mapping[str, Any],
) -> Float32[np.ndarray, " samples"]:
  """The audio of an example in [-1, 1]."""
  return np.asarray(example["audio"]) / np.float32(_INT16_SCALE)


def check_files(
  files: tuple[Path, ...], checksums: Mapping[Path, tuple[str, str]]
) -> None:
  """Checks that files are there, whole, and what the list of checksums says.

  Args:
    files: Paths of one song.
    checksums: Algorithm and hexadecimal digest by path, where known.

  Raises:
    SongError: One is missing, cut off, or another than expected.
  """
  for path in files:
    if not path.is_file():
      raise SongError(rules.MISSING_FILE, f"{path} is missing")
    if path.suffix.lower() == ".wav":
      _check_wav_length(path)
    if path in checksums:
      algorithm, expected = checksums[path]
      with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
      if found != expected:
        raise SongError(
          rules.CHECKSUM,
          f"{path} has the {algorithm} {found}, expected {expected}",
        )


def read_checksums(directory: Path) -> dict[Path, tuple[str, str]]:
  """Algorithm and digest by path, of the checksum lists in a directory.

  Lists are those of `CHECKSUM_LISTS`, with lines as sha256sum writes them and
  paths relative to the directory.
  """
  checksums = {}
  for name, algorithm in CHECKSUM_LISTS.items():
    path = directory / name
    if not path.is_file():
      continue
    for line in path.read_text(encoding="utf-8").splitlines():
      digest, _, file = line.partition(" ")
      if file:
        file = file.removeprefix(" ").removeprefix("*")
        checksums[directory / file] = algorithm, digest.lower()
  return checksums


@dataclasses.dataclass(frozen=True)
class _Decoded:
  """The mean of a file's channels, and what was seen of it on the way."""

  samples: Float32[np.ndarray, " samples"]
  sample_rate: int
  num_channels: int
  peak: float
  num_clipped: int


def _decode(path: Path) -> _Decoded:
  if not path.is_file():
    raise SongError(rules.MISSING_FILE, f"{path} is missing")
  if not path.stat().st_size:
    raise SongError(rules.EMPTY_AUDIO, f"{path} has no bytes")
  position = num_clipped = 0
  peak = np.float32(0.0)
  try:
    with soundfile.SoundFile(path) as file:
      samples = np.empty(file.frames, np.float32)
      while len(
        block := file.read(_BLOCK_SAMPLES, dtype="float32", always_2d=True)
      ):
        mono = block.mean(axis=1) if file.channels > 1 else block[:, 0]
        samples[position : position + len(mono)] = mono
        position += len(mono)
        level = np.abs(mono)
        peak = np.maximum(peak, level.max())  # NaN stays.
        num_clipped += int(np.count_nonzero(level >= _FULL_SCALE))
      slack = _MP3_SLACK * len(samples) if file.format == "MP3" else 0
      if position < len(samples) - slack:
        raise SongError(
          rules.TRUNCATED,
          f"{path} has {position} of {len(samples)} samples",
        )
      samples = samples[:position]
      rate, channels = file.samplerate, file.channels
  except (OSError, soundfile.SoundFileError) as error:
    raise SongError(rules.UNREADABLE_AUDIO, f"{path}: {error}") from error
  return _Decoded(samples, rate, channels, float(peak), num_clipped)


def _check_wav_length(path: Path) -> None:
  """Raises if a wav's data reach beyond the file's end.

  libsndfile reads such a file without a word.
  """
  size = path.stat().st_size
  with path.open("rb") as file:
    if file.read(4) != b"RIFF":
      return  # Left to the decoder: RF64, or no wav at all.
    position = 12
    while position + 8 <= size:
      file.seek(position)
      kind, length = struct.unpack("<4sI", file.read(8))
      position += 8
      if kind == b"data":
        if length not in _UNKNOWN_SIZE and position + length > size:
          raise SongError(
            rules.TRUNCATED,
            f"{path} has {size} bytes, its header says {position + length}",
          )
        return
      position += length + length % 2  # Chunks are padded to even lengths.


def _has_pitch_bends(path: Path) -> bool:
  try:
    tracks = mido.MidiFile(path, clip=True).tracks
  except Exception:  # Damaged files, which `read_midi` can read in part.
    return False
  return any(
    message.type == "pitchwheel" and message.pitch
    for track in tracks
    for message in track
  )


def _num_overlaps(notes: Notes) -> int:
  """Notes that still sound when their pitch and Slakh class is struck again."""
  programs, index = np.unique(notes.program, return_inverse=True)
  # One after the other, so that none of them is cut.
  each = Notes.from_columns(
    np.arange(len(programs)), np.arange(len(programs)) + 1, 0, 1, programs
  )
  program = notes_lib.to_slakh_classes(each).program[index]
  voice = notes.is_drum, program, notes.pitch
  order = np.lexsort((notes.onset, *voice))
  overlaps = notes.offset[order[:-1]] > notes.onset[order[1:]]
  for column in voice:
    overlaps &= column[order[:-1]] == column[order[1:]]
  return int(np.count_nonzero(overlaps))


def find_root(directory: Path, patterns: Sequence[str], what: str) -> Path:
  """The folder in which a dataset lies: the given one, or one inside it.

  Archives unpack to a folder of their own; both it and the one around it may be
  named.

  Args:
    directory: Where to look, up to two folders deep.
    patterns: Globs relative to the folder that is looked for; each must match.
    what: The dataset, for the error.

  Raises:
    ValueError: There is none; says what was looked for.
  """
  for folder in _folders(directory):
    if all(any(folder.glob(pattern)) for pattern in patterns):
      return folder
  raise ValueError(
    f"Expected {what} in {directory}; found no {' and '.join(patterns)} there"
    " or up to two folders deeper."
  )


def _folders(directory: Path) -> Iterator[Path]:
  yield directory
  yield from sorted(directory.glob("*/"))
  yield from sorted(directory.glob("*/*/"))
