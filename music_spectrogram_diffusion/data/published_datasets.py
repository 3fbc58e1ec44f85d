"""What the TFRecords of MT3 and Magenta are called, and what they hold.

One entry a dataset: its files, the features of its records, and what makes a
song of one. Needs TensorFlow and note-seq.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import io
from typing import Any

import numpy as np
import soundfile
import tensorflow as tf

from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.data.builders import base, urmp
from music_spectrogram_diffusion.notes import SLAKH_CLASSES, Notes

_MT3 = "gs://mt3/data/datasets"
_MAGENTA = "gs://magentadata/datasets"
_GUITAR = 24
_DRUMS = "Drums"

Row = Mapping[str, Any]
"""The features of a record: bytes, numbers, and arrays of them."""


@dataclasses.dataclass(frozen=True)
class Song:
  """What a record says.

  Attributes:
    id: Unique in the dataset.
    samples: [samples] or [samples, channels].
    sample_rate: In Hz.
    notes: Without the pedal, not yet cleaned.
  """

  id: str
  samples: np.ndarray
  sample_rate: int | float
  notes: Notes


@dataclasses.dataclass(frozen=True)
class Records:
  """How the records of a dataset are named, and what is in them.

  Attributes:
    files: Pattern of the files of each split, relative to a root.
    features: What is read of each record.
    read: Reads a record. Raises SongError, or ValueError for notes or audio
      that are none.
    train_hours: Audio of the training split, about.
    has_track_id: Whether examples have a `track_id`, as those of Slakh.
    bucket: The public root.
  """

  files: Mapping[str, str]
  features: Mapping[str, Any]
  read: Callable[[Row], Song]
  train_hours: int
  has_track_id: bool = False
  bucket: str = _MT3


def _text(value: Any) -> str:
  """Text of a feature; what is not UTF-8 is replaced."""
  return bytes(value).decode(errors="replace")


def _decode_wav(data: bytes) -> tuple[np.ndarray, int]:
  """Samples and sample rate of a wav file."""
  try:
    return soundfile.read(io.BytesIO(data), dtype="float32")
  except soundfile.SoundFileError as error:
    raise base.SongError(base.rules.UNREADABLE_AUDIO, str(error)) from error


@functools.cache
def note_sequence_class() -> type:
  """The proto's class; its package is large, and only needed to read."""
  import note_seq

  return note_seq.NoteSequence


def _notes(data: bytes) -> Notes:
  """Notes of a serialized NoteSequence, with sustain applied."""
  try:
    sequence = note_sequence_class().FromString(bytes(data))
    return notes_lib.from_note_sequence(sequence)
  except Exception as error:  # The errors of protobuf differ by version.
    raise base.SongError(base.rules.UNREADABLE_NOTES, str(error)) from error


def _played_by(notes: Notes, program: int, is_drum: bool = False) -> Notes:
  return dataclasses.replace(
    notes,
    program=np.full_like(notes.program, program),
    is_drum=np.full_like(notes.is_drum, is_drum),
  )


def _join(
  sequences: np.ndarray,
  names: np.ndarray,
  instruments: Mapping[str, tuple[int, bool]],
) -> Notes:
  """Notes of several instruments, each a sequence of its own.

  Args:
    sequences: Serialized NoteSequences.
    names: Of their instruments.
    instruments: Program, and whether it is drums, by name.
  """
  parts = []
  if len(sequences) != len(names) or not len(names):
    raise base.SongError(
      base.rules.UNREADABLE_NOTES,
      f"{len(sequences)} sequences of {len(names)} instruments",
    )
  for data, name in zip(sequences, map(_text, names), strict=True):
    if name not in instruments:
      raise base.SongError(base.rules.UNKNOWN_INSTRUMENT, repr(name))
    parts.append(_played_by(_notes(data), *instruments[name]))
  return Notes.concatenate(parts)


def _read_wav_and_sequence(row: Row) -> Song:
  """Records of MAESTRO: wav and one sequence, whose programs count."""
  samples, rate = _decode_wav(row["audio"])
  return Song(_text(row["id"]), samples, rate, _notes(row["sequence"]))


def _read_guitar(row: Row) -> Song:
  """Records of GuitarSet: the same, but for the program."""
  song = _read_wav_and_sequence(row)
  return dataclasses.replace(song, notes=_played_by(song.notes, _GUITAR))


def _read_samples_and_sequence(row: Row) -> Song:
  """Records of MusicNet: samples as numbers."""
  rate = float(row["sample_rate"])
  return Song(_text(row["id"]), row["audio"], rate, _notes(row["sequence"]))


def _read_parts(row: Row) -> Song:
  """Records of URMP: wav, and a sequence for each code of an instrument."""
  samples, rate = _decode_wav(row["audio"])
  notes = _join(row["instrument_sequences"], row["inst_names"], _URMP_CODES)
  return Song(_text(row["id"]), samples, rate, notes)


def _read_mix(instruments: Mapping[str, tuple[int, bool]], row: Row) -> Song:
  """Records of Slakh: a mix as numbers, and a sequence for each of its stems.

  The stems that were mixed belong to the id, as one track has several mixes.
  """
  notes = _join(row["note_sequences"], row["inst_names"], instruments)
  id = "-".join(map(_text, row["src_ids"]))
  id = f"{_text(row['track_id'])}_{id}" if id else _text(row["track_id"])
  return Song(id, row["mix"], float(row["audio_sample_rate"]), notes)


_URMP_CODES = {code: (number, False) for code, number in urmp.PROGRAMS.items()}
_SLAKH_NAMES = {name: (number, False) for name, number in SLAKH_CLASSES.items()}
_SLAKH_NAMES[_DRUMS] = (0, True)
_PART_NAMES = {
  "bass": (32, False),
  "drums": (0, True),
  "guitar": (24, False),
  "piano": (0, False),
}

_BYTES = tf.io.FixedLenFeature([], tf.string)
_FLOAT = tf.io.FixedLenFeature([], tf.float32)
_INT = tf.io.FixedLenFeature([], tf.int64)
_BYTES_LIST = tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True)
_FLOAT_LIST = tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True)

_WAV_FEATURES = {"id": _BYTES, "audio": _BYTES, "sequence": _BYTES}
_MUSICNET_FEATURES = {
  "id": _BYTES,
  "sample_rate": _FLOAT,
  "audio": _FLOAT_LIST,
  "sequence": _BYTES,
}
_URMP_FEATURES = {
  "id": _BYTES,
  "audio": _BYTES,
  "inst_names": _BYTES_LIST,
  "instrument_sequences": _BYTES_LIST,
}
_MIX_FEATURES = {
  "track_id": _BYTES,
  "src_ids": _BYTES_LIST,
  "mix": _FLOAT_LIST,
  "audio_sample_rate": _INT,
  "inst_names": _BYTES_LIST,
  "note_sequences": _BYTES_LIST,
}

_MAESTRO_1 = "maestro/v1.0.0/maestro-v1.0.0_ns_wav"
_MAESTRO_3 = "maestro/v3.0.0/maestro-v3.0.0_ns_wav"
_CERBERUS = "cerberus4/slakh_multi_cerberus"
_QUARTET = "bass:drums:guitar:piano"
_SLAKH = "slakh/slakh_multi_full"

DATASETS = {
  "maestro_v1": Records(
    {
      split: f"{_MAESTRO_1}_{split}.tfrecord-?????-of-00010"
      for split in ("train", "validation", "test")
    },
    _WAV_FEATURES,
    _read_wav_and_sequence,
    train_hours=140,
    bucket=_MAGENTA,
  ),
  "maestro": Records(
    {
      split: f"{_MAESTRO_3}_{split}.tfrecord-?????-of-00025"
      for split in ("train", "validation", "test")
    }
    | {
      "train_subset": f"{_MAESTRO_3}_train.tfrecord-00004-of-00025",
      "validation_subset": f"{_MAESTRO_3}_validation.tfrecord-0002?-of-00025",
    },
    _WAV_FEATURES,
    _read_wav_and_sequence,
    train_hours=159,
    bucket=_MAGENTA,
  ),
  "guitarset": Records(
    {
      "train": "guitarset/train.tfrecord-?????-of-00019",
      "validation": "guitarset/validation.tfrecord-?????-of-00006",
    },
    _WAV_FEATURES,
    _read_guitar,
    train_hours=4,
  ),
  "urmp": Records(
    {
      "train": "urmp/train.tfrecord",
      "validation": "urmp/validation.tfrecord",
    },
    _URMP_FEATURES,
    _read_parts,
    train_hours=1,
  ),
  "musicnet": Records(
    {
      "train": "musicnet/musicnet-train.tfrecord-?????-of-00036",
      "validation": "musicnet/musicnet-validation.tfrecord-?????-of-00005",
      "test": "musicnet/musicnet-test.tfrecord-?????-of-00003",
    },
    _MUSICNET_FEATURES,
    _read_samples_and_sequence,
    train_hours=30,
  ),
  "musicnet_em": Records(
    {
      "train": "musicnet_em/train.tfrecord-?????-of-00103",
      "validation": "musicnet_em/validation.tfrecord-?????-of-00005",
      "test": "musicnet_em/test.tfrecord-?????-of-00006",
    },
    _MUSICNET_FEATURES,
    _read_samples_and_sequence,
    train_hours=30,
  ),
  "cerberus4": Records(
    {
      "train": f"{_CERBERUS}_train_{_QUARTET}.tfrecord-?????-of-00286",
      "train_subset": f"{_CERBERUS}_train_{_QUARTET}.tfrecord-00000-of-00286",
      "validation": f"{_CERBERUS}_validation_{_QUARTET}"
      ".tfrecord-?????-of-00212",
      "validation_subset": f"{_CERBERUS}_validation_{_QUARTET}"
      ".tfrecord-0000?-of-00212",
      "test": f"{_CERBERUS}_test_{_QUARTET}.tfrecord-?????-of-00106",
    },
    _MIX_FEATURES,
    functools.partial(_read_mix, _PART_NAMES),
    train_hours=418,
    has_track_id=True,
  ),
  "slakh": Records(
    {
      "train": f"{_SLAKH}_subsets_10_train_all_inst.tfrecord-?????-of-02307",
      "train_subset": f"{_SLAKH}_subsets_10_train_all_inst"
      ".tfrecord-00000-of-02307",
      "validation": f"{_SLAKH}_validation_all_inst.tfrecord-?????-of-00168",
      "validation_subset": f"{_SLAKH}_validation_all_inst"
      ".tfrecord-0000?-of-00168",
      "test": f"{_SLAKH}_test_all_inst.tfrecord-?????-of-00109",
    },
    _MIX_FEATURES,
    functools.partial(_read_mix, _SLAKH_NAMES),
    train_hours=930,
    has_track_id=True,
  ),
}
"""The published datasets, by the names that ours have."""
