"""Whole songs to evaluate on: of prepared datasets, or of a plain folder.

Songs of datasets are read through seqio, which is loaded when it is asked for.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import dataclasses
import importlib
import itertools
import logging
import os
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
import warnings

from jaxtyping import Float32
import numpy as np

from music_spectrogram_diffusion import audio, quietly
from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.evaluation.embedding_audio import (
  MAX_DURATION_S,
)

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")

_CONFIG = audio.SpectrogramConfig()
_FULL_SONG, _PIECES = "full_song", "pieces"
_COLUMNS = ("onset", "offset", "pitch", "velocity", "program", "is_drum")
_INT16_SCALE = np.float32(32767)


@dataclasses.dataclass(frozen=True, eq=False)
class Song:
  """A recording and the notes that it plays.

  Attributes:
    dataset: Where it comes from.
    id: Its name there.
    samples: The recording, in [-1, 1] at the rate of `audio.SpectrogramConfig`,
      `MAX_DURATION_S` at most.
    notes: What it plays in that time.
  """

  dataset: str
  id: str
  samples: Float32[np.ndarray, " samples"]
  notes: notes_lib.Notes

  @property
  def key(self) -> str:
    """Its name among all songs."""
    return f"{self.dataset}/{self.id}"


@dataclasses.dataclass(frozen=True)
class Entry:
  """A song that may be loaded.

  Attributes:
    dataset: As of the song.
    id: As of the song.
    load: Gives the song; a ValueError says why it cannot be had.
  """

  dataset: str
  id: str
  load: Callable[[], Song]

  @property
  def key(self) -> str:
    """As of the song."""
    return f"{self.dataset}/{self.id}"


@runtime_checkable
class SongSource(Protocol):
  """Songs in an order that does not change; other processes can read it, too.

  Attributes:
    name: The dataset.
  """

  @property
  def name(self) -> str: ...

  def num_shards(self) -> int:
    """Into how many shares it falls: songs, or files of them."""
    ...

  def num_songs(self) -> int | None:
    """How many songs there are; None if that is not known."""
    ...

  def read(self, shard: int = 0, num_shards: int = 1) -> Iterator[Entry]:
    """Yields the songs of a share."""
    ...


def find_songs(
  name: str,
  *,
  split: str = "test",
  data_dir: str | os.PathLike | None = None,
  module: str = "music_spectrogram_diffusion.tasks",
) -> list[SongSource]:
  """Finds the songs that a name means.

  Args:
    name: A folder of recordings and MIDI files; or a seqio task, the dataset of
      one, or a mixture, each of whose datasets is a source. A task's name may
      have a split of its own behind it: `guitarset:validation`.
    split: Of tasks that have none.
    data_dir: Where `spec-diff prepare` wrote; None for $SPEC_DIFF_DATA_DIR.
    module: Module that registers tasks.

  Raises:
    ValueError: There is nothing of that name, or no such split.
  """
  if Path(name).is_dir():
    return [FolderSongs(os.fspath(name))]
  data_dir = None if data_dir is None else os.fspath(data_dir)
  name, _, own_split = name.partition(":")
  tasks = _subtasks(name, data_dir, module)
  return [
    TaskSongs(task, own_split or split, data_dir, module) for task in tasks
  ]


@dataclasses.dataclass(frozen=True)
class TaskSongs:
  """The songs of a seqio task that is made of songs, whatever it makes of them.

  Attributes:
    task: Name of the task.
    split: Its split.
    data_dir: Where `spec-diff prepare` wrote; None for where tasks look.
    module: Module that registers tasks.
  """

  task: str
  split: str
  data_dir: str | None
  module: str

  @property
  def name(self) -> str:
    """The task, without the ending of tasks of whole songs."""
    return self.task.removesuffix(f"_{_FULL_SONG}")

  def num_shards(self) -> int:
    """One a song where any song can be reached, else one a file."""
    source = self._source()
    num_songs = self.num_songs()
    if source.supports_arbitrary_sharding and num_songs:
      return num_songs
    return max(len(source.list_shards(self.split)), 1)

  def num_songs(self) -> int | None:
    """What the dataset says of itself."""
    return self._source().num_input_examples(self.split)

  def read(self, shard: int = 0, num_shards: int = 1) -> Iterator[Entry]:
    """See `SongSource`.

    Raises:
      ValueError: The data are missing or damaged, or hold no songs.
    """
    import seqio
    import tensorflow as tf

    source = self._source()
    try:
      dataset = source.get_dataset(
        split=self.split,
        shuffle=False,
        shard_info=seqio.ShardInfo(shard, num_shards),
      )
      missing = sorted({"id", "audio", "notes"} - set(dataset.element_spec))
      if missing:
        raise ValueError(
          f"Expected songs with audio and notes of {self.task}, as"
          f" `spec-diff prepare` makes them; found no {', '.join(missing)}."
        )
      for row in dataset.as_numpy_iterator():
        # Bound now: the loop has moved on when it is loaded.
        load = lambda row=row: _song_of_row(self.name, row)  # noqa: E731
        yield Entry(self.name, row["id"].decode(), load)
    except tf.errors.OpError as error:
      reason = error.message.partition("\n")[0]
      raise ValueError(f"Cannot read {self.task}: {reason}") from error

  def _source(self):
    """The task's source, with the split in it."""
    import seqio

    _subtasks(self.task, self.data_dir, self.module)
    source = seqio.TaskRegistry.get(self.task).source
    if self.split not in source.splits:
      raise ValueError(
        f"Expected a split {self.split!r} of {self.task}, found"
        f" {', '.join(source.splits) or 'none'}; --split names one."
      )
    return source


def _subtasks(name: str, data_dir: str | None, module: str) -> list[str]:
  """Tasks that a name means, one a dataset; those of whole songs, if any."""
  # TFDS tells of itself, at length.
  logging.getLogger("absl").setLevel(logging.ERROR)
  try:
    tf = quietly.import_tensorflow()
    import seqio
  except ModuleNotFoundError as error:
    raise ValueError(
      f"Songs of the task {name} need {error.name}:"
      " `pip install 'music-spectrogram-diffusion[data]'`; a folder of"
      " recordings and MIDI files does without."
    ) from error
  with contextlib.suppress(RuntimeError):  # It is running already.
    tf.config.set_visible_devices([], "GPU")  # JAX has it.
  importlib.import_module(module)
  if data_dir is not None:
    seqio.set_tfds_data_dir_override(data_dir)
  known = [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]
  endings = ("", f"_{_FULL_SONG}", "_with_context_eval")
  found = [name + ending for ending in endings if name + ending in known]
  if not found:
    datasets = sorted(
      task.removesuffix(f"_{_FULL_SONG}")
      for task in known
      if task.endswith(_FULL_SONG)
    )
    raise ValueError(
      f"Expected a folder, a task, a mixture or a dataset, found no {name}."
      f" There are the datasets {', '.join(datasets)}."
    )
  provider = seqio.get_mixture_or_task(found[0])
  names = []
  for task in seqio.get_subtasks(provider):
    dataset = getattr(task, "pieces", "").removesuffix(f"_{_PIECES}")
    whole = f"{dataset}_{_FULL_SONG}"
    names.append(whole if whole in known else task.name)
  return names


def _song_of_row(dataset: str, row: Mapping[str, Any]) -> Song:
  """A song of what docs/datasets.md describes."""
  return first_minutes(
    dataset,
    row["id"].decode(),
    row["audio"].astype(np.float32) / _INT16_SCALE,
    notes_lib.Notes.from_columns(*(row["notes"][name] for name in _COLUMNS)),
  )


@dataclasses.dataclass(frozen=True)
class FolderSongs:
  """Recordings and MIDI files that lie side by side and share their names.

  Programs become the first ones of their Slakh classes, as in datasets.

  Attributes:
    folder: Searched with its subfolders, but not for hidden files.
  """

  folder: str

  @property
  def name(self) -> str:
    """The folder's own name."""
    return Path(self.folder).resolve().name

  def num_shards(self) -> int:
    """One a song."""
    return len(self._pairs())

  def num_songs(self) -> int:
    """Pairs."""
    return len(self._pairs())

  def read(self, shard: int = 0, num_shards: int = 1) -> Iterator[Entry]:
    """See `SongSource`.

    Raises:
      ValueError: There are no pairs.
    """
    for midi, recording in self._pairs()[shard::num_shards]:
      id = str(midi.relative_to(self.folder).with_suffix(""))

      def load(id=id, midi=midi, recording=recording) -> Song:
        notes = notes_lib.to_slakh_classes(notes_lib.read_midi(midi))
        samples = audio.read_audio(recording, _CONFIG.sample_rate)
        return first_minutes(self.name, id, samples, notes)

      yield Entry(self.name, id, load)

  def _pairs(self) -> list[tuple[Path, Path]]:
    """MIDI files and their recordings, in order."""
    visible = [
      path
      for path in sorted(Path(self.folder).rglob("*"))
      if not path.name.startswith(".") and path.is_file()
    ]
    recordings = {
      path.with_suffix(""): path
      for path in visible
      if path.suffix.lower() in AUDIO_SUFFIXES
    }
    scores = [
      path for path in visible if path.suffix.lower() in notes_lib.MIDI_SUFFIXES
    ]
    pairs = [
      (path, recordings[path.with_suffix("")])
      for path in scores
      if path.with_suffix("") in recordings
    ]
    if not pairs:
      raise ValueError(
        f"Expected recordings ({', '.join(AUDIO_SUFFIXES)}) in {self.folder}"
        " with MIDI files of the same names beside them; found none."
      )
    if len(pairs) < len(scores):
      warnings.warn(
        f"{len(scores) - len(pairs)} MIDI files in {self.folder} have no"
        " recording of their name beside them; they are left out.",
        stacklevel=2,
      )
    return pairs


@dataclasses.dataclass(frozen=True)
class FirstSongs:
  """The first songs of a source.

  Attributes:
    source: The source.
    count: How many.
  """

  source: SongSource
  count: int

  @property
  def name(self) -> str:
    """The source's."""
    return self.source.name

  def num_shards(self) -> int:
    """One a song."""
    return self.num_songs()

  def num_songs(self) -> int:
    """As many as there are, `count` at most."""
    num_songs = self.source.num_songs()
    return self.count if num_songs is None else min(num_songs, self.count)

  def read(self, shard: int = 0, num_shards: int = 1) -> Iterator[Entry]:
    """See `SongSource`."""
    entries = itertools.islice(self.source.read(), self.count)
    return itertools.islice(entries, shard, None, num_shards)


def first_minutes(
  dataset: str,
  id: str,
  samples: Float32[np.ndarray, " samples"],
  notes: notes_lib.Notes,
) -> Song:
  """A song cut to `MAX_DURATION_S`.

  Raises:
    ValueError: The recording has no samples, or holds NaN or infinity.
  """
  samples = samples[: round(MAX_DURATION_S * _CONFIG.sample_rate)]
  if not len(samples) or not np.isfinite(samples).all():
    what = "NaN or infinity" if len(samples) else "no samples"
    raise ValueError(f"Expected a recording of finite samples, found {what}.")
  notes = notes[notes.onset < MAX_DURATION_S]
  offset = np.minimum(notes.offset, MAX_DURATION_S)
  return Song(dataset, id, samples, dataclasses.replace(notes, offset=offset))
