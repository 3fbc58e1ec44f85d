"""Every gin file parses, resolves, and shapes what it trains."""

import copy
import pathlib
from unittest import mock

import jax
import numpy as np
import pytest
import safetensors.numpy

import gin
from music_spectrogram_diffusion import data, diffusion, models, notes
from music_spectrogram_diffusion.cli import gin_files

ROOT = gin_files.installed()
PAPER = {
  "small_autoregressive": 44_979_200,  # Without FiLM and noise time.
  "small": 84_956_160,
  "small_with_context": 104_035_840,
  "base_with_context": 411_665_664,
  "large_with_context": 1_453_894_656,
}
RUNS = PAPER | {
  "local_tiny": 266_784 - 1536 * 32,
  "aligned": 7_107_744,
  "aligned_gpu": 11_606_912,
}


@pytest.fixture(autouse=True)
def no_config():
  yield
  gin.clear_config()


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
  """A directory of one prepared song, a minute of one held note."""
  path = tmp_path_factory.mktemp("songs")
  columns = {
    "onset": np.zeros(1),
    "offset": np.full(1, 60.0),
    "pitch": np.full(1, 60, np.int32),
    "velocity": np.full(1, 90, np.int32),
    "program": np.zeros(1, np.int32),
    "is_drum": np.zeros(1, bool),
  }
  log_mel = np.linspace(-11, 3, 3000 * 128).reshape(3000, 128)
  safetensors.numpy.save_file(
    columns | {"log_mel": log_mel.astype(np.float16)},
    path / "held.safetensors",
  )
  return path


@pytest.fixture
def load(songs, tmp_path):
  def load(*files, **macros):
    places = {"MODEL_DIR": str(tmp_path / "run"), "DATA_DIR": str(songs)}
    gin_files.load(
      files,
      [
        f"{name} = {value!r}"
        for name, value in (places | macros).items()
        if value is not None
      ],
    )

  return load


def resolved(parameter):
  """What gin would pass to a parameter."""
  return copy.deepcopy(gin.query_parameter(parameter))


def num_parameters(tree):
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def learner_of(load, name, **macros):
  load(f"{name}.gin", "data/arrays.gin", **macros)
  return resolved("run.train_model.learner")


def test_every_file_of_a_run_is_tested():
  """A new one has to be added to `RUNS`."""
  includes = {"train", "model", "paper", "diffusion"}
  assert {path.stem for path in ROOT.glob("*.gin")} - includes == {*RUNS}
  data_files = {path.stem for path in ROOT.glob("data/*.gin")}
  assert data_files == {"arrays", "soundfont"}


@pytest.mark.parametrize(("name", "expected"), RUNS.items())
def test_a_run_shapes_its_model(load, name, expected):
  learner = learner_of(load, name)
  state = jax.eval_shape(learner.initial_state, jax.random.key(0))
  assert num_parameters(state.parameters) == expected
  assert num_parameters(state.average) == expected
  if name in PAPER:
    # Factored second moments are a small part of what Adam keeps.
    assert num_parameters(state.optimizer) < 0.02 * expected


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_s_recipe(load, name):
  learner = learner_of(load, name)
  assert resolved("run.train_model.batch_size") == 1024
  assert resolved("run.train_model.total_steps") == 500_000
  assert learner.model.network.dropout_rate == 0.1
  assert learner.model.vocabulary.velocity_bins == 1
  assert models.from_config(learner.describe()) == learner.model


@pytest.mark.parametrize("name", ["small", "small_with_context"])
def test_the_paper_s_diffusion(load, name):
  learner = learner_of(load, name)
  assert learner.loss_options["objective"] == models.Objective(
    drop_condition=0.1
  )
  assert learner.model.sampling == models.SamplingConfig(
    sampler="ddpm", num_steps=1000, guidance_weight=2.0
  )


def test_a_learning_rate_is_the_optimizer_s_and_what_is_shown(load):
  load("small.gin", "data/arrays.gin", LEARNING_RATE=2e-3)
  for parameter in (
    "optimizers.adafactor.learning_rate",
    "metrics.training_summaries.learning_rate",
  ):
    assert resolved(parameter) == 2e-3
  load("aligned.gin", "data/arrays.gin", LEARNING_RATE=2e-3)
  rate = resolved("metrics.training_summaries.learning_rate")
  assert float(rate(1000)) == pytest.approx(2e-3)
  assert float(rate(4999)) == pytest.approx(0.03 * 2e-3)


def test_memory_can_be_saved(load):
  load("small.gin", "data/arrays.gin", DTYPE="bfloat16", REMAT=True)
  network = resolved("run.train_model.learner").model.network
  assert (network.dtype, network.remat) == ("bfloat16", True)


def test_the_autoregressive_model_is_dithered(load):
  assert learner_of(load, "small_autoregressive").model.dither == 0.2


@pytest.mark.parametrize("name", ["local_tiny", "small_autoregressive"])
def test_lengths_reach_the_network_and_the_data(load, name):
  lengths = {"inputs": 32, "targets": 16, "targets_context": 16}
  learner = learner_of(load, name, TASK_FEATURE_LENGTHS=lengths)
  source = resolved("run.train_model.train_source")
  batch = next(source(batch_size=2, host_index=0, host_count=1, seed=0))
  batch.pop("ids", None)  # As the loop does.
  learner.check_batch(batch)
  assert batch["targets"].shape == (2, 16, 128)


def test_a_step_of_a_run_can_be_traced(load):
  lengths = {"inputs": 32, "targets": 16, "targets_context": 16}
  learner = learner_of(load, "local_tiny", TASK_FEATURE_LENGTHS=lengths)
  state = jax.eval_shape(learner.initial_state, jax.random.key(0))
  source = resolved("run.train_model.eval_source")
  batch = next(source(batch_size=2, host_index=0, host_count=1, seed=0))
  batch.pop("ids", None)  # As the loop does.
  after, metrics = jax.eval_shape(learner.step, state, batch, jax.random.key(1))
  assert jax.tree.structure(after) == jax.tree.structure(state)
  assert "loss" in metrics


def test_a_host_s_share_is_its_part_of_the_batch(load):
  load("local_tiny.gin", "data/arrays.gin")
  source = resolved("run.train_model.train_source")

  def targets(**share):
    return next(source(seed=0, **share))["targets"]

  whole = targets(batch_size=2, host_index=0, host_count=1)
  for host in range(2):
    part = targets(batch_size=1, host_index=host, host_count=2)
    np.testing.assert_array_equal(part[0], whole[host])


def test_the_default_s_recipe(load, songs, tmp_path):
  learner = learner_of(load, "aligned")
  assert learner.model.network == models.aligned_network()
  assert learner.model.vocabulary == notes.Vocabulary(32, describe_ties=True)
  assert learner.initialize.__wrapped__ is models.harmonic_init
  objective = learner.loss_options["objective"]
  assert (objective.drop_context, objective.noise_draws) == (0.25, 1)
  assert float(
    objective.times(jax.random.key(0), 1000).mean()
  ) == pytest.approx(2 / 3, abs=1e-3)
  made = learner.model.parameterization
  assert type(made) is diffusion.parameterization.StandardizedX0
  assert learner.model.sampling.overlap_frames == 16
  # What was measured stays with a run, whatever becomes of the data.
  (tmp_path / "run" / "checkpoints" / "100").mkdir(parents=True)
  other = learner_of(load, "aligned", DATA_DIR=str(tmp_path / "gone"))
  assert other.describe() == learner.describe()


def test_the_default_on_a_gpu_computes_in_bfloat16(load):
  learner = learner_of(load, "aligned_gpu")
  assert learner.model.network.dtype == "bfloat16"
  state = jax.eval_shape(learner.initial_state, jax.random.key(0))
  assert {leaf.dtype for leaf in jax.tree.leaves(state.parameters)} == {
    np.dtype("float32")
  }
  assert resolved("run.train_model.batch_size") == 256


def test_songs_of_others_are_trained_on_and_not_evaluated_on(load, tmp_path):
  with pytest.raises(ValueError, match="Expected MIDI files"):
    load(
      "local_tiny.gin", "data/soundfont.gin", DATA_DIR=None, MIDI=str(tmp_path)
    )
    source = resolved("run.train_model.train_source")
    source(batch_size=1)
  notes.write_midi(
    notes.Notes.from_columns([0.0], [1.0], [60], [90]), tmp_path / "song.mid"
  )
  sine = str(pathlib.Path(__file__).parent / "data" / "sine.sf2")
  load(
    "local_tiny.gin",
    "data/soundfont.gin",
    DATA_DIR=None,
    SOUNDFONT=sine,
    MIDI=str(tmp_path),
    MIDI_SHARE=0.5,
  )
  made = {}
  for kind in ("train", "eval"):
    source = resolved(f"run.train_model.{kind}_source")
    with mock.patch.object(data, "LiveWindows") as live:
      live.side_effect = StopIteration  # Nothing is to be played here.
      with pytest.raises(StopIteration):
        source(batch_size=1)
    made[kind] = live.call_args.kwargs["pieces"]
  assert made["train"] == data.WithSongs((tmp_path / "song.mid",), 0.5)
  assert made["eval"] is data.with_songs(None, 0.5)


def test_songs_are_played_by_workers_meanwhile(load):
  sine = str(pathlib.Path(__file__).parent / "data" / "sine.sf2")
  load("local_tiny.gin", "data/soundfont.gin", DATA_DIR=None, SOUNDFONT=sine)
  share = dict(batch_size=2, host_index=1, host_count=3, seed=4)
  for kind, num_workers in (("train", 2), ("eval", 0)):
    source = resolved(f"run.train_model.{kind}_source")
    with mock.patch.object(data, "LiveWindows") as live:
      live.side_effect = StopIteration  # Nothing is to be played here.
      with pytest.raises(StopIteration):
        source(**share)
    assert live.call_args.kwargs["num_workers"] == num_workers
    assert share.items() <= live.call_args.kwargs.items()
