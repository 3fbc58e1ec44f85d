import dataclasses
import functools
import json
import pathlib
import shutil

from flax import serialization
import jax
import numpy as np
import optax
import pytest
import typer.testing

from music_spectrogram_diffusion import checkpoints, inverter, models, training
from music_spectrogram_diffusion.checkpoints import t5x
from music_spectrogram_diffusion.cli import main

DATA = pathlib.Path(__file__).parents[1] / "data"
LOADERS = {
  "t5x": t5x.load_t5x_checkpoint,
  "diffusers": checkpoints.load_diffusers_pipeline,
}
MODEL = models.DiffusionModel(network=models.paper_network("tiny"))
CONFIG = models.to_config(MODEL)
START = jax.tree.map(
  lambda leaf: np.full(leaf.shape, 1 / 3, np.float32),
  jax.eval_shape(MODEL.init, jax.random.key(0)),
)


def loss(parameters, batch, key):
  return sum(leaf.sum() for leaf in jax.tree.leaves(parameters)), {}


def kernel_of(parameters):
  return parameters["decoder"]["spec_out_dense"]["kernel"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A folder as training leaves it, and the average of its parameters."""
  path = tmp_path_factory.mktemp("run")
  (path / "model.json").write_text(json.dumps(CONFIG))
  optimizer = optax.sgd(0.1)
  step = functools.partial(training.train_step, loss=loss, optimizer=optimizer)
  state = training.train(
    training.TrainState.create(START, optimizer),
    jax.jit(step, donate_argnums=0),
    training.StepIndexed(lambda step: {"x": np.ones(1, np.float32)}),
    directory=path / "checkpoints",
    num_steps=2,
    key=jax.random.key(0),
  )
  return path, jax.device_get(state.average)


def convert(*arguments):
  """Runs the command in this process; errors come as exceptions."""
  result = typer.testing.CliRunner().invoke(
    main.app, ["convert", *map(str, arguments)], catch_exceptions=False
  )
  assert result.exit_code == 0
  return result


def weights_size(path):
  return (path / "model.safetensors").stat().st_size


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_run_becomes_a_model_directory_of_its_average(run, tmp_path, dtype):
  path, average = run
  output = tmp_path / "a" / "model"
  result = convert("run", path, output, "--dtype", dtype)
  assert result.stdout == f"{output}: written\n"
  config, parameters = checkpoints.load_model_directory(output)
  assert config == {"model": CONFIG}
  expected = kernel_of(average).astype(dtype)
  np.testing.assert_array_equal(kernel_of(parameters), expected)
  assert (expected != kernel_of(START)).all()


def test_the_weights_themselves_and_a_step_can_be_asked_for(run, tmp_path):
  path, average = run
  convert("run", path, tmp_path / "raw", "--raw", "--dtype", "float32")
  convert("run", path, tmp_path / "last", "--step", 2, "--dtype", "float32")
  _, raw = checkpoints.load_model_directory(tmp_path / "raw")
  _, last = checkpoints.load_model_directory(tmp_path / "last")
  np.testing.assert_array_equal(kernel_of(last), kernel_of(average))
  # Two steps of size 0.1 down a slope of 1.
  np.testing.assert_allclose(kernel_of(raw), 1 / 3 - 0.2, rtol=1e-5)
  with pytest.raises(ValueError, match="step 9.*found 2"):
    convert("run", path, tmp_path / "none", "--step", 9)
  assert not (tmp_path / "none").exists()


def test_runs_are_stored_in_float16_unless_told_otherwise(run, tmp_path):
  convert("run", run[0], tmp_path / "small")
  convert("run", run[0], tmp_path / "large", "--dtype", "float32")
  difference = weights_size(tmp_path / "large") - weights_size(
    tmp_path / "small"
  )
  halves = 2 * sum(leaf.size for leaf in jax.tree.leaves(START))
  assert difference == pytest.approx(halves, abs=1000)  # The headers differ.


@pytest.mark.parametrize("kind", ["t5x", "diffusers"])
def test_published_weights_are_converted_as_they_are(tmp_path, kind):
  source, target = DATA / f"{kind}_tiny", tmp_path / "model"
  result = convert(kind, source, target)
  assert result.stdout == f"{target}: written\n"
  config, parameters = checkpoints.load_model_directory(target)
  expected_config, expected = LOADERS[kind](source)
  assert config == {"model": expected_config}
  jax.tree.map(np.testing.assert_array_equal, parameters, expected)
  assert weights_size(target) > 4 * sum(
    leaf.size for leaf in jax.tree.leaves(expected)
  )


def test_published_weights_are_halved_on_request(tmp_path):
  convert("t5x", DATA / "t5x_tiny", tmp_path / "large")
  convert("t5x", DATA / "t5x_tiny", tmp_path / "small", "--dtype", "float16")
  ratio = weights_size(tmp_path / "large") / weights_size(tmp_path / "small")
  assert 1.8 < ratio < 2.0


def test_weights_that_are_nan_are_a_warning(tmp_path):
  source = shutil.copytree(DATA / "t5x_tiny", tmp_path / "t5x")
  path = source / "checkpoint_7" / "checkpoint"
  contents = serialization.msgpack_restore(path.read_bytes())
  scale = np.full(16, np.nan, np.float32)
  contents["optimizer"]["target"]["decoder"]["decoder_norm"]["scale"] = scale
  path.write_bytes(serialization.msgpack_serialize(contents))
  result = convert("t5x", source, tmp_path / "model")
  (line,) = result.stderr.splitlines()
  assert line.startswith("warning: ") and "decoder/decoder_norm/scale" in line


@pytest.mark.parametrize("kind", ["run", "t5x", "diffusers"])
def test_what_cannot_be_converted_is_named_and_leaves_nothing(tmp_path, kind):
  source, target = tmp_path / "source", tmp_path / "model"
  source.mkdir()
  with pytest.raises(ValueError, match=str(source)):
    convert(kind, source, target)
  with pytest.raises(ValueError, match="float16 or float32; got 'int8'"):
    convert(kind, source, target, "--dtype", "int8")
  assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_run_without_checkpoints_is_an_error(tmp_path):
  (tmp_path / "model.json").write_text(json.dumps(CONFIG))
  with pytest.raises(ValueError, match=f"{tmp_path}/checkpoints"):
    convert("run", tmp_path, tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_a_damaged_description_of_a_run_is_an_error_that_names_it(
  run, tmp_path
):
  (tmp_path / "model.json").write_text("{")
  (tmp_path / "checkpoints").symlink_to(run[0] / "checkpoints")
  with pytest.raises(ValueError, match="model.json"):
    convert("run", tmp_path, tmp_path / "out")


@pytest.mark.parametrize("part", [[], 3, None, CONFIG["network"]])
def test_a_description_of_no_model_is_an_error_that_names_it(tmp_path, part):
  (tmp_path / "model.json").write_text(json.dumps(part))
  with pytest.raises(ValueError, match="model.json.*an AutoregressiveModel"):
    convert("run", tmp_path, tmp_path / "out")


def test_weights_that_do_not_fit_the_description_of_a_run_are_named(
  run, tmp_path
):
  other = dataclasses.replace(MODEL.network, num_decoder_layers=1)
  other = dataclasses.replace(MODEL, network=other)
  (tmp_path / "model.json").write_text(json.dumps(models.to_config(other)))
  (tmp_path / "checkpoints").symlink_to(run[0] / "checkpoints")
  with pytest.raises(ValueError, match="decoder/layers_1/mlp/wo/kernel"):
    convert("run", tmp_path, tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_a_directory_that_exists_is_not_replaced(run, tmp_path):
  for command, source in {
    "run": run[0],
    "t5x": DATA / "t5x_tiny",
    "diffusers": DATA / "diffusers_tiny",
  }.items():
    with pytest.raises(ValueError, match=f"new directory, got {tmp_path}"):
      convert(command, source, tmp_path)
  assert not list(tmp_path.iterdir())


def test_two_models_are_mixed_into_a_third(run, tmp_path):
  path, average = run
  old, new, mixed = (tmp_path / name for name in ("old", "new", "mixed"))
  checkpoints.save_model_directory(old, {"model": CONFIG}, START)
  convert("run", path, new, "--dtype", "float32")
  result = convert("mix", old, new, mixed, "--share", 0.25)
  assert result.stdout == f"{mixed}: written\n"
  _, parameters = checkpoints.load_model_directory(mixed)
  expected = 0.75 * kernel_of(START) + 0.25 * kernel_of(average)
  np.testing.assert_array_equal(
    kernel_of(parameters), expected.astype(np.float16)
  )


VOCODER = inverter.SinusoidVocoder(channels=4, num_blocks=1, expansion=1)


@pytest.fixture(scope="module")
def inverter_run(tmp_path_factory):
  """A run of an inverter that has made one step."""
  directory = tmp_path_factory.mktemp("inverter_run")
  learner = training.InverterLearner(
    generator=VOCODER, optimizer=optax.sgd(0.0), reconstruction=_level
  )
  silence = {"audio": np.zeros((1, 30 * 320), np.float32)}
  training.train_model(
    model_dir=directory,
    learner=learner,
    train_source=lambda **_: training.StepIndexed(lambda step: silence),
    total_steps=1,
    batch_size=1,
    partitioner=training.Partitioner(data=1),
    checkpoints=training.CheckpointConfig(save_every=1),
  )
  return directory


def _level(real, generated, config):
  return abs(real - generated).mean()


def test_a_run_of_an_inverter_becomes_a_directory_of_its_own(
  inverter_run, tmp_path
):
  convert("run", inverter_run, tmp_path / "out")
  generator, parameters = checkpoints.load_inverter(tmp_path / "out")
  assert generator == VOCODER
  drawn = training.restore_average(inverter_run / "checkpoints")
  kernel = np.asarray(drawn["head"]["kernel"], np.float16)
  np.testing.assert_array_equal(parameters["head"]["kernel"], kernel)


def test_a_run_of_an_inverter_becomes_the_inverter_of_a_model(
  run, inverter_run, tmp_path
):
  out = tmp_path / "out"
  convert("run", run[0], out)
  before = (out / "model.safetensors").read_bytes()
  convert("run", inverter_run, out)
  assert (out / "model.safetensors").read_bytes() == before
  config, _ = checkpoints.load_model_directory(out)
  assert config["model"]["type"] == "DiffusionModel"
  assert checkpoints.load_inverter(out)[0] == VOCODER


def test_an_inverter_does_not_go_where_something_else_is(
  inverter_run, tmp_path
):
  (tmp_path / "holiday.jpg").touch()
  with pytest.raises(ValueError, match="new directory or that of a model"):
    convert("run", inverter_run, tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]
