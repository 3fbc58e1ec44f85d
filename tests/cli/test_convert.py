import json
import pathlib
import shutil

from flax import serialization
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy
import typer.testing

from music_spectrogram_diffusion import checkpoints, models
from music_spectrogram_diffusion.checkpoints import t5x
from music_spectrogram_diffusion.cli import main

DATA = pathlib.Path(__file__).parents[1] / "data"
LOADERS = {
  "t5x": t5x.load_t5x_checkpoint,
  "diffusers": checkpoints.load_diffusers_pipeline,
}


def convert(*arguments):
  """Runs the command in this process; errors come as exceptions."""
  result = typer.testing.CliRunner().invoke(
    main.app, ["convert", *map(str, arguments)], catch_exceptions=False
  )
  assert result.exit_code == 0
  return result


def stored_dtypes(path):
  tensors = safetensors.numpy.load_file(path / "model.safetensors")
  return {tensor.dtype.name for tensor in tensors.values()}


@pytest.fixture
def run(tmp_path):
  """A training run with one checkpoint."""
  path = tmp_path / "run"
  average = {"decoder": {"scale": np.full(3, 1.5, np.float32)}}
  with ocp.CheckpointManager(path / "checkpoints") as manager:
    manager.save(4, args=ocp.args.StandardSave({"average": average}))
  network = models.paper_network("tiny")
  config = models.to_config(models.DiffusionModel(network=network))
  (path / "model.json").write_text(json.dumps(config))
  return path


@pytest.mark.parametrize("kind", ["t5x", "diffusers"])
def test_published_weights_are_converted_as_they_are(tmp_path, kind):
  source, target = DATA / f"{kind}_tiny", tmp_path / "model"
  result = convert(kind, source, target)
  assert result.stdout == f"{target}: written\n"
  assert stored_dtypes(target) == {"float32"}
  config, parameters = checkpoints.load_model_directory(target)
  expected_config, expected = LOADERS[kind](source)
  assert config == {"model": expected_config}
  jax.tree.map(np.testing.assert_array_equal, parameters, expected)


def test_published_weights_are_halved_on_request(tmp_path):
  target = tmp_path / "model"
  convert("t5x", DATA / "t5x_tiny", target, "--dtype", "float16")
  assert stored_dtypes(target) == {"float16"}


def test_a_run_is_converted_to_its_average_in_float16(run, tmp_path):
  target = tmp_path / "model"
  convert("run", run, target)
  assert stored_dtypes(target) == {"float16"}
  config, parameters = checkpoints.load_model_directory(target)
  assert models.from_config(config["model"]).network.emb_dim == 32
  np.testing.assert_array_equal(parameters["decoder"]["scale"], np.full(3, 1.5))


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
  with pytest.raises(ValueError, match="float16 or float32.*'int8'"):
    convert(kind, source, target, "--dtype", "int8")
  assert [path.name for path in tmp_path.iterdir()] == ["source"]
