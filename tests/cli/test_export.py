import pathlib

import jax
import numpy as np
import pytest
import typer.testing

from music_spectrogram_diffusion import checkpoints
from music_spectrogram_diffusion.cli import main

DATA = pathlib.Path(__file__).parents[1] / "data"


def export(*arguments):
  """Runs the command in this process; errors come as exceptions."""
  result = typer.testing.CliRunner().invoke(
    main.app,
    ["export", "diffusers", *map(str, arguments)],
    catch_exceptions=False,
  )
  assert result.exit_code == 0
  return result


def test_a_model_directory_becomes_a_pipeline_and_comes_back(tmp_path):
  model, pipeline = tmp_path / "model", tmp_path / "pipeline"
  checkpoints.convert_published(DATA / "diffusers_tiny", model)
  assert export(model, pipeline).stdout == f"{pipeline}: written\n"
  found, expected = map(
    checkpoints.load_diffusers_pipeline, (pipeline, DATA / "diffusers_tiny")
  )
  assert found[0] == expected[0]
  jax.tree.map(np.testing.assert_array_equal, found[1], expected[1])


def test_guidance_is_in_the_way_unless_it_is_left_behind(tmp_path):
  model, pipeline = tmp_path / "model", tmp_path / "pipeline"
  checkpoints.convert_published(DATA / "t5x_tiny", model)
  with pytest.raises(checkpoints.CheckpointError, match="guidance"):
    export(model, pipeline)
  export(model, pipeline, "--without-guidance")
  assert (pipeline / "model_index.json").exists()


def test_parameters_that_are_missing_are_named(tmp_path):
  model, pipeline = tmp_path / "model", tmp_path / "pipeline"
  config, parameters = checkpoints.load_diffusers_pipeline(
    DATA / "diffusers_tiny"
  )
  del parameters["decoder"]["decoder_norm"]
  checkpoints.save_model_directory(model, {"model": config}, parameters)
  with pytest.raises(checkpoints.CheckpointError) as error:
    export(model, pipeline)
  assert str(model) in str(error.value)
  assert "decoder/decoder_norm/scale" in str(error.value)
  assert not pipeline.exists()


def test_a_missing_model_is_named(tmp_path):
  with pytest.raises(checkpoints.CheckpointError, match="missing"):
    export(tmp_path / "missing", tmp_path / "pipeline")
