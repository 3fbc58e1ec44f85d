"""The TFRecords of MT3 and Magenta, as examples like those of our builders.

Gardner et al. 2022 (https://arxiv.org/abs/2111.03017) published their datasets
as TFRecords in public buckets. `dataset` reads them there, or where they were
copied to; `PublishedSource` does it for seqio tasks. What is left out follows
the rules of the builders. Needs TensorFlow and note-seq.
"""

from collections.abc import Callable, Sequence
import functools
import logging
import os
import re
from typing import Any

from jaxtyping import Float32
import numpy as np
import seqio
import tensorflow as tf

from music_spectrogram_diffusion import audio as audio_lib
from music_spectrogram_diffusion.data import (
  preprocessors,
  published_datasets,
)
from music_spectrogram_diffusion.data.builders import base, loading

MISSING_FILES = base.Rule(
  "missing_files", "files missing", "their number stands in the others' names"
)

_LOG = logging.getLogger(__name__)


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
    name: One of `published_datasets.DATASETS`.
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
  # Fails here if the package is missing.
  published_datasets.note_sequence_class()
  shards = tf.data.Dataset.from_tensor_slices(files)
  if shard_info:
    shards = shards.shard(shard_info.num_shards, shard_info.index)
  if shuffle_files:
    shards = shards.shuffle(len(files), seed)
  rows = shards.flat_map(
    lambda file: tf.data.TFRecordDataset(file).ignore_errors(log_warning=True)
  )
  to_example = functools.partial(
    _to_example, published_datasets.DATASETS[name], problems
  )
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
  if name not in published_datasets.DATASETS:
    known = ", ".join(published_datasets.DATASETS)
    raise ValueError(
      f"Expected a published dataset, one of {known}, got {name!r}."
    )
  records = published_datasets.DATASETS[name]
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
    name: One of `published_datasets.DATASETS`.
    root: Gives the root, as `dataset` has it.
  """

  def __init__(
    self, name: str, root: Callable[[], str | os.PathLike | None] = lambda: None
  ):
    super().__init__(
      list(published_datasets.DATASETS[name].files),
      performs_internal_shuffling=True,
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
    records = published_datasets.DATASETS[self._name]
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
  records: published_datasets.Records,
  problems: base.Problems,
  serialized: tf.Tensor,
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
  records: published_datasets.Records,
  problems: base.Problems,
  row: published_datasets.Row,
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
  song: published_datasets.Song, problems: base.Problems
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
