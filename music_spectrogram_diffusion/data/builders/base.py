"""What the builders of the paper's datasets have in common.

A dataset subclasses `SongBuilder`: it finds the songs of the raw dataset, and
names a function that makes a song's examples, with the helpers that this module
hands on: `load_audio`, `load_midi`, `make_notes`, `clean_notes`,
`make_example`. All datasets have the examples that `FEATURES` describes:

* `id`: unique in the dataset.
* `audio` [samples] int16: mono, at the sample rate of `SpectrogramConfig`, full
  scale at 32767; `audio_from_example` gives float32 in [-1, 1].
* `notes`: columns [notes] of equal lengths, those of `notes.Notes` (`onset` and
  `offset` in seconds, float64; `pitch`, `velocity`, `program` int32; `is_drum`
  bool), in order of onset, with sustain applied, programs of the Slakh classes,
  and no overlaps; `notes_from_example` gives `notes.Notes`.

Arrays are stored as bytes: TFDS would round float64 to float32 and write an
int16 in up to ten bytes. Needs TensorFlow Datasets; importing it does not load
TensorFlow.
"""

import abc
from collections.abc import Iterator, Mapping, Sequence
import json
import os
from pathlib import Path
import shutil
import tempfile
from typing import Any

from etils import epath
import numpy as np
import tensorflow_datasets as tfds

from music_spectrogram_diffusion import quietly
from music_spectrogram_diffusion.data.builders import problems as rules
from music_spectrogram_diffusion.data.builders.converting import (
  Convert,
  Converted,
  Progress,
  Song,
  convert_songs,
  read_example,
)
from music_spectrogram_diffusion.data.builders.loading import (
  DEFAULT_VELOCITY,
  SAMPLE_RATE,
  audio_from_example,
  check_tail,
  clean_notes,
  find_root,
  limit_peak,
  load_audio,
  load_midi,
  make_example,
  make_notes,
  notes_from_example,
  read_checksums,
)
from music_spectrogram_diffusion.data.builders.problems import (
  Problems,
  Rule,
  SongError,
)

__all__ = [
  "DEFAULT_VELOCITY",
  "FEATURES",
  "REPORT",
  "SAMPLE_RATE",
  "Problems",
  "Rule",
  "Song",
  "SongBuilder",
  "SongError",
  "array_feature",
  "audio_from_example",
  "check_tail",
  "clean_notes",
  "find_root",
  "limit_peak",
  "load_audio",
  "load_midi",
  "make_example",
  "make_notes",
  "notes_from_example",
  "rules",
]

REPORT = "report.json"
"""Name of the report that lies beside prepared data."""


def array_feature(dtype: type) -> tfds.features.Tensor:
  """A feature for an array of any length, stored as it is."""
  return tfds.features.Tensor(
    shape=(None,), dtype=dtype, encoding=tfds.features.Encoding.BYTES
  )


FEATURES: Mapping[str, Any] = {
  "id": tfds.features.Text(),
  "audio": array_feature(np.int16),
  "notes": {
    "onset": array_feature(np.float64),
    "offset": array_feature(np.float64),
    "pitch": array_feature(np.int32),
    "velocity": array_feature(np.int32),
    "program": array_feature(np.int32),
    "is_drum": array_feature(np.bool_),
  },
}
"""Features of an example, for `tfds.features.FeaturesDict`."""


class SongBuilder(tfds.core.GeneratorBasedBuilder):
  """Builds a dataset of songs from files that were downloaded by hand.

  `download_and_prepare` converts each song once, into a work directory beside
  the data, from which TFDS then writes the dataset; what an interrupted run has
  converted is not converted again. The work directory goes when the dataset
  stands. `report.json` beside the data tells what was left out or mended.

  A subclass has VERSION, MANUAL_DOWNLOAD_INSTRUCTIONS and what stands below.

  Attributes:
    DESCRIPTION: One line on the dataset.
    HOMEPAGE: Where it is published.
    LICENSE: Under which terms.
    EXTRA_FEATURES: Features besides `FEATURES`.
    NUM_SONGS: Songs of the published dataset; None where it is not known.
    convert: Makes the examples of a song: a `staticmethod` of a function of a
      module. It may not depend on the builder.
    num_workers: Processes that convert; 0 for none besides this one.
    on_progress: Called for each song; see `converting.Progress`.
    work_dir: Where converted songs are kept until the end; by default beside
      the data.
    problems: What was wrong, after the conversion.
  """

  DESCRIPTION = ""
  HOMEPAGE = ""
  LICENSE = ""
  EXTRA_FEATURES: Mapping[str, Any] = {}
  NUM_SONGS: int | None = None

  convert: Convert
  num_workers: int = os.cpu_count() or 1
  on_progress: Progress | None = None
  work_dir: Path | None = None

  def __init__(self, **kwargs: Any):
    super().__init__(**kwargs)
    self.problems = Problems()
    # TFDS renames `data_dir` while it writes.
    self._final_dir = self.data_dir

  @abc.abstractmethod
  def find_songs(self, manual_dir: Path, problems: Problems) -> Sequence[Song]:
    """Lists the songs of the raw dataset without reading their audio.

    Args:
      manual_dir: Folder of the download; it exists.
      problems: Counts songs that are left out already here.

    Raises:
      ValueError: This is not the dataset's folder; says what was looked for.
    """

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.DESCRIPTION,
      features=tfds.features.FeaturesDict({**FEATURES, **self.EXTRA_FEATURES}),
      homepage=self.HOMEPAGE,
      license=self.LICENSE,
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
    try:
      manual_dir = Path(dl_manager.manual_dir)
    except AssertionError as error:  # TFDS's word for a folder that is not.
      raise ValueError(" ".join(str(error).split())) from error
    self.problems = Problems()
    songs = self.find_songs(manual_dir, self.problems)
    _check_some_are_there(songs, self.name, manual_dir)
    if self.NUM_SONGS is not None and len(songs) < self.NUM_SONGS:
      missing = self.NUM_SONGS - len(songs)
      self.problems.add(rules.MISSING_SONG, str(manual_dir), missing)
    converted = convert_songs(
      songs,
      type(self).convert,
      self._work_dir(),
      settings=self.info.full_name,
      checksums=read_checksums(manual_dir),
      num_workers=self.num_workers,
      on_progress=self.on_progress,
    )
    self.problems.merge(converted.problems)
    if not converted.examples:
      found = "; ".join(self.problems.lines()) or "no songs"
      raise ValueError(
        f"Expected songs of {self.name} in {manual_dir}, none can be used:"
        f" {found}."
      )
    quietly.import_tensorflow()  # TFDS writes with it.
    self._write_report(converted)
    return {
      split: self._generate_examples(paths)
      for split, paths in converted.examples.items()
    }

  def _generate_examples(
    self, paths: Sequence[Path]
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in paths:
      example = read_example(path)
      yield example["id"], example

  def download_and_prepare(self, **kwargs: Any) -> None:
    """Prepares the dataset, unless it is there; see TFDS for the arguments."""
    # Nothing is downloaded, but TFDS makes a folder for it.
    with tempfile.TemporaryDirectory() as empty:
      super().download_and_prepare(**{"download_dir": empty} | kwargs)
    shutil.rmtree(self._work_dir(), ignore_errors=True)

  def _work_dir(self) -> Path:
    if self.work_dir is not None:
      return Path(self.work_dir) / self.info.full_name
    if "://" in self._final_dir:
      raise ValueError(
        f"Expected a local work directory for {self._final_dir}; name one"
        " (--work_dir)."
      )
    final = Path(self._final_dir)
    return final.with_name(f"{final.name}.songs")

  def _write_report(self, converted: Converted) -> None:
    report = {
      "dataset": self.info.full_name,
      "examples": {k: len(v) for k, v in converted.examples.items()},
      "audio_s": dict(converted.audio_s),
      "problems": self.problems.to_json(),
    }
    path = epath.Path(self.data_dir) / REPORT
    path.write_text(json.dumps(report, indent=2) + "\n")


def _check_some_are_there(
  songs: Sequence[Song], name: str, manual_dir: Path
) -> None:
  """Raises if no song has all its files, as in an archive without audio."""
  missing = None
  for song in songs:
    absent = [path for path in song.files if not path.is_file()]
    if not absent:
      return
    missing = missing or absent[0]
  if missing:
    raise ValueError(
      f"Expected the files of {len(songs)} songs of {name} in {manual_dir};"
      f" none has all of them, the first one lacks {missing}."
    )
