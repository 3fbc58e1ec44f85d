"""Seqio tasks of prepared datasets: what the files in `tasks/` register.

`add_dataset("maestro", ...)` registers a task for each of `VARIANTS`. One of
them, `maestro_pieces`, is there to be cached; those for training and evaluation
read its cache, or the prepared data without one. Needs TensorFlow.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import copy
import dataclasses
import functools
import json
import logging
import os
from typing import Any

from etils import epath
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.audio import SpectrogramConfig
from music_spectrogram_diffusion.data import indexed_records, preprocessors
from music_spectrogram_diffusion.data.builders import base

DATA_DIR_VARIABLE = "SPEC_DIFF_DATA_DIR"
"""Names the environment variable that says where prepared data lie."""

RECORDS_DIR_VARIABLE = "SPEC_DIFF_RECORDS_DIR"
"""The same for published records."""

SPECTROGRAM = SpectrogramConfig()
"""What all tasks' spectrograms are made with."""

MIXING_TEMPERATURE = 10 / 3
"""Datasets are mixed by their size to the power of 1 / this, as in the paper.
"""

_VOCABULARY = notes_lib.Vocabulary()


@dataclasses.dataclass(frozen=True)
class Variant:
  """What a task of a dataset gives.

  Attributes:
    features: Names of its output features.
    examples: Preprocessor that makes them, given `vocabulary` (and, of pieces,
      `problems`); None for pieces themselves.
    of_pieces: Whether they are made of pieces, which may be cached, or of whole
      songs.
  """

  features: tuple[str, ...]
  examples: Callable[..., tf.data.Dataset] | None
  of_pieces: bool = True

  def output_features(
    self, vocabulary: notes_lib.Vocabulary
  ) -> dict[str, seqio.Feature]:
    """The features as seqio wants them described."""
    tokens = seqio.PassThroughVocabulary(vocabulary.num_ids, notes_lib.EOS)
    described = {
      name: seqio.ContinuousFeature(dtype=tf.float32, rank=2)
      for name in self.features
    }
    if "inputs" in described:
      rank = 1 if self.of_pieces else 2
      described["inputs"] = seqio.Feature(tokens, add_eos=False, rank=rank)
    return described


PIECES = "pieces"
VARIANTS = {
  PIECES: Variant((), None),
  "with_context_train": Variant(
    ("inputs", "targets", "targets_context"), preprocessors.random_windows
  ),
  "with_context_eval": Variant(
    ("inputs", "targets", "targets_context"), preprocessors.consecutive_windows
  ),
  "without_context_train": Variant(
    ("inputs", "targets"), preprocessors.random_windows
  ),
  "without_context_eval": Variant(
    ("inputs", "targets"), preprocessors.consecutive_windows
  ),
  "full_song": Variant(
    ("inputs", "targets"), preprocessors.whole_songs, of_pieces=False
  ),
}
"""The tasks of a dataset by the end of their names."""

MIXED_VARIANTS = tuple(
  name for name in VARIANTS if name.endswith(("_train", "_eval"))
)


def given_data_dir(variable: str) -> str | None:
  """Where the user says that data are; None if nowhere.

  That is what was given to `seqio.set_tfds_data_dir_override` (as a run under
  gin does, and the flag `--tfds_data_dir` of `seqio_cache_tasks`), else the
  value of an environment variable.
  """
  override = seqio.LazyTfdsLoader("prepared:1.0.0").data_dir
  return override or os.environ.get(variable)


def data_dir() -> str:
  """Where prepared datasets are looked for, by default where TFDS keeps its."""
  default = str(tfds.core.constants.DATA_DIR)
  return given_data_dir(DATA_DIR_VARIABLE) or default


def records_dir() -> str | None:
  """Where published records are looked for; None for the public bucket."""
  return given_data_dir(RECORDS_DIR_VARIABLE)


class RecordSource(seqio.DataSource):
  """Examples in TFRecord files, which are read in any order.

  Attributes:
    num_epochs: How many passes `get_dataset` makes; None for no end.
  """

  def __init__(self, splits: Sequence[str]):
    super().__init__(splits, performs_internal_shuffling=True)
    self.num_epochs: int | None = 1

  @property
  def supports_arbitrary_sharding(self) -> bool:
    """A share is every nth record."""
    return True

  def repeated(self, num_epochs: int | None) -> "RecordSource":
    """A copy that makes so many passes."""
    source = copy.copy(self)
    source.num_epochs = num_epochs
    return source

  def decode(self, record: tf.Tensor) -> dict[str, Any]:
    """An example of a serialized record."""
    raise NotImplementedError

  def get_dataset(
    self,
    split: str = "train",
    shuffle: bool = True,
    seed: int | None = None,
    shard_info: seqio.ShardInfo | None = None,
    **unused: Any,
  ) -> tf.data.Dataset:
    """See `decode`, `indexed_records.read` and `seqio.DataSource`."""
    records = indexed_records.read(
      self.list_shards(split),
      shuffle=shuffle,
      seed=seed,
      shard_info=shard_info,
      num_epochs=self.num_epochs,
    )
    return records.map(self.decode)


class PreparedSource(RecordSource):
  """Songs of a dataset that `spec-diff prepare` has made.

  The data are looked for when they are asked for, not when a task is
  registered. Songs are read one at a time.

  Args:
    dataset: Name of the dataset, of its folder, and for `spec-diff prepare`.
    splits: Those that it has.
  """

  def __init__(self, dataset: str, splits: Sequence[str]):
    super().__init__(splits)
    self._dataset = dataset

  @property
  def splits(self) -> Sequence[str]:
    """Those that were prepared; before, those that there should be."""
    folder = self._newest()
    if folder is None:
      return self._splits
    there = _builder_of(folder).info.splits
    return tuple(
      split
      for split in self._splits
      if split in there and there[split].num_examples
    )

  def list_shards(self, split: str) -> Sequence[str]:
    """The files of a split."""
    builder = self._builder()
    if split not in builder.info.splits:
      raise ValueError(
        f"Expected a split {split!r} in {builder.data_path}, found"
        f" {', '.join(builder.info.splits) or 'none'}."
      )
    return [str(path) for path in builder.info.splits[split].filepaths]

  def num_input_examples(self, split: str) -> int:
    """Songs of a split."""
    return self._builder().info.splits[split].num_examples

  def num_pieces(self, split: str) -> float:
    """Pieces of a split, about: as many as its length has."""
    path = epath.Path(self._builder().data_path) / base.REPORT
    try:
      seconds = json.loads(path.read_text())["audio_s"][split]
    except (OSError, ValueError, KeyError) as error:
      raise ValueError(
        f"Expected the seconds of audio of {split} in {path}, found none;"
        f" prepare {self._dataset} again, or cache its pieces."
      ) from error
    return seconds * SPECTROGRAM.frame_rate / preprocessors.PIECE_FRAMES

  def decode(self, record: tf.Tensor) -> dict[str, Any]:
    """A song as `base.FEATURES` describes it."""
    with _untold_deprecations():
      return self._builder().info.features.deserialize_example(record)

  def _builder(self) -> tfds.core.DatasetBuilder:
    folder = self._newest()
    if folder is None:
      raise ValueError(
        f"Expected prepared data in {epath.Path(data_dir()) / self._dataset},"
        f" found none. Make them with `spec-diff prepare {self._dataset}"
        f" --data_dir {data_dir()}`, or say where they are: --gin.DATA_DIR or"
        f" ${DATA_DIR_VARIABLE}."
      )
    return _builder_of(folder)

  def _newest(self) -> epath.Path | None:
    """Folder of the newest version that is there."""
    folder = epath.Path(data_dir()) / self._dataset
    versions = [path.parent for path in folder.glob("*/features.json")]
    if not versions:
      return None
    return max(versions, key=lambda path: tfds.core.Version(path.name).tuple)


class CachedPieces(RecordSource):
  """Pieces that `seqio_cache_tasks` wrote.

  Args:
    split: A split.
    files: Its files.
  """

  def __init__(self, split: str, files: Sequence[str]):
    super().__init__([split])
    self._files = files

  def list_shards(self, split: str) -> Sequence[str]:
    """The files."""
    return self._files

  def decode(self, record: tf.Tensor) -> dict[str, tf.Tensor]:
    """A piece; see `preprocessors.split_songs`."""
    features = {
      name: tf.io.FixedLenFeature([], dtype)
      for name, dtype in preprocessors.PIECE_FEATURES.items()
    }
    return tf.io.parse_single_example(record, features)


@contextlib.contextmanager
def _untold_deprecations() -> Iterator[None]:
  """Keeps back what TFDS says of its own code, once for each feature."""

  def is_news(record: logging.LogRecord) -> bool:
    return "FeatureConnector.dtype" not in str(record.msg)

  logger = logging.getLogger("absl")
  logger.addFilter(is_news)
  try:
    yield
  finally:
    logger.removeFilter(is_news)


@functools.lru_cache
def _builder_of(path: epath.Path) -> tfds.core.DatasetBuilder:
  return tfds.builder_from_directory(path)


class SongTask(seqio.Task):
  """A task of songs; all that are made of pieces share one cache.

  Small datasets are not kept in memory, as seqio would: their songs are large.

  Attributes:
    problems: Counts windows that were dropped.
    pieces: Name of the task whose cache it reads, if it has none of its own.
  """

  def __init__(
    self,
    name: str,
    source: seqio.DataSource,
    variant: Variant,
    *,
    pieces: str,
    vocabulary: notes_lib.Vocabulary = _VOCABULARY,
  ):
    """Initializes a task.

    Args:
      name: Its name.
      source: Gives songs as `base.FEATURES` describes them.
      variant: What it makes of them.
      pieces: As in the class.
      vocabulary: Ids of the note tokens.
    """
    self.problems = base.Problems()
    self._variant = variant
    self._num_epochs = 1
    self.pieces = pieces
    steps = []
    options = {"vocabulary": vocabulary}
    if variant.of_pieces:
      split = functools.partial(preprocessors.split_songs, config=SPECTROGRAM)
      steps += [split, seqio.CacheDatasetPlaceholder()]
      options |= {"problems": self.problems}
    if variant.examples:
      steps.append(
        functools.partial(variant.examples, config=SPECTROGRAM, **options)
      )
    super().__init__(
      name,
      source,
      variant.output_features(vocabulary),
      steps,
      # Windows are shuffled by how they are taken; a buffer of them would make
      # the state of an iterator large.
      shuffle_buffer_size=None,
    )

  def with_vocabulary(self, vocabulary: notes_lib.Vocabulary) -> "SongTask":
    """A copy, not registered, with these ids of note tokens.

    It counts what it drops by itself.
    """
    return SongTask(
      self.name,
      self.source,
      self._variant,
      pieces=self.pieces,
      vocabulary=vocabulary,
    )

  @property
  def cache_dir(self) -> str | None:
    """The task's own cache, or else that of the dataset's pieces."""
    own = super().cache_dir
    if own or self.name == self.pieces:
      return own
    return seqio.TaskRegistry.get(self.pieces).cache_dir

  def get_dataset(
    self,
    sequence_length: Mapping[str, int] | None = None,
    split: str = "train",
    use_cached: bool = False,
    *,
    num_epochs: int | None = 1,
    **options: Any,
  ) -> tf.data.Dataset:
    """As in seqio, but never kept in memory, and files repeat themselves."""
    task = copy.copy(self)
    task._num_epochs = num_epochs
    if isinstance(self.source, RecordSource):
      task._source = self.source.repeated(num_epochs)
      num_epochs = 1
    elif use_cached and self.supports_caching:
      num_epochs = 1
    options |= {"try_in_mem_cache": False, "num_epochs": num_epochs}
    return super(SongTask, task).get_dataset(
      sequence_length, split, use_cached, **options
    )

  def _get_cached_source(
    self, split: str, file_shuffle_buffer_size: int | None = None
  ) -> seqio.DataSource:
    """What seqio reads a cache from."""
    cached = super()._get_cached_source(split, file_shuffle_buffer_size)
    pieces = CachedPieces(split, cached.list_shards(split))
    return pieces.repeated(self._num_epochs)

  @property
  def num_dropped(self) -> int:
    """Windows that were dropped so far, in this process."""
    return sum(row["count"] for row in self.problems.to_json())

  def size(self) -> float:
    """Pieces to train on: exactly where they are cached, else about."""
    if self.cache_dir:
      return float(self.get_cached_stats("train")["examples"])
    return self.source.num_pieces("train")


def add_dataset(dataset: str, source: seqio.DataSource) -> None:
  """Registers the tasks of a dataset: one for each of `VARIANTS`.

  Args:
    dataset: What their names begin with.
    source: Gives songs as `base.FEATURES` describes them, and tells
      `num_pieces` of a split.
  """
  for end, variant in VARIANTS.items():
    name = f"{dataset}_{end}"
    task = SongTask(name, source, variant, pieces=f"{dataset}_{PIECES}")
    seqio.TaskRegistry.add_provider(name, task)


def add_mixture(
  name: str,
  datasets: Sequence[str],
  temperature: float = MIXING_TEMPERATURE,
) -> None:
  """Registers mixtures of datasets, one for each of `MIXED_VARIANTS`.

  Args:
    name: What their names begin with.
    datasets: Datasets that were added.
    temperature: Datasets are mixed by their number of pieces to the power of
      1 / this: 1 takes all pieces equally often, more favours small datasets.
  """
  for end in MIXED_VARIANTS:
    seqio.MixtureRegistry.add(
      f"{name}_{end}",
      [f"{dataset}_{end}" for dataset in datasets],
      default_rate=functools.partial(mixing_rate, temperature=temperature),
    )


def mixing_rate(task: SongTask, temperature: float) -> float:
  """How often a task comes in a mixture, in relation to others."""
  return task.size() ** (1.0 / temperature)


def with_vocabulary(
  provider: seqio.Task | seqio.Mixture, vocabulary: notes_lib.Vocabulary
) -> seqio.Task | seqio.Mixture:
  """A copy of a task or mixture with these ids of note tokens.

  Tasks that are not of this module stay as they are.
  """
  if isinstance(provider, SongTask):
    return provider.with_vocabulary(vocabulary)
  if not isinstance(provider, seqio.Mixture):
    return provider
  tasks = [with_vocabulary(task, vocabulary) for task in provider.tasks]
  if tasks == provider.tasks:
    return provider
  rates = (
    functools.partial(_rate_in, provider, task) for task in provider.tasks
  )
  return seqio.Mixture(provider.name, list(zip(tasks, rates, strict=True)))


def _rate_in(mixture: seqio.Mixture, task: seqio.Task, _: seqio.Task) -> float:
  """The rate of a task in a mixture; read late, with the data."""
  return mixture.get_rate(task)
