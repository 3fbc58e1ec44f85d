import json
import pathlib
import pickle
import shutil
import zipfile

import jax
import numpy as np
import pytest
import safetensors.numpy

from music_spectrogram_diffusion import checkpoints, models
from music_spectrogram_diffusion.diffusion import parameterization, schedules

PIPELINE = pathlib.Path(__file__).parents[1] / "data" / "diffusers_tiny"


@pytest.fixture
def pipeline(tmp_path):
  """A copy of the tiny pipeline, to be spoilt."""
  return shutil.copytree(PIPELINE, tmp_path / "pipeline")


def change_json(path, **changes):
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensors(path, change):
  tensors = safetensors.numpy.load_file(path)
  change(tensors)
  safetensors.numpy.save_file(tensors, path)


def test_sizes_and_sampling_are_those_of_the_pipeline():
  config, _ = checkpoints.load_diffusers_pipeline(PIPELINE)
  assert models.from_config(config) == models.DiffusionModel(
    network=models.NetworkConfig(
      emb_dim=24,
      num_heads=2,
      head_dim=16,
      mlp_dim=40,
      num_encoder_layers=2,
      num_context_layers=2,
      num_decoder_layers=2,
      segment_frames=16,
      max_tokens=32,
    ),
    spectrogram=models.from_config(config["spectrogram"]),
    schedule=schedules.SquaredCosineSchedule(num_levels=1000),
    parameterization=parameterization.Eps(),
    sampling=models.SamplingConfig(
      sampler="ddpm", num_steps=100, guidance_weight=1.0
    ),
  )
  assert config["spectrogram"]["n_mels"] == 8


def test_parameters_are_those_of_the_model_in_float32():
  config, parameters = checkpoints.load_diffusers_pipeline(PIPELINE)
  model = models.from_config(config)
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  checkpoints.check_parameters(shapes, parameters, PIPELINE)
  assert {array.dtype for array in jax.tree.leaves(parameters)} == {
    np.dtype(np.float32)
  }


def test_position_tables_are_imported_and_kernels_transposed():
  _, parameters = checkpoints.load_diffusers_pipeline(PIPELINE)
  tensors = safetensors.numpy.load_file(
    PIPELINE / "decoder" / "diffusion_pytorch_model.safetensors"
  )
  decoder = parameters["decoder"]
  np.testing.assert_array_equal(
    decoder["Embed_0"]["embedding"], tensors["position_encoding.weight"]
  )
  np.testing.assert_array_equal(
    decoder["layers_1"]["self_attention"]["out"]["kernel"].T,
    tensors["decoders.1.layer.0.attention.to_out.0.weight"],
  )


def test_an_imported_pipeline_is_a_model_directory_like_any_other(tmp_path):
  config, parameters = checkpoints.load_diffusers_pipeline(PIPELINE)
  checkpoints.save_model_directory(
    tmp_path, config, parameters, dtype="float16"
  )
  loaded_config, loaded = checkpoints.load_model_directory(tmp_path)
  assert loaded_config == config
  jax.tree.map(np.testing.assert_array_equal, loaded, parameters)


@pytest.mark.parametrize(
  "component, changes, message",
  [
    ("scheduler", {"beta_schedule": "linear"}, "beta_schedule.*'linear'"),
    ("scheduler", {"prediction_type": "sample"}, "prediction_type"),
    ("scheduler", {"variance_type": "fixed_small"}, "variance_type"),
    ("scheduler", {"clip_sample": False}, "clip_sample"),
    ("scheduler", {"num_train_timesteps": "many"}, "num_train_timesteps"),
    ("scheduler", {"_class_name": "PNDMScheduler"}, "PNDMScheduler"),
    ("decoder", {"max_decoder_noise_time": 2000.0}, "max_decoder_noise_time"),
    ("decoder", {"d_model": 24.0}, "d_model.*positive integer.*24.0"),
    ("decoder", {"num_layers": 0}, "num_layers.*positive integer"),
    ("notes_encoder", {"feed_forward_proj": "relu"}, "gated-gelu.*relu"),
    ("notes_encoder", {"d_ff": 48}, "d_ff to be 40.*notes_encoder.*48"),
    (
      "continuous_encoder",
      {"targets_context_length": 32},
      "targets_context_length to be 16.*32",
    ),
  ],
)
def test_settings_that_the_model_cannot_follow_are_named(
  pipeline, component, changes, message
):
  name = "scheduler_config" if component == "scheduler" else "config"
  change_json(pipeline / component / f"{name}.json", **changes)
  with pytest.raises(checkpoints.CheckpointError, match=message):
    checkpoints.load_diffusers_pipeline(pipeline)


def test_settings_that_old_configs_leave_out_take_their_defaults(pipeline):
  path = pipeline / "scheduler" / "scheduler_config.json"
  config = json.loads(path.read_text())
  for name in ("clip_sample_range", "prediction_type", "thresholding"):
    del config[name]
  path.write_text(json.dumps(config))
  checkpoints.load_diffusers_pipeline(pipeline)
  del config["variance_type"]  # Whose default is another.
  path.write_text(json.dumps(config))
  with pytest.raises(checkpoints.CheckpointError, match="variance_type"):
    checkpoints.load_diffusers_pipeline(pipeline)


def test_parameters_that_do_not_fit_are_named_with_their_file(pipeline):
  path = pipeline / "decoder" / "diffusion_pytorch_model.safetensors"

  def spoil(tensors):
    tensors["spec_out.weight"] = np.ones((8, 23), np.float32)
    tensors["decoders.7.layer.9.weight"] = np.ones(2, np.float32)
    del tensors["decoders.0.layer.1.attention.to_q.weight"]

  change_tensors(path, spoil)
  with pytest.raises(checkpoints.CheckpointError) as error:
    checkpoints.load_diffusers_pipeline(pipeline)
  assert str(error.value) == (
    f"Parameters in {path} do not fit the model:"
    " layers_0/MultiHeadDotProductAttention_0/query/kernel [24, 32] is missing;"
    " decoders.7.layer.9.weight [2] is unexpected;"
    " spec_out_dense/kernel is [23, 8], expected [24, 8]."
  )


def test_a_table_of_another_vocabulary_is_refused(pipeline):
  change_tensors(
    pipeline / "notes_encoder" / "diffusion_pytorch_model.safetensors",
    lambda tensors: tensors.update(
      {"token_embedder.weight": np.ones((1664, 24), np.float32)}
    ),
  )
  with pytest.raises(
    checkpoints.CheckpointError, match=r"\[1664, 24\], expected \[1536, 24\]"
  ):
    checkpoints.load_diffusers_pipeline(pipeline)


class Attack:
  """Makes a file when it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


def test_a_pickle_that_wants_to_run_code_is_refused(pipeline, tmp_path):
  weights = pipeline / "decoder" / "diffusion_pytorch_model.safetensors"
  weights.unlink()
  ran = tmp_path / "ran"
  with zipfile.ZipFile(weights.with_suffix(".bin"), "w") as archive:
    archive.writestr("archive/data.pkl", pickle.dumps({"a": Attack(ran)}))
  with pytest.raises(
    checkpoints.CheckpointError,
    match=r"Refused .*model\.bin.* asks for pathlib",
  ):
    checkpoints.load_diffusers_pipeline(pipeline)
  assert not ran.exists()


def test_safetensors_come_before_a_pickle(pipeline):
  weights = pipeline / "decoder" / "diffusion_pytorch_model.bin"
  weights.write_bytes(b"not read")
  checkpoints.load_diffusers_pipeline(pipeline)


@pytest.mark.parametrize(
  "name",
  [
    "scheduler/scheduler_config.json",
    "decoder/config.json",
    "notes_encoder/diffusion_pytorch_model.safetensors",
  ],
)
def test_a_missing_or_damaged_file_is_named(pipeline, name):
  (pipeline / name).write_bytes(b"{")
  with pytest.raises(checkpoints.CheckpointError, match=name):
    checkpoints.load_diffusers_pipeline(pipeline)
  (pipeline / name).unlink()
  with pytest.raises(checkpoints.CheckpointError, match=name):
    checkpoints.load_diffusers_pipeline(pipeline)
