import re

import numpy as np
import pytest

from music_spectrogram_diffusion import checkpoints

CONFIG = {
  "model": {"vocabulary": {"velocity_bins": 32}, "sampling": {"num_steps": 2}},
  "inverter": {"channels": 4},
}


def save(path, value, *, config=CONFIG, width=3):
  weights = {"dense": {"kernel": np.full((2, width), value, np.float32)}}
  checkpoints.save_model_directory(path, config, weights)
  return path


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_weights_lie_between_those_of_both(tmp_path, share):
  paths = save(tmp_path / "a", 1.0), save(tmp_path / "b", 3.0)
  checkpoints.mix_models(*paths, tmp_path / "c", share=share)
  _, parameters = checkpoints.load_model_directory(tmp_path / "c")
  np.testing.assert_array_equal(parameters["dense"]["kernel"], 1.0 + 2 * share)


def test_all_else_is_that_of_the_first(tmp_path):
  first = save(tmp_path / "a", 1.0)
  sampled = {"model": {**CONFIG["model"], "sampling": {"num_steps": 1}}}
  second = save(tmp_path / "b", 3.0, config=sampled)
  for name in ("inverter.safetensors", "inverter.onnx"):
    (first / name).write_text(name)
  (first / "README.md").write_text("What the first one can do.")
  target = tmp_path / "c"
  checkpoints.mix_models(first, second, target)
  assert (target / "config.json").read_bytes() == (
    first / "config.json"
  ).read_bytes()
  names = sorted(path.name for path in target.iterdir())
  assert names == [
    "config.json",
    "inverter.onnx",
    "inverter.safetensors",
    "model.safetensors",
  ]
  assert (target / "inverter.onnx").read_text() == "inverter.onnx"
  checkpoints.mix_models(second, first, tmp_path / "d")
  assert len(list((tmp_path / "d").iterdir())) == 2


@pytest.mark.parametrize(
  ("config", "width", "message"),
  [
    ({"model": {"vocabulary": {"velocity_bins": 1}}}, 3, "the vocabulary of"),
    ({"inverter": {}}, 3, "Expected a model in .*b/config.json"),
    (CONFIG, 4, r"dense/kernel is \[2, 4\], expected \[2, 3\]"),
  ],
)
def test_models_that_differ_in_more_are_refused(
  tmp_path, config, width, message
):
  first = save(tmp_path / "a", 1.0)
  second = save(tmp_path / "b", 3.0, config=config, width=width)
  with pytest.raises(checkpoints.CheckpointError, match=message):
    checkpoints.mix_models(first, second, tmp_path / "c")
  assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_what_is_there_is_not_replaced_and_shares_are_checked(tmp_path):
  first, second = save(tmp_path / "a", 1.0), save(tmp_path / "b", 3.0)
  with pytest.raises(checkpoints.CheckpointError, match="Expected a new"):
    checkpoints.mix_models(first, second, first)
  with pytest.raises(ValueError, match=re.escape("0 to 1, got 1.5")):
    checkpoints.mix_models(first, second, tmp_path / "c", share=1.5)


def test_weights_beyond_float16_leave_nothing(tmp_path):
  paths = save(tmp_path / "a", 1.0), save(tmp_path / "b", 1e6)
  with pytest.raises(checkpoints.CheckpointError, match="float32"):
    checkpoints.mix_models(*paths, tmp_path / "c", dtype=np.float16)
  assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
