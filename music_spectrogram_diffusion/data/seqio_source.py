"""Batches of a seqio task or mixture, for a training run.

`SeqioSource` is what a gin file binds; `SeqioBatches` is an iterator that knows
where it stands, so that a run which was killed goes on with exactly the batches
that it would have had. Needs TensorFlow.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import difflib
import importlib
import io
import json
import os
from pathlib import Path
import tarfile
import tempfile
from typing import Any
import warnings
import weakref

import numpy as np
import seqio
import tensorflow as tf

from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.audio import SpectrogramConfig
from music_spectrogram_diffusion.data import converters, seqio_tasks

Batch = dict[str, np.ndarray]

_ID = "id"
_SETTINGS = "settings.json"
_ITERATOR = "iterator"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeqioSource:
  """Makes iterators of batches of a task or mixture.

  Attributes:
    name: A task or mixture, such as `maestro_with_context_train`; or what the
      names of a dataset's tasks begin with, as `maestro`, for that with context
      if `lengths` has `targets_context`, else that without.
    lengths: Of features, in t5x's names: `inputs`, `targets` and, for models
      with context, `targets_context`.
    vocabulary: Ids of the note tokens.
    spectrogram: What the model is made for.
    split: Split of the dataset.
    variant: The end of the names of a dataset's tasks: "train" for random
      windows, "eval" for the segments of songs, in order.
    num_epochs: Passes over the data; None for no end.
    data_dir: Where `spec-diff prepare` wrote; None for where
      `seqio_tasks.data_dir` looks.
    use_cached: Whether to read what `seqio_cache_tasks` wrote.
    cache_dir: Where it did.
    module: Module that registers tasks and mixtures.
  """

  name: str
  lengths: Mapping[str, int]
  vocabulary: notes_lib.Vocabulary = notes_lib.Vocabulary()
  spectrogram: SpectrogramConfig = SpectrogramConfig()
  split: str = "train"
  variant: str = "train"
  num_epochs: int | None = None
  data_dir: str | os.PathLike | None = None
  use_cached: bool = False
  cache_dir: str | os.PathLike | None = None
  module: str = "music_spectrogram_diffusion.tasks"

  def __call__(
    self,
    *,
    batch_size: int,
    host_index: int = 0,
    host_count: int = 1,
    seed: int = 0,
  ) -> "SeqioBatches":
    """An iterator of batches of a host's share.

    Args:
      batch_size: Examples of a batch of this host.
      host_index: Which of several hosts this is.
      host_count: How many hosts share the data. Each reads its own songs, or
        pieces of a cache.
      seed: Another seed gives other windows in another order.

    Raises:
      ValueError: There is no such task, no such data, or not enough of them.
    """
    leave_accelerators_alone()
    if self.data_dir is not None:
      seqio.set_tfds_data_dir_override(os.fspath(self.data_dir))
    if self.cache_dir is not None:
      _add_cache_dir(os.fspath(self.cache_dir))
    provider = self.provider()
    if self.use_cached:
      _check_cached(provider)
    try:
      dataset = self._dataset(
        provider, seqio.ShardInfo(host_index, host_count), seed
      )
    except (AssertionError, OSError) as error:
      raise ValueError(f"Cannot read {provider.name}: {error}") from error
    dataset = dataset.batch(batch_size, drop_remainder=True).prefetch(1)
    settings = {
      "task": provider.name,
      "split": self.split,
      "lengths": dict(self.lengths),
      "cached": self.use_cached,
      "batch_size": batch_size,
      "host": f"{host_index} of {host_count}",
      "seed": seed,
    }
    return SeqioBatches(dataset, settings, seqio.get_subtasks(provider))

  def provider(self) -> seqio.Task | seqio.Mixture:
    """The task or mixture, with this vocabulary.

    Raises:
      ValueError: There is none of this name, or it has other spectrograms.
    """
    importlib.import_module(self.module)
    provider = _find(self.name, self._full_name())
    if self.spectrogram != seqio_tasks.SPECTROGRAM and any(
      isinstance(task, seqio_tasks.SongTask)
      for task in seqio.get_subtasks(provider)
    ):
      raise ValueError(
        f"Expected a model of {seqio_tasks.SPECTROGRAM} for {provider.name},"
        f" got one of {self.spectrogram}."
      )
    return seqio_tasks.with_vocabulary(provider, self.vocabulary)

  def _full_name(self) -> str:
    has_context = "targets_context" in self.lengths
    context = "with_context" if has_context else "without_context"
    return f"{self.name}_{context}_{self.variant}"

  def _dataset(
    self,
    provider: seqio.Task | seqio.Mixture,
    shard: seqio.ShardInfo,
    seed: int,
  ) -> tf.data.Dataset:
    """Examples of the training contract, with ids where there are some."""
    lengths = dict(self.lengths)
    passed = {"passthrough_features": [_ID]}
    dataset = provider.get_dataset(
      lengths,
      split=self.split,
      use_cached=self.use_cached,
      shuffle=self.variant == "train",
      seed=seed,
      shard_info=shard,
      num_epochs=self.num_epochs,
      **(passed if isinstance(provider, seqio.Mixture) else {}),
    )
    extra = {}
    if _ID in dataset.element_spec:
      extra = {_ID: seqio.FeatureConverter.FeatureSpec(tf.string, rank=0)}
    kind = converters.NoContextConverter
    if "targets_context" in lengths:
      kind = converters.ContextConverter
    converter = kind(self.spectrogram, extra)
    return converter(dataset, lengths | {name: 1 for name in extra})


class SeqioBatches:
  """Batches of a tf.data pipeline that goes on where it was.

  Args:
    dataset: Batches.
    settings: What they are made by; a state is only good for the same.
    tasks: Those that they come from; dropped windows are told of.
  """

  def __init__(
    self,
    dataset: tf.data.Dataset,
    settings: Mapping[str, Any],
    tasks: list[seqio.Task],
  ):
    options = tf.data.Options()
    # The state of an iterator then is where it reads, not what it has read.
    options.experimental_symbolic_checkpoint = True
    # Functions of NumPy are used that have no state of their own.
    options.experimental_external_state_policy = (
      tf.data.experimental.ExternalStatePolicy.IGNORE
    )
    options.deterministic = True
    self._dataset = dataset.with_options(options)
    self._settings = dict(settings)
    self._tasks = [
      task for task in tasks if isinstance(task, seqio_tasks.SongTask)
    ]
    self._told = 0
    self._handed_out = 0
    # Alone in a list, which is cleared before the interpreter shuts down: an
    # iterator that still runs functions of Python then would wait for ever.
    self._iterators = [iter(self._dataset)]
    weakref.finalize(self, self._iterators.clear)

  def __iter__(self) -> Iterator[Batch]:
    return self

  def __next__(self) -> Batch:
    """The next batch: arrays of the training contract, and `ids`.

    Raises:
      ValueError: There is not even one, or a file cannot be read.
    """
    try:
      batch = next(self._iterators[0])
    except StopIteration:
      if not self._handed_out:
        raise ValueError(
          f"Expected {self._settings['batch_size']} examples or more of"
          f" {self._settings['task']}, split {self._settings['split']}, on host"
          f" {self._settings['host']}; found fewer."
        ) from None
      raise
    except tf.errors.OpError as error:
      reason = error.message.partition("\n")[0]
      raise ValueError(
        f"Cannot read {self._settings['task']}, split"
        f" {self._settings['split']}: {reason}"
      ) from error
    self._handed_out += 1
    self._tell_dropped()
    batch = {name: values.numpy() for name, values in batch.items()}
    if _ID in batch:
      batch["ids"] = batch.pop(_ID)
    return batch

  def close(self) -> None:
    """Stops reading; there are no more batches."""
    self._iterators[0] = iter(())

  def get_state(self) -> bytes:
    """Where the iterator stands: some kilobytes, more for many open files."""
    with tempfile.TemporaryDirectory() as directory:
      checkpoint = tf.train.Checkpoint(iterator=self._iterators[0])
      checkpoint.write(os.path.join(directory, _ITERATOR))
      Path(directory, _SETTINGS).write_text(
        json.dumps(self._settings | {"handed_out": self._handed_out})
      )
      buffer = io.BytesIO()
      with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(directory, arcname="")
      return buffer.getvalue()

  def set_state(self, state: bytes) -> None:
    """Goes on from a state; what it had open is read again.

    Raises:
      ValueError: The state is of other batches: another task, seed, batch size
        or number of hosts.
    """
    with tempfile.TemporaryDirectory() as directory:
      with tarfile.open(fileobj=io.BytesIO(state)) as archive:
        archive.extractall(directory, filter="data")
      settings = json.loads(Path(directory, _SETTINGS).read_text())
      handed_out = settings.pop("handed_out")
      self._check(settings)
      self._iterators[0] = iter(self._dataset)
      checkpoint = tf.train.Checkpoint(iterator=self._iterators[0])
      checkpoint.read(
        os.path.join(directory, _ITERATOR)
      ).assert_existing_objects_matched()
    self._handed_out = handed_out

  def _check(self, settings: Mapping[str, Any]) -> None:
    for name, ours in self._settings.items():
      theirs = settings.get(name)
      if theirs != ours:
        raise ValueError(
          f"Cannot go on with the data of this run: {name} was {theirs} and is"
          f" {ours}. Start it as it was, or begin a new run."
        )

  def problem_lines(self) -> list[str]:
    """What was dropped so far, one line a task and rule."""
    return [
      f"{task.name}: {line}"
      for task in self._tasks
      for line in task.problems.lines()
    ]

  def _tell_dropped(self) -> None:
    """Warns of what was dropped, each time that it has doubled."""
    total = sum(task.num_dropped for task in self._tasks)
    if total >= max(2 * self._told, 1):
      self._told = total
      for line in self.problem_lines():
        warnings.warn(line, stacklevel=3)


def _find(*names: str) -> seqio.Task | seqio.Mixture:
  """The first task or mixture of these names."""
  registries = seqio.MixtureRegistry, seqio.TaskRegistry
  for name in names:
    for registry in registries:
      if name in registry.names():
        return registry.get(name)
  known = sorted(name for registry in registries for name in registry.names())
  close = difflib.get_close_matches(names[-1], known, n=8, cutoff=0.3)
  raise ValueError(
    f"Expected a task or mixture, found none named {' or '.join(names)}. There"
    f" are {', '.join(close or known) or 'none: import the module that has it'}"
    f"{', ...' if close else ''}."
  )


def _check_cached(provider: seqio.Task | seqio.Mixture) -> None:
  for task in seqio.get_subtasks(provider):
    if task.supports_caching and not task.cache_dir:
      name = getattr(task, "pieces", task.name)
      raise ValueError(
        f"Expected a cache of {name} in"
        f" {', '.join(seqio.get_global_cache_dirs()) or 'no directory'}, found"
        f" none. Make it with `seqio_cache_tasks --tasks={name}"
        " --module_import=music_spectrogram_diffusion.tasks"
        " --output_cache_dir=...`."
      )


def _add_cache_dir(directory: str) -> None:
  if directory not in seqio.get_global_cache_dirs():
    seqio.add_global_cache_dirs([directory])


def leave_accelerators_alone() -> None:
  """Keeps TensorFlow from taking the memory of devices that JAX uses."""
  for kind in ("GPU", "TPU"):
    try:
      tf.config.set_visible_devices([], kind)
    except RuntimeError:  # TensorFlow has started on them already.
      pass
