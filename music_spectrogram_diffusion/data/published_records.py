"""The TFRecords of MT3 and Magenta, as examples like those of our builders.

Gardner et al. 2022 (https://arxiv.org/abs/2111.03017) published their datasets
as TFRecords in public buckets. `dataset` reads them there, or where they were
copied to; `PublishedSource` does it for seqio tasks. What is left out follows
the rules of the builders. Needs TensorFlow and note-seq.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import io
import logging
import os
import re
from typing import Any

from jaxtyping import Float32
import numpy as np
import seqio
import soundfile
import tensorflow as tf

from music_spectrogram_diffusion import audio as audio_lib
from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.data import preprocessors
from music_spectrogram_diffusion.data.builders import base, loading, urmp
from music_spectrogram_diffusion.notes import SLAKH_CLASSES, Notes

MISSING_FILES = base.Rule(
  "missing_files", "files missing", "their number stands in the others' names"
)

_MT3 = "gs://mt3/data/datasets"
_MAGENTA = "gs://magentadata/datasets"
_GUITAR = 24
_DRUMS = "Drums"

_LOG = logging.getLogger(__name__)

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


def dataset(
  root: str | os.PathLike | None,
  name: str,
  split: str,
  *,
  shuffle_files: bool = False,
  seed: int | None = None,
  shard_info: seqio.ShardInfo | None = None,
  problems: base.Problems | None = None,
) -> tf.data.Dataset:
  """Examples as `builders.base.FEATURES` describes them.

  Songs that cannot be used are left out and logged, and so is what cannot be
  read of a file. One song is in memory at a time.

  Args:
    root: Where the records are: a folder like gs://mt3/data/datasets, in which
      the dataset's own lies, or the dataset's own. None for the public one.
    name: One of `DATASETS`.
    split: One of its splits.
    shuffle_files: Whether files come in random order.
    seed: Of that order.
    shard_info: Which share of the files is read.
    problems: Counts what is left out, as the dataset is read.

  Raises:
    ValueError: There is no such dataset, split or file.
  """
  problems = base.Problems() if problems is None else problems
  files = list_files(root, name, split, problems)
  _note_sequence()  # Fails here if the package is missing.
  shards = tf.data.Dataset.from_tensor_slices(files)
  if shard_info:
    shards = shards.shard(shard_info.num_shards, shard_info.index)
  if shuffle_files:
    shards = shards.shuffle(len(files), seed)
  rows = shards.flat_map(
    lambda file: tf.data.TFRecordDataset(file).ignore_errors(log_warning=True)
  )
  to_example = functools.partial(_to_example, DATASETS[name], problems)
  return (
    rows.map(to_example)
    .filter(lambda is_used, _: is_used)
    .map(lambda _, example: example)
  )


def list_files(
  root: str | os.PathLike | None,
  name: str,
  split: str,
  problems: base.Problems,
) -> list[str]:
  """The files of a split; counts those that are missing by their names.

  Raises:
    ValueError: There is no such dataset, split or file.
  """
  if name not in DATASETS:
    raise ValueError(
      f"Expected a published dataset, one of {', '.join(DATASETS)}, got"
      f" {name!r}."
    )
  records = DATASETS[name]
  if split not in records.files:
    raise ValueError(
      f"Expected a split of {name}, one of {', '.join(records.files)}, got"
      f" {split!r}."
    )
  root = records.bucket if root is None else os.fspath(root)
  pattern = records.files[split]
  path = os.path.join(root, pattern)
  files = tf.io.gfile.glob(path) or tf.io.gfile.glob(
    os.path.join(root, os.path.basename(pattern))
  )
  if not files:
    raise ValueError(f"Expected records of {name} in {path}, found none.")
  in_all = re.search(r"\?{5}-of-(\d{5})$", pattern)
  missing = int(in_all[1]) - len(files) if in_all else 0
  if missing > 0:
    problems.add(MISSING_FILES, path, missing)
    _LOG.warning("%d files are missing of %s.", missing, path)
  return sorted(files)


class PublishedSource(seqio.DataSource):
  """The published records of a dataset, for tasks.

  Files are looked for when they are asked for, not before.

  Args:
    name: One of `DATASETS`.
    root: Gives the root, as `dataset` has it.
  """

  def __init__(
    self, name: str, root: Callable[[], str | os.PathLike | None] = lambda: None
  ):
    super().__init__(
      list(DATASETS[name].files), performs_internal_shuffling=True
    )
    self._name = name
    self._root = root
    self.problems = base.Problems()

  @property
  def supports_arbitrary_sharding(self) -> bool:
    """Shares are of whole files."""
    return False

  def list_shards(self, split: str) -> Sequence[str]:
    """The files of a split."""
    return list_files(self._root(), self._name, split, base.Problems())

  def num_pieces(self, split: str) -> float:
    """Pieces of the training split, about: as many as its length has."""
    if split != "train":
      raise ValueError(f"Expected the split train, got {split!r}.")
    records = DATASETS[self._name]
    frame_rate = audio_lib.SpectrogramConfig().frame_rate
    frames = 3600 * records.train_hours * frame_rate
    return frames / preprocessors.PIECE_FRAMES

  def get_dataset(
    self,
    split: str = "train",
    shuffle: bool = True,
    seed: int | None = None,
    shard_info: seqio.ShardInfo | None = None,
    **unused: Any,
  ) -> tf.data.Dataset:
    """See `dataset` and `seqio.DataSource`."""
    return dataset(
      self._root(),
      self._name,
      split,
      shuffle_files=shuffle,
      seed=seed,
      shard_info=shard_info,
      problems=self.problems,
    )


def _to_example(
  records: Records, problems: base.Problems, serialized: tf.Tensor
) -> tuple[tf.Tensor, dict[str, Any]]:
  """Whether a record can be used, and its example."""
  row = tf.io.parse_single_example(serialized, dict(records.features))
  names = list(row)

  def convert(*values: np.ndarray) -> tuple[Any, ...]:
    return _convert(records, problems, dict(zip(names, values, strict=True)))

  types = [tf.bool, *(dtype for dtype, _ in _TENSORS)]
  used, *tensors = tf.numpy_function(
    convert, [row[name] for name in names], types, stateful=False
  )
  used.set_shape(())
  for tensor, (_, shape) in zip(tensors, _TENSORS, strict=True):
    tensor.set_shape(shape)
  id, track_id, samples, *columns = tensors
  example = {"id": id, "audio": samples}
  example["notes"] = dict(zip(loading.NOTE_COLUMNS, columns, strict=True))
  if records.has_track_id:
    example["track_id"] = track_id
  return used, example


# Of id, track id, audio, and each column of notes.
_TENSORS = (
  (tf.string, ()),
  (tf.string, ()),
  (tf.int16, (None,)),
  (tf.float64, (None,)),
  (tf.float64, (None,)),
  (tf.int32, (None,)),
  (tf.int32, (None,)),
  (tf.int32, (None,)),
  (tf.bool, (None,)),
)
_NOTHING = ("", "", *(np.zeros(0, t.as_numpy_dtype) for t, _ in _TENSORS[2:]))


def _convert(
  records: Records, problems: base.Problems, row: Row
) -> tuple[Any, ...]:
  """Whether a record can be used, and its example as `_TENSORS`."""
  name = "a record"
  try:
    song = records.read(row)
    name = song.id
    samples = _clean_audio(song, problems)
    duration_s = len(samples) / base.SAMPLE_RATE
    notes = base.clean_notes(song.notes, duration_s, problems, name)
  except base.SongError as error:
    rule, detail = error.rule, str(error)
  except Exception as error:  # One record must not end a day's run.
    rule, detail = base.rules.FAILED, f"{type(error).__name__}: {error}"
  else:
    example = base.make_example(name, samples, notes)
    track_id = row["track_id"] if records.has_track_id else ""
    return True, name, track_id, example["audio"], *example["notes"].values()
  problems.add(rule, f"{name}: {detail}")
  _LOG.warning("Left out %s: %s (%s).", name, rule.reason, detail)
  return False, *_NOTHING


def _clean_audio(
  song: Song, problems: base.Problems
) -> Float32[np.ndarray, " samples"]:
  """Mono audio at the rate of `base`, by the rules of `base.load_audio`."""
  samples = np.asarray(song.samples, np.float32)
  if samples.ndim == 2:
    samples = samples.mean(axis=1)
  if not len(samples):
    raise base.SongError(base.rules.EMPTY_AUDIO, "no samples")
  peak = float(np.abs(samples).max())
  if not np.isfinite(peak):
    raise base.SongError(base.rules.NOT_FINITE, "NaN or infinity")
  if peak < loading.SILENCE:
    raise base.SongError(base.rules.SILENT, f"peaks at {peak:g}")
  if song.sample_rate != base.SAMPLE_RATE:
    problems.add(base.rules.RESAMPLED, song.id)
    samples = audio_lib.resample(samples, song.sample_rate, base.SAMPLE_RATE)
  return base.limit_peak(samples, problems, song.id)


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
def _note_sequence() -> type:
  """The proto's class; its package is large, and only needed to read."""
  import note_seq

  return note_seq.NoteSequence


def _notes(data: bytes) -> Notes:
  """Notes of a serialized NoteSequence, with sustain applied."""
  try:
    sequence = _note_sequence().FromString(bytes(data))
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
