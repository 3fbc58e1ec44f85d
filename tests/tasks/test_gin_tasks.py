"""Each of gin/tasks trains each of the paper's models with one command."""

import copy

import jax
import pytest

pytest.importorskip("seqio")

import seqio

import gin
from music_spectrogram_diffusion.cli import gin_files

FILES = sorted((gin_files.installed() / "tasks").glob("*.gin"))
NAMES = [path.stem for path in FILES if path.stem != "seqio"]
MODELS = ("small_autoregressive", "small", "small_with_context")
LENGTHS = {"inputs": 256, "targets": 32, "targets_context": 32}
NETWORK = {
  f"models.NetworkConfig.{name}": value
  for name, value in dict(
    emb_dim=16,
    num_heads=1,
    mlp_dim=16,
    num_encoder_layers=1,
    num_context_layers=1,
    num_decoder_layers=1,
  ).items()
}


@pytest.fixture(autouse=True)
def no_config():
  yield
  gin.clear_config()
  seqio.set_tfds_data_dir_override(None)


def load(*files, bindings=(), **macros):
  macros = [f"{name} = {value!r}" for name, value in macros.items()]
  gin_files.load([*files], [*bindings, *macros])


def resolved(parameter):
  return copy.deepcopy(gin.query_parameter(f"run.train_model.{parameter}"))


def test_there_is_a_file_for_each_dataset_of_the_paper():
  assert NAMES == [
    *("cerberus4", "folder", "guitarset", "maestro"),
    *("mega", "musicnet", "slakh", "soundfont", "urmp"),
  ]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_gives_each_model_the_task_that_it_needs(name):
  for model in MODELS:
    load(f"{model}.gin", f"tasks/{name}.gin", MODEL_DIR="run")
    source = resolved("train_source")
    assert source.split == "train"
    assert resolved("eval_source").split == "validation"
    context = "with" if model.endswith("_with_context") else "without"
    assert source.provider().name == f"{name}_{context}_context_train"
    gin.clear_config()


def test_another_task_or_mixture_can_be_named_on_the_command_line():
  load(
    "small_with_context.gin",
    "tasks/mega.gin",
    MODEL_DIR="run",
    TRAIN_TASK_NAME="published_mega",
    EVAL_TASK_NAME="maestro_with_context_eval",
  )
  names = [
    resolved(source).provider().name
    for source in ("train_source", "eval_source")
  ]
  assert names == [
    "published_mega_with_context_train",
    "maestro_with_context_eval",
  ]


def test_each_file_trains_for_two_steps(prepared):
  step = None
  for name in NAMES:
    load(
      "local_tiny.gin",
      f"tasks/{name}.gin",
      MODEL_DIR="run",
      bindings=["learners.fit_lengths.network = @models.NetworkConfig()"],
      DATA_DIR=str(prepared),
      TASK_FEATURE_LENGTHS=LENGTHS,
      **NETWORK,
    )
    learner = resolved("learner")
    batches = resolved("train_source")(batch_size=2, seed=1)
    if step is None:  # All files train the same model.
      step = jax.jit(learner.step)
      initial = jax.jit(learner.initial_state)(jax.random.key(0))
    state = initial
    for _ in range(2):
      batch = next(batches)
      assert batch.pop("ids").shape == (2,)
      learner.check_batch(batch)
      state, metrics = step(state, batch, jax.random.key(1))
    batches.close()
    assert int(state.step) == 2
    assert 0.5 < float(metrics["loss"]) < 3.0
    gin.clear_config()
