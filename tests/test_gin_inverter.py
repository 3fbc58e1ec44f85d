"""Every gin file of inverters parses, resolves, and shapes what it trains."""

import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy
import soundfile
import typer.testing

import gin
from music_spectrogram_diffusion import checkpoints, inverter, models
from music_spectrogram_diffusion.cli import gin_files, main
from music_spectrogram_diffusion.inverter import discriminators, seanet

ROOT = gin_files.installed() / "inverter"
SINE = pathlib.Path(__file__).parent / "data" / "sine.sf2"
RUNS = {"fast": 3_636_740, "paper": 3_743_617, "small": 986_049}
AUDIO = ("folder", "prepared", "soundfont", "synthesised")
INCLUDES = {"inverter", "adversarial"}
ALONE = {"NUM_WORKERS": 0}


@pytest.fixture(autouse=True)
def no_config():
  yield
  gin.clear_config()


@pytest.fixture
def recordings(tmp_path):
  path = tmp_path / "audio"
  path.mkdir()
  time = np.arange(16000 * 5) / 16000
  soundfile.write(path / "a.wav", 0.3 * np.sin(2 * np.pi * 440 * time), 16000)
  return path


def load(*files, **macros):
  gin_files.load(
    [f"inverter/{name}.gin" for name in files],
    [f"{name} = {value!r}" for name, value in macros.items()],
  )


def num_parameters(tree):
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def learner():
  return gin.query_parameter("run.train_model.learner").scoped_configurable_fn()


def test_every_file_is_tested():
  assert {path.stem for path in ROOT.glob("*.gin")} == {
    *RUNS,
    *AUDIO,
    *INCLUDES,
  }


@pytest.mark.parametrize(("name", "expected"), RUNS.items())
def test_a_run_shapes_its_generator(recordings, name, expected):
  load(name, "folder", AUDIO_DIR=str(recordings), MODEL_DIR="unused")
  made = learner()
  state = jax.eval_shape(made.initial_state, jax.random.key(0))
  assert num_parameters(state.parameters) == expected
  assert (state.discriminators is None) == (name == "fast")
  assert inverter.from_config(made.describe()) == made.generator


def test_discriminators_come_on_top_of_the_fast_inverter(recordings):
  load(
    "fast",
    "adversarial",
    "folder",
    AUDIO_DIR=str(recordings),
    MODEL_DIR="unused",
  )
  made = learner()
  assert made.discriminators is not None
  assert made.weights == inverter.LossWeights(1.0, 100.0, 1.0)


def test_a_run_goes_on_from_the_embedded_inverter(recordings):
  load(
    "fast",
    "folder",
    AUDIO_DIR=str(recordings),
    MODEL_DIR="unused",
    INITIAL_MODEL="default",
  )
  made = learner()
  initial = gin.query_parameter("run.train_model.initial_model")
  initial = initial.scoped_configurable_fn()
  description, parameters = initial.load()
  assert description == made.describe()
  state = jax.eval_shape(made.initial_state, jax.random.key(0))
  fitted = initial.fitted(parameters, state.average)
  np.testing.assert_array_equal(
    fitted["head"]["bias"], parameters["head"]["bias"]
  )


def test_the_small_run_has_the_small_networks(recordings):
  load("small", "folder", AUDIO_DIR=str(recordings), MODEL_DIR="unused")
  assert learner().discriminators.config == discriminators.SMALL
  assert learner().generator == seanet.SMALL


def test_the_embedded_inverter_is_small_on_disk():
  path = checkpoints.find_model() / "inverter.safetensors"
  tensors = safetensors.numpy.load_file(path)
  assert sum(tensor.size for tensor in tensors.values()) <= 4_000_000
  assert {tensor.dtype.name for tensor in tensors.values()} == {"float16"}


def test_audio_of_prepared_datasets_resolves():
  pytest.importorskip("seqio")
  load("fast", "prepared", MODEL_DIR="unused", DATASET="maestro")
  source = gin.query_parameter("run.train_model.train_source")
  assert source.scoped_configurable_fn().dataset == "maestro"


def test_audio_that_is_played_while_one_trains_fits_the_learner(tmp_path):
  load("fast", "soundfont", MODEL_DIR="unused", SOUNDFONT=str(SINE), **ALONE)
  learner().check_batch(first_batch())
  gin.clear_config()
  model = models.DiffusionModel(
    network=models.paper_network("tiny", segment_frames=64, max_tokens=256),
    sampling=models.SamplingConfig(sampler="ddim", num_steps=1),
  )
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  checkpoints.save_model_directory(
    tmp_path / "model",
    {"model": models.to_config(model)},
    jax.tree.map(lambda shape: np.zeros(shape.shape, shape.dtype), shapes),
  )
  load(
    "fast",
    "synthesised",
    MODEL_DIR="unused",
    SOUNDFONT=str(SINE),
    SYNTHESIZER=str(tmp_path / "model"),
    **ALONE,
  )
  batch = first_batch()
  learner().check_batch(batch)
  assert batch["log_mel"].shape == (1, 64, 128)


def first_batch():
  source = gin.query_parameter("run.train_model.train_source")
  batches = source.scoped_configurable_fn()(batch_size=1)
  batch = next(batches)
  batches.close()
  return batch


def test_a_folder_without_songs_to_play_is_named(tmp_path):
  load("fast", "soundfont", MODEL_DIR="unused", MIDI=str(tmp_path))
  source = gin.query_parameter("run.train_model.train_source")
  with pytest.raises(ValueError, match=rf"MIDI.* in {tmp_path}"):
    source.scoped_configurable_fn()(batch_size=1)


def test_the_verb_trains_an_inverter_and_goes_on(
  recordings, tmp_path, kept_programs
):
  def spec_diff(*arguments):
    result = typer.testing.CliRunner().invoke(
      main.app, [*map(str, arguments)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    gin.clear_config()

  tiny = [
    "inverter.SinusoidVocoder.channels=4",
    "inverter.SinusoidVocoder.num_blocks=1",
    "CLIP_FRAMES=24",
    "BATCH_SIZE=1",
    "EVAL_STEPS=1",
    "optimizers.warm_up_then_decay.num_steps=2",  # One program for both runs.
    f"AUDIO_DIR='{recordings}'",
    f"MODEL_DIR='{tmp_path / 'run'}'",
  ]
  for steps in (1, 2):
    spec_diff(
      "train",
      "--gin_file=inverter/fast.gin",
      "--gin_file=inverter/folder.gin",
      *(f"--gin.{binding}" for binding in [*tiny, f"TRAIN_STEPS={steps}"]),
    )
  spec_diff("convert", "run", tmp_path / "run", tmp_path / "out")
  generator, _ = checkpoints.load_inverter(tmp_path / "out")
  assert generator == inverter.SinusoidVocoder(channels=4, num_blocks=1)
