"""Prepares a dataset by its name: from raw files to what tasks read.

Imports what a dataset needs, TensorFlow Datasets among it, when it is asked.
"""

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import importlib
import io
import json
import logging
import os
from pathlib import Path
import sys
from typing import Any

DATASETS = {
  "maestro": "builders.maestro:Maestro",
  "slakh": "builders.slakh:Slakh",
  "slakh_orig": "builders.slakh:SlakhOrig",
  "cerberus4": "builders.cerberus4:Cerberus4",
  "cerberus4_orig": "builders.cerberus4:Cerberus4Orig",
  "guitarset": "builders.guitarset:GuitarSet",
  "guitarset_pickup": "builders.guitarset:GuitarSetPickup",
  "musicnet": "builders.musicnet:Musicnet",
  "musicnet_em": "builders.musicnet:MusicnetEm",
  "urmp": "builders.urmp:Urmp",
  "folder": "folder:Folder",
  "soundfont": "soundfont_dataset:Soundfont",
}
"""Module below `data` and class of the builder of each dataset."""

REPORT = "report.json"
"""Name of the report that lies beside prepared data."""

_PACKAGE = __package__


@dataclasses.dataclass(frozen=True)
class PreparedDataset:
  """A dataset that stands on disk, and what its report says.

  Attributes:
    directory: Where it lies; the builder's `data_dir`.
    examples: Number of examples of each split.
    audio_s: Seconds of audio of each split.
    problems: Lines that tell what was left out or mended, and by which rule.
    is_new: Whether this call has prepared it.
  """

  directory: str
  examples: Mapping[str, int]
  audio_s: Mapping[str, float]
  problems: tuple[str, ...]
  is_new: bool


def prepare_dataset(
  name: str,
  *,
  manual_dir: str | Path,
  data_dir: str | Path,
  work_dir: str | Path | None = None,
  num_workers: int | None = None,
  overwrite: bool = False,
  on_progress: Callable[[int, int, float, str], None] | None = None,
  **settings: Any,
) -> PreparedDataset:
  """Prepares a dataset, or goes on where an interrupted call has ended.

  Args:
    name: One of `DATASETS`.
    manual_dir: Folder of the download.
    data_dir: Where prepared datasets lie, this one in a folder of its name;
      what tasks and `tfds.load` are given. May be remote, as gs://.
    work_dir: Where converted songs are kept until the dataset stands; by
      default beside it.
    num_workers: Processes that convert; 0 for none besides this one. By
      default as many as there are cores.
    overwrite: Whether a dataset that stands is made again. It goes first.
    on_progress: Called for each song with songs done, songs in all, seconds of
      audio and the song's name.
    settings: Of the builder's own, as `midi_dir` of a folder.

  Raises:
    ValueError: There is no such dataset, a package is missing, or the folder
      does not hold the dataset; says what was looked for.
    OSError: Files cannot be written, as on a full disk.
  """
  builder_class = _builder_class(name)
  manual_dir = Path(manual_dir)
  if not manual_dir.is_dir():
    raise ValueError(
      f"Expected a folder with the files of {name}, found no {manual_dir}."
    )
  logging.getLogger("absl").setLevel(logging.ERROR)  # As of what is not there.
  builder = builder_class(data_dir=os.fspath(data_dir), **settings)
  builder.work_dir = Path(work_dir) if work_dir else None
  builder.on_progress = on_progress
  if num_workers is not None:
    builder.num_workers = num_workers
  is_new = overwrite or not builder.is_prepared()
  if is_new:
    _download_and_prepare(builder, manual_dir, overwrite)
  return _read_report(builder, is_new)


def _builder_class(name: str) -> type:
  """Imports the builder of a dataset."""
  if name not in DATASETS:
    raise ValueError(
      f"Expected one of the datasets {', '.join(DATASETS)}; got {name!r}."
    )
  module, _, class_name = DATASETS[name].partition(":")
  try:
    module = importlib.import_module(f"{_PACKAGE}.{module}")
  except ModuleNotFoundError as error:
    if error.name and error.name.startswith(_PACKAGE):
      raise
    raise ValueError(
      f"Preparing {name} needs {error.name}:"
      " `pip install 'music-spectrogram-diffusion[data]'`."
    ) from error
  return getattr(module, class_name)


def _download_and_prepare(
  builder: Any, manual_dir: Path, overwrite: bool
) -> None:
  import tensorflow_datasets as tfds

  tfds.disable_progress_bar()
  mode = tfds.GenerateMode.REUSE_DATASET_IF_EXISTS
  if overwrite:
    mode = tfds.GenerateMode.REUSE_CACHE_IF_EXISTS
  config = tfds.download.DownloadConfig(
    manual_dir=os.fspath(manual_dir), download_mode=mode
  )
  try:
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints.
      builder.download_and_prepare(download_config=config)
  except Exception as error:
    # TFDS writes through TensorFlow, once there is something to write.
    tf = sys.modules.get("tensorflow")
    if tf is not None and isinstance(error, tf.errors.OpError):
      raise OSError(f"{builder.data_dir}: {error.message}") from error
    raise


def _read_report(builder: Any, is_new: bool) -> PreparedDataset:
  from etils import epath

  from music_spectrogram_diffusion.data.builders import problems

  path = epath.Path(builder.data_dir) / REPORT
  report = json.loads(path.read_text())
  found = problems.Problems.from_json(report["problems"])
  return PreparedDataset(
    os.fspath(builder.data_dir),
    report["examples"],
    report["audio_s"],
    tuple(found.lines()),
    is_new,
  )
