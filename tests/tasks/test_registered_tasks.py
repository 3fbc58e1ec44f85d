"""The tasks of the paper's datasets, their mixture, and their cache."""

import itertools
import json
import pathlib

import numpy as np
import pytest

pytest.importorskip("seqio")

import seqio

from music_spectrogram_diffusion import tasks
from music_spectrogram_diffusion.data import (
  published_datasets,
  seqio_source,
  seqio_tasks,
)

PREPARED = (
  *tasks.mega.DATASETS,
  "musicnet_em",
  "folder",
  "soundfont",
)
LENGTHS = {"inputs": 512, "targets": 64, "targets_context": 64}


def test_every_dataset_has_tasks_for_training_evaluation_and_songs():
  published = [f"published_{name}" for name in published_datasets.DATASETS]
  for dataset in (*PREPARED, *published):
    for end, features in {
      "pieces": [],
      "with_context_train": ["inputs", "targets", "targets_context"],
      "with_context_eval": ["inputs", "targets", "targets_context"],
      "without_context_train": ["inputs", "targets"],
      "without_context_eval": ["inputs", "targets"],
      "full_song": ["inputs", "targets"],
    }.items():
      task = seqio.TaskRegistry.get(f"{dataset}_{end}")
      assert list(task.output_features) == features
      assert task.supports_caching == (end != "full_song")


def test_guitarset_and_urmp_have_no_test_split(tmp_path):
  seqio.set_tfds_data_dir_override(str(tmp_path))  # Nothing is prepared there.
  try:
    splits = {
      name: seqio.TaskRegistry.get(f"{name}_pieces").splits
      for name in tasks.mega.DATASETS
    }
  finally:
    seqio.set_tfds_data_dir_override(None)
  without_test = {name for name in splits if "test" not in splits[name]}
  assert without_test == {"guitarset", "urmp"}


def test_splits_that_were_not_prepared_are_not_cached(data_dir):
  task = seqio.TaskRegistry.get("maestro_pieces")
  assert set(task.splits) == {"train", "validation"}  # There is no test split.
  assert set(task.source.splits) == {"train", "validation"}


def test_datasets_are_mixed_by_their_size_to_the_power_of_three_tenths(
  data_dir, tmp_path
):
  for name in tasks.mega.DATASETS:
    folder = tmp_path / name / "1.0.0"
    folder.mkdir(parents=True)
    for file in (data_dir / "maestro" / "1.0.0").iterdir():
      if file.name != "report.json":
        (folder / file.name).symlink_to(file)
    # Forty seconds are one piece.
    seconds = 40.0 * (1024 if name == "slakh" else 1)
    (folder / "report.json").write_text(
      json.dumps({"audio_s": {"train": seconds}})
    )
  seqio.set_tfds_data_dir_override(str(tmp_path))
  mixture = seqio.MixtureRegistry.get("mega_with_context_train")
  rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
  assert len(rates) == 6
  # 1024 ** 0.3 = 2 ** 3.
  assert rates.pop("slakh_with_context_train") == pytest.approx(8.0)
  assert all(rate == pytest.approx(1.0) for rate in rates.values())


def test_without_a_report_the_size_is_not_guessed(data_dir, tmp_path):
  folder = tmp_path / "urmp" / "1.0.0"
  folder.mkdir(parents=True)
  for file in (data_dir / "maestro" / "1.0.0").glob("*s*.json"):
    (folder / file.name).symlink_to(file)
  (folder / "report.json").unlink(missing_ok=True)
  seqio.set_tfds_data_dir_override(str(tmp_path))
  with pytest.raises(ValueError, match="prepare urmp again"):
    seqio.TaskRegistry.get("urmp_with_context_train").size()


def test_a_whole_song_is_one_example(data_dir):
  task = seqio.TaskRegistry.get("urmp_full_song")
  [song] = task.get_dataset(None, split="validation").as_numpy_iterator()
  assert song["id"] == b"validation0"
  assert song["inputs"].shape == (1, 2048)
  assert song["targets"].shape == (250, 128)
  assert song["audio"].shape == (80_000,)


@pytest.fixture(scope="module")
def cache_dir(prepared, tmp_path_factory):
  """Pieces of guitarset, cached by Beam in this process."""
  beam = pytest.importorskip("apache_beam")
  pytest.importorskip("google_crc32c")  # Beam writes TFRecords with it.
  from absl import flags
  from seqio.scripts import cache_tasks_main

  directory = tmp_path_factory.mktemp("cache")
  flags.FLAGS(["seqio_cache_tasks", "--min_shards=2"])
  seqio.set_tfds_data_dir_override(str(prepared))
  seqio.add_global_cache_dirs([str(directory)])
  with beam.Pipeline(runner="DirectRunner") as pipeline:
    cache_tasks_main.run_pipeline(
      pipeline, ["guitarset_pieces"], str(directory)
    )
  yield directory
  seqio.set_tfds_data_dir_override(None)
  seqio.set_global_cache_dirs([])


def test_all_tasks_of_a_dataset_read_one_cache(cache_dir, data_dir):
  for end in seqio_tasks.MIXED_VARIANTS:
    task = seqio.TaskRegistry.get(f"guitarset_{end}")
    assert task.cache_dir == str(cache_dir / "guitarset_pieces")
  # Two pieces of the long song and one of each short one.
  assert task.size() == 4
  assert seqio.TaskRegistry.get("urmp_with_context_train").cache_dir is None


def test_a_cache_gives_what_prepared_data_give(cache_dir, data_dir):
  source = {"name": "guitarset", "lengths": LENGTHS, "variant": "eval"}
  windows = []
  for use_cached in (False, True):
    batches = seqio_source.SeqioSource(
      **source, use_cached=use_cached, num_epochs=1
    )(batch_size=1)
    found = {}
    for batch in batches:
      key = batch["ids"][0], batch["targets"].tobytes()
      found[key] = {k: v for k, v in batch.items() if k != "ids"}
    windows.append(found)
  assert windows[0].keys() == windows[1].keys()
  assert len(windows[0]) > 30
  for key, batch in windows[0].items():
    for name, values in batch.items():
      np.testing.assert_array_equal(values, windows[1][key][name])


def test_training_from_a_cache_resumes_exactly(cache_dir, data_dir):
  source = seqio_source.SeqioSource(
    name="guitarset", lengths=LENGTHS, use_cached=True, cache_dir=cache_dir
  )
  batches = source(batch_size=4, seed=2)
  for _ in range(5):
    next(batches)
  state = batches.get_state()
  expected = list(itertools.islice(batches, 4))
  resumed = source(batch_size=4, seed=2)
  resumed.set_state(state)
  for batch in expected:
    again = next(resumed)
    for name, values in batch.items():
      np.testing.assert_array_equal(again[name], values)


def test_the_page_of_tasks_names_them_all():
  page = pathlib.Path(tasks.__file__).with_name("README.md").read_text()
  for name in (*PREPARED, *seqio_tasks.VARIANTS, "mega", "published_mega"):
    assert f"`{name}`" in page, name
