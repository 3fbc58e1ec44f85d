"""Training by a real t5x: run where a checkout of it can be imported."""

import copy
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from music_spectrogram_diffusion import checkpoints, models
from music_spectrogram_diffusion.cli import gin_files

pytest.importorskip("t5x", reason="t5x comes from a checkout, on PYTHONPATH")
pytest.importorskip("seqio")

GIN = gin_files.installed() / "t5x"
LENGTHS = {"inputs": 24, "targets": 16, "targets_context": 16}
MEL_BINS = 128

# A task over TFRecords, in a module of its own as t5x wants it.
TASK = """
import functools
import seqio
import tensorflow as tf

def reshaped(dataset):
  def reshape(example):
    return {
      "inputs": tf.cast(example["inputs"], tf.int32),
      **{
        name: tf.reshape(example[name], [-1, 128])
        for name in ("targets", "targets_context")
      },
    }
  return dataset.map(reshape)

tokens = seqio.Feature(seqio.PassThroughVocabulary(1536), dtype=tf.int32,
                       add_eos=False, required=False)
frames = seqio.ContinuousFeature(dtype=tf.float32, rank=2, add_eos=False,
                                 required=False)
sequence = functools.partial(tf.io.FixedLenSequenceFeature, [],
                             allow_missing=True)
seqio.TaskRegistry.add(
  "tiny_songs",
  source=seqio.TFExampleDataSource(
    split_to_filepattern={{"train": "{path}", "validation": "{path}"}},
    feature_description={{
      "inputs": sequence(tf.int64),
      "targets": sequence(tf.float32),
      "targets_context": sequence(tf.float32),
    }},
  ),
  preprocessors=[reshaped],
  output_features={{
    "inputs": tokens, "targets": frames, "targets_context": frames,
  }},
)
""".replace("{{", "{").replace("}}", "}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Where t5x is started: a task and its records, and a run beside them."""
  import tensorflow as tf

  folder = tmp_path_factory.mktemp("t5x")
  rng = np.random.default_rng(0)
  path = folder / "songs.tfrecord"

  def floats(num_frames):
    values = rng.uniform(-11, 3, num_frames * MEL_BINS)
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))

  with tf.io.TFRecordWriter(str(path)) as writer:
    for tokens in rng.integers(3, 1391, (8, 10)):
      integers = tf.train.Int64List(value=[*tokens.tolist(), 1])
      features = {
        "inputs": tf.train.Feature(int64_list=integers),
        "targets": floats(LENGTHS["targets"]),
        "targets_context": floats(9),
      }
      example = tf.train.Example(features=tf.train.Features(feature=features))
      writer.write(example.SerializeToString())
  (folder / "tiny_task.py").write_text(TASK.replace("{path}", str(path)))
  return folder


def train(folder, name, steps):
  """Runs t5x's launcher on a tiny network."""
  command = [
    *(sys.executable, "-m", "t5x.train"),
    f"--gin_search_paths={GIN}",
    f"--gin_file={name}.gin",
    f"--gin.MODEL_DIR='{folder / name}'",
    "--gin.MIXTURE_OR_TASK_NAME='tiny_songs'",
    "--gin.MIXTURE_OR_TASK_MODULE='tiny_task'",
    f"--gin.TASK_FEATURE_LENGTHS={LENGTHS}",
    f"--gin.TRAIN_STEPS={steps}",
    "--gin.BATCH_SIZE=2",
    "--gin.EVAL_PERIOD=2",
    "--gin.EVAL_STEPS=1",
    "--gin.CHECKPOINT_PERIOD=2",
    "--gin.models.paper_network.size='tiny'",
  ]
  paths = [str(folder), *sys.path]
  environment = os.environ | {
    "PYTHONPATH": os.pathsep.join(filter(None, paths))
  }
  environment.pop("JAX_NUMPY_DTYPE_PROMOTION", None)  # t5x counts on another.
  result = subprocess.run(
    command,
    cwd=folder,
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr[-4000:]
  return result.stderr


@pytest.fixture(scope="module")
def run(folder):
  train(folder, "base_with_context", 2)
  return folder / "base_with_context"


def test_t5x_saves_and_goes_on(folder, run):
  assert (run / "checkpoint_2").is_dir()
  said = train(folder, "base_with_context", 4)
  assert (run / "checkpoint_4").is_dir()
  assert "checkpoint_2" in said  # Restored from there.


def test_what_t5x_saves_becomes_a_model_that_renders(run, tmp_path):
  checkpoints.convert_published(run, tmp_path / "model")
  config, parameters = checkpoints.load_model_directory(tmp_path / "model")
  model = models.from_config(config["model"])
  assert model.network.segment_frames == LENGTHS["targets"]
  context = np.zeros((1, LENGTHS["targets"], MEL_BINS), np.float32)
  frames = model.predict(
    parameters,
    np.ones((1, LENGTHS["inputs"]), np.int32),
    context,
    np.zeros(context.shape[:2], bool),
    jax.random.key(0),
    num_steps=2,
  )
  assert np.isfinite(frames).all()
  assert json.loads((run / "model.json").read_text()) == config["model"]


@pytest.mark.parametrize(
  ("name", "expected"),
  {
    "small_autoregressive": 44_979_200,
    "small": 84_956_160,
    "small_with_context": 104_035_840,
    "base_with_context": 411_665_664,
    "large_with_context": 1_453_894_656,
  }.items(),
)
def test_every_gin_file_shapes_a_model_with_named_axes(
  monkeypatch, name, expected
):
  from t5x import train

  import gin

  # As where t5x's launcher is what was started.
  monkeypatch.setattr(
    sys.modules["__main__"], "train", train.train, raising=False
  )
  root = pathlib.Path(train.__file__).parents[1]
  gin.clear_config()
  try:
    with monkeypatch.context() as patch:
      patch.setattr(gin.config, "_LOCATION_PREFIXES", [str(GIN), str(root)])
      gin.parse_config_files_and_bindings(
        [f"{name}.gin"],
        ["MODEL_DIR = 'run'", "MIXTURE_OR_TASK_NAME = 'songs'"],
      )
    model = copy.deepcopy(gin.query_parameter("%MODEL"))
  finally:
    gin.clear_config()
  lengths = {"note_tokens": (1, 2048)} | {
    part: (1, 256, 128)[: 2 + (not part.endswith("_mask"))]
    for part in ("context", "context_mask", "targets", "targets_mask")
  }
  variables = jax.eval_shape(
    lambda: model.get_initial_variables(jax.random.key(0), lengths)
  )
  sizes = [leaf.size for leaf in jax.tree.leaves(variables["params"])]
  assert sum(sizes) == expected
