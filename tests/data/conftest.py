"""Prepared songs, as `spec-diff prepare` writes them, for tests of tasks."""

import json

import numpy as np
import pytest

DURATIONS_S = {
  "train": [41.0, 3.0, 2.0, 4.0, 3.0],
  "validation": [15.0, 6.0],
}
"""Of the songs; the first one is longer than a piece."""


def store_songs(data_dir, dataset, durations_s=DURATIONS_S, num_files=2):
  """Writes songs of noise and generated pieces, and their report.

  Returns:
    The examples of each split.
  """
  import tensorflow_datasets as tfds

  from music_spectrogram_diffusion import data, notes
  from music_spectrogram_diffusion.data.builders import base

  def example(split, index, duration_s):
    rng = np.random.default_rng([len(split), index])
    samples = rng.normal(size=int(duration_s * base.SAMPLE_RATE)) / 10
    piece = data.generate_piece(100 * len(split) + index, duration_s)
    return base.make_example(
      f"{split}{index}",
      np.clip(samples, -1, 1).astype(np.float32),
      notes.to_slakh_classes(piece),
    )

  examples = {
    split: [example(split, i, s) for i, s in enumerate(seconds)]
    for split, seconds in durations_s.items()
  }
  tfds.disable_progress_bar()
  tfds.dataset_builders.store_as_tfds_dataset(
    name=dataset,
    version="1.0.0",
    features=tfds.features.FeaturesDict(base.FEATURES),
    split_datasets={
      split: [(song["id"], song) for song in songs]
      for split, songs in examples.items()
    },
    data_dir=data_dir,
    download_config=tfds.download.DownloadConfig(num_shards=num_files),
  )
  report = {"audio_s": {k: sum(v) for k, v in durations_s.items()}}
  path = data_dir / dataset / "1.0.0" / base.REPORT
  path.write_text(json.dumps(report))
  return examples


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
  """A data directory with the dataset `maestro`, and its examples by split."""
  pytest.importorskip("seqio")
  directory = tmp_path_factory.mktemp("prepared")
  return directory, store_songs(directory, "maestro")


@pytest.fixture
def data_dir(prepared):
  """The data directory, looked for data in while the test runs."""
  import seqio

  seqio.set_tfds_data_dir_override(str(prepared[0]))
  yield prepared[0]
  seqio.set_tfds_data_dir_override(None)
