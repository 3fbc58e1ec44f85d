import json
import sys

import jax
import numpy as np
import pytest

from music_spectrogram_diffusion import (
  audio,
  checkpoints,
  data,
  models,
  training,
)
from music_spectrogram_diffusion.training import default_model

FRAMES, TOKENS = 8, 16
CONFIG = audio.SpectrogramConfig(n_mels=24)
LOW, HIGH = CONFIG.mel_range
NETWORK = models.aligned_network(
  emb_dim=32,
  num_heads=2,
  head_dim=16,
  mlp_dim=16,
  num_encoder_layers=1,
  num_decoder_layers=1,
  segment_frames=FRAMES,
  max_tokens=TOKENS,
)


class OneWindow(data.WindowBatches):
  """The same two windows again and again; the second is half padding."""

  def __post_init__(self):
    pass

  def batch(self, step):
    targets = np.full((2, FRAMES, 24), LOW, np.float32)
    targets[:, ::2, 3] = HIGH
    valid = np.arange(FRAMES) < np.array([[FRAMES], [4]])
    return {
      "note_tokens": np.zeros((2, TOKENS), np.int32),
      "context": targets,
      "context_mask": valid,
      "targets": np.where(valid[..., None], targets, HIGH + 9),
      "targets_mask": valid,
    }


@pytest.fixture
def batches():
  return OneWindow(
    "songs",
    vocabulary=default_model.VOCABULARY,
    config=CONFIG,
    batch_size=2,
    max_tokens=TOKENS,
  )


def test_bin_statistics_are_those_of_valid_frames_on_the_model_s_scale(batches):
  mean, deviation = default_model.bin_statistics(batches, num_batches=3)
  np.testing.assert_allclose(np.delete(mean, 3), -1.0, atol=1e-6)
  np.testing.assert_allclose(np.delete(deviation, 3), 0.0, atol=1e-6)
  assert (mean[3], deviation[3]) == pytest.approx((0.0, 1.0), abs=1e-6)


def test_the_model_is_preconditioned_for_its_data(batches):
  model = default_model.default_model(batches, max_notes=32)
  assert model.network == models.aligned_network(max_notes=32)
  assert model.vocabulary.velocity_bins == 32
  assert model.spectrogram == CONFIG
  edm = model.parameterization
  assert edm.mean[3] == pytest.approx(0.0, abs=1e-6)
  assert edm.deviation[3] == pytest.approx(0.4, rel=1e-5)
  # Bins that never change do not divide by zero.
  assert edm.deviation[0] == np.float32(0.02)


def zeros(key, model):
  """Parameters that need not be compiled."""
  shapes = jax.eval_shape(model.init, key)
  return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


@pytest.fixture
def train(tmp_path, monkeypatch):
  """Runs the command in a folder, on little data and a little network."""
  monkeypatch.setattr(data, "WindowBatches", OneWindow)
  monkeypatch.setattr(models, "aligned_network", lambda **_: NETWORK)
  monkeypatch.setattr(audio, "SpectrogramConfig", lambda: CONFIG)
  monkeypatch.setattr(models, "harmonic_init", zeros)

  def run(*options):
    arguments = f"train --data songs --run {tmp_path}".split()
    monkeypatch.setattr(sys, "argv", [*arguments, *map(str, options)])
    default_model.main()
    lines = (tmp_path / "checkpoints" / "metrics.jsonl").read_text()
    return [json.loads(line)["step"] for line in lines.splitlines()]

  return run


def test_a_run_fits_its_description_and_is_not_begun_again(train, tmp_path):
  assert train("--steps", 2) == [2]
  described = (tmp_path / "model.json").read_text()
  assert train("--steps", 2) == [2]
  assert (tmp_path / "model.json").read_text() == described
  model = models.from_config(json.loads(described))
  checkpoints.check_parameters(
    jax.eval_shape(model.init, jax.random.key(0)),
    training.restore_average(tmp_path / "checkpoints"),
    tmp_path,
  )


def test_missing_songs_are_one_line_and_exit_code_2(
  tmp_path, monkeypatch, capsys
):
  arguments = f"train --data {tmp_path} --run {tmp_path}/run --steps 1"
  monkeypatch.setattr(sys, "argv", arguments.split())
  with pytest.raises(SystemExit) as exited:
    default_model.main()
  assert exited.value.code == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith("error: ") and str(tmp_path) in line
  assert not (tmp_path / "run").exists()
