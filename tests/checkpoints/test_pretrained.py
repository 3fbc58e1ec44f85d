import pathlib
import shutil
import types

import jax
import numpy as np
import pytest
import safetensors.numpy

from music_spectrogram_diffusion import cache, checkpoints
from music_spectrogram_diffusion.checkpoints import pretrained, registry

DATA = pathlib.Path(__file__).parents[1] / "data"
PIPELINE = DATA / "diffusers_tiny"


@pytest.fixture(autouse=True)
def cache_directory(tmp_path, monkeypatch):
  path = tmp_path / "cache"
  monkeypatch.setenv(cache.CACHE_VARIABLE, str(path))
  return path


@pytest.fixture
def pipeline(tmp_path):
  """A copy of the tiny pipeline, to be changed."""
  return shutil.copytree(PIPELINE, tmp_path / "pipeline")


def conversions(cache_directory):
  return [path for path in (cache_directory / "converted").glob("[!.]*")]


def test_a_model_directory_is_taken_as_it_is(tmp_path, cache_directory):
  config, parameters = checkpoints.load_diffusers_pipeline(PIPELINE)
  path = tmp_path / "model"
  checkpoints.save_model_directory(path, {"model": config}, parameters)
  assert checkpoints.find_model(path) == path
  assert checkpoints.find_model(str(path)) == path
  assert not cache_directory.exists()


def test_without_a_name_it_is_the_model_of_the_package(tmp_path, monkeypatch):
  (tmp_path / "config.json").touch()
  monkeypatch.setattr(registry, "_PACKAGE_MODEL", tmp_path)
  assert checkpoints.find_model() == tmp_path
  assert checkpoints.find_model("default") == tmp_path
  # Whatever else is called so where the user happens to be.
  (tmp_path / "default").mkdir()
  monkeypatch.chdir(tmp_path)
  assert checkpoints.find_model() == tmp_path


def test_a_pipeline_is_converted_once(cache_directory, capsys):
  path = checkpoints.find_model(PIPELINE)
  said = capsys.readouterr().err
  assert said == (
    f"Converting {PIPELINE} into {path}, once; inverter: Griffin-Lim.\n"
  )
  assert checkpoints.find_model(PIPELINE) == path
  assert capsys.readouterr().err == ""
  assert conversions(cache_directory) == [path]
  config, parameters = checkpoints.load_model_directory(path)
  expected_config, expected = checkpoints.load_diffusers_pipeline(PIPELINE)
  assert config["model"] == expected_config
  jax.tree.map(np.testing.assert_array_equal, parameters, expected)


def test_a_path_is_the_same_from_anywhere(pipeline, monkeypatch):
  path = checkpoints.find_model(pipeline)
  monkeypatch.chdir(pipeline.parent)
  assert path.name[-16:] == checkpoints.find_model("pipeline").name[-16:]


def test_a_pipeline_that_has_changed_is_converted_again(pipeline):
  path = checkpoints.find_model(pipeline)
  weights = pipeline / "decoder" / "diffusion_pytorch_model.safetensors"
  tensors = safetensors.numpy.load_file(weights)
  tensors["decoder_norm.weight"] += 1
  safetensors.numpy.save_file(tensors, weights)
  assert checkpoints.find_model(pipeline) != path


def test_the_inverter_of_a_pipeline_comes_along(pipeline, capsys):
  (pipeline / "melgan").mkdir()
  (pipeline / "melgan" / "model.onnx").write_bytes(b"network")
  path = checkpoints.find_model(pipeline)
  assert (path / checkpoints.ONNX_INVERTER).read_bytes() == b"network"
  assert "inverter: its own" in capsys.readouterr().err


def test_a_checkpoint_of_t5x_is_converted(tmp_path):
  path = checkpoints.find_model(DATA / "t5x_tiny")
  config, parameters = checkpoints.load_model_directory(path)
  assert config["model"]["type"] == "DiffusionModel"
  assert "token_encoder" in parameters or "encoder" in parameters
  # As an archive unpacks, in a folder of its own.
  shutil.copytree(DATA / "t5x_tiny", tmp_path / "archive" / "tiny")
  again = checkpoints.find_model(tmp_path / "archive")
  assert again != path
  assert checkpoints.weights_hash(again) == checkpoints.weights_hash(path)


def test_a_name_is_fetched_and_converted(monkeypatch, cache_directory):
  model = types.SimpleNamespace(fetch=lambda: PIPELINE)
  monkeypatch.setattr(
    registry, "published_models", lambda: {"owner/tiny": model}
  )
  path = checkpoints.find_model("owner/tiny")
  assert path.name.startswith("owner-tiny-")
  assert conversions(cache_directory) == [path]


def test_what_is_no_model_is_said_with_the_names_there_are(tmp_path):
  with pytest.raises(
    checkpoints.CheckpointError, match="base_with_context.*got nonsense"
  ):
    checkpoints.find_model("nonsense")
  with pytest.raises(
    checkpoints.CheckpointError, match="config.json.*model_index.json.*t5x"
  ):
    checkpoints.find_model(tmp_path)
  song = tmp_path / "song.mid"
  song.touch()
  with pytest.raises(checkpoints.CheckpointError, match="song.mid"):
    checkpoints.find_model(song)


def test_a_conversion_that_fails_leaves_nothing(pipeline, cache_directory):
  weights = pipeline / "decoder" / "diffusion_pytorch_model.safetensors"
  weights.write_bytes(weights.read_bytes()[:1000])
  with pytest.raises(checkpoints.CheckpointError, match="decoder"):
    checkpoints.find_model(pipeline)
  assert conversions(cache_directory) == []


def test_a_disk_that_fills_leaves_nothing(cache_directory, monkeypatch):
  def fill(*_, **__):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(pretrained.directory, "save_model_directory", fill)
  with pytest.raises(OSError) as error:
    checkpoints.find_model(PIPELINE)
  assert "converted" in error.value.filename
  assert conversions(cache_directory) == []


def test_weights_that_are_nan_are_named_in_a_warning(pipeline, tmp_path):
  weights = pipeline / "decoder" / "diffusion_pytorch_model.safetensors"
  tensors = safetensors.numpy.load_file(weights)
  tensors["decoder_norm.weight"][3] = np.nan
  safetensors.numpy.save_file(tensors, weights)
  with pytest.warns(UserWarning, match="NaN, in decoder/decoder_norm/scale"):
    checkpoints.convert_published(pipeline, tmp_path / "model")


def test_a_conversion_replaces_nothing(tmp_path):
  with pytest.raises(checkpoints.CheckpointError, match="new directory"):
    checkpoints.convert_published(PIPELINE, tmp_path)
