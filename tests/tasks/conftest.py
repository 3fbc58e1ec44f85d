"""All datasets of the tasks, prepared: the same few songs under each name."""

import importlib.util
from pathlib import Path

import pytest

DATASETS = (
  "maestro",
  "slakh",
  "cerberus4",
  "guitarset",
  "musicnet",
  "musicnet_em",
  "urmp",
  "folder",
  "soundfont",
)


def _store_songs(*args, **settings):
  path = Path(__file__).parents[1] / "data" / "conftest.py"
  spec = importlib.util.spec_from_file_location("prepared_songs", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.store_songs(*args, **settings)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
  """A data directory with all datasets."""
  pytest.importorskip("seqio")
  directory = tmp_path_factory.mktemp("all_prepared")
  first, *others = DATASETS
  durations_s = {"train": [41.0, 3.0, 2.0], "validation": [5.0]}
  _store_songs(directory, first, durations_s, num_files=1)
  for name in others:
    (directory / name).symlink_to(directory / first)
  return directory


@pytest.fixture
def data_dir(prepared):
  """The data directory, looked for data in while the test runs."""
  import seqio

  seqio.set_tfds_data_dir_override(str(prepared))
  yield prepared
  seqio.set_tfds_data_dir_override(None)
