"""Directories that are no model, or not the one that they say."""

import json

import jax
import pytest
import safetensors.numpy

from music_spectrogram_diffusion import (
  audio,
  checkpoints,
  inference,
  models,
  notes,
)

MODEL = models.DiffusionModel(
  network=models.aligned_network(
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=16,
    num_encoder_layers=1,
    num_decoder_layers=1,
    segment_frames=8,
    max_tokens=16,
    max_notes=4,
  ),
  spectrogram=audio.SpectrogramConfig(n_mels=16),
)


def save(path):
  config = {"model": models.to_config(MODEL)}
  parameters = MODEL.init(jax.random.key(0))
  checkpoints.save_model_directory(path, config, parameters)


def broken(path, change):
  """A model directory whose config was changed."""
  save(path)
  file = path / "config.json"
  config = json.loads(file.read_text())
  change(config)
  file.write_text(json.dumps(config))


@pytest.mark.parametrize(
  ("change", "said"),
  [
    (lambda c: c.pop("model"), "got NoneType"),
    (lambda c: c.update(model="tiny"), "got str"),
    (
      lambda c: c.update(model=models.to_config(notes.Vocabulary())),
      "got Vocabulary",
    ),
    (lambda c: c["model"].update(type="GAN"), "got 'GAN'"),
    (lambda c: c["model"].update(depth=3), "no field depth"),
    (lambda c: c["model"]["network"].pop("mlp_dim"), "mlp_dim"),
    (lambda c: c.update(format_version="2.0"), "format_version"),
  ],
)
def test_a_config_of_something_else_is_one_clear_error(tmp_path, change, said):
  broken(tmp_path, change)
  with pytest.raises(checkpoints.CheckpointError, match=said) as raised:
    inference.Synthesizer.from_pretrained(tmp_path)
  assert str(tmp_path / "config.json") in str(raised.value)


def test_weights_of_another_size_are_one_clear_error(tmp_path):
  broken(tmp_path, lambda c: c["model"]["network"].update(mlp_dim=24))
  with pytest.raises(checkpoints.CheckpointError) as raised:
    inference.Synthesizer.from_pretrained(tmp_path)
  kernel = "decoder/layers_0/mlp/wo/kernel is [16, 16], expected [24, 16]"
  assert kernel in str(raised.value) and str(tmp_path) in str(raised.value)


def test_a_missing_tensor_is_named(tmp_path):
  save(tmp_path)
  file = tmp_path / checkpoints.directory.WEIGHTS
  tensors = safetensors.numpy.load_file(file)
  del tensors["null_note"]
  safetensors.numpy.save_file(tensors, file)
  with pytest.raises(checkpoints.CheckpointError, match="null_note .* missing"):
    inference.Synthesizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_is_no_model_directory_is_one_clear_error(tmp_path, name):
  with pytest.raises(checkpoints.CheckpointError, match=str(tmp_path)):
    inference.Synthesizer.from_pretrained(tmp_path / name)
