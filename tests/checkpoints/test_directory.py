import json
import os

import jax
import numpy as np
import pytest
import safetensors.numpy

from music_spectrogram_diffusion import checkpoints


def tree(seed=0):
  rng = np.random.default_rng(seed)
  return {
    "decoder": {
      "layers_0": {"mlp": {"wo": {"kernel": rng.normal(size=(4, 3))}}},
      "decoder_norm": {"scale": np.ones(3)},
    },
    "steps": np.arange(5, dtype=np.int32),
  }


def assert_same_tree(a, b, **tolerance):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


CONFIG = {"network": {"emb_dim": 32, "dropout_rate": 0.1}, "name": "größe"}


@pytest.mark.parametrize(
  "dtype, tolerance", [("float32", 1e-6), ("float16", 1e-3)]
)
def test_a_saved_model_comes_back(tmp_path, dtype, tolerance):
  path = tmp_path / "a" / "model"
  checkpoints.save_model_directory(path, CONFIG, tree(), dtype=dtype)
  config, parameters = checkpoints.load_model_directory(path)
  assert config == CONFIG
  assert_same_tree(parameters, tree(), rtol=tolerance)
  assert parameters["decoder"]["decoder_norm"]["scale"].dtype == np.float32
  assert parameters["steps"].dtype == np.int32


def test_a_directory_holds_json_and_tensors_named_by_their_path(tmp_path):
  checkpoints.save_model_directory(tmp_path, CONFIG, tree(), dtype="float16")
  assert sorted(os.listdir(tmp_path)) == ["config.json", "model.safetensors"]
  config = json.loads((tmp_path / "config.json").read_text("utf-8"))
  assert config == {"format_version": "1.0", **CONFIG}
  tensors = safetensors.numpy.load_file(tmp_path / "model.safetensors")
  assert tensors["decoder/layers_0/mlp/wo/kernel"].dtype == np.float16
  assert {
    (tmp_path / name).stat().st_mode for name in os.listdir(tmp_path)
  } == {(tmp_path / "config.json").stat().st_mode}


def test_device_arrays_in_bfloat16_and_not_in_row_order_are_saved(tmp_path):
  array = np.arange(6, dtype=np.float32).reshape(2, 3)
  checkpoints.save_model_directory(
    tmp_path, {}, {"a": jax.numpy.asarray(array, "bfloat16"), "b": array.T}
  )
  _, parameters = checkpoints.load_model_directory(tmp_path)
  assert_same_tree(parameters, {"a": array, "b": array.T})


def test_saving_again_replaces_the_model_and_keeps_other_files(tmp_path):
  (tmp_path / "README.md").write_text("mine")
  checkpoints.save_model_directory(tmp_path, CONFIG, tree(0))
  first = checkpoints.weights_hash(tmp_path)
  checkpoints.save_model_directory(
    tmp_path, CONFIG, tree(1), filename="inverter.safetensors"
  )
  assert checkpoints.weights_hash(tmp_path) == first
  checkpoints.save_model_directory(tmp_path, {}, tree(1))
  config, parameters = checkpoints.load_model_directory(tmp_path)
  assert config == {}
  assert_same_tree(parameters, tree(1), rtol=1e-6)
  assert checkpoints.weights_hash(tmp_path) != first
  assert (tmp_path / "README.md").read_text() == "mine"


def test_the_hash_depends_on_the_weights_alone(tmp_path):
  hashes = []
  for config, seed in [({}, 0), (CONFIG, 0), ({}, 1)]:
    checkpoints.save_model_directory(tmp_path, config, tree(seed))
    hashes.append(checkpoints.weights_hash(tmp_path))
  assert hashes[0] == hashes[1] != hashes[2]
  assert len(hashes[0]) == 64


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("stage", ["tensors", "config", "names"])
def test_a_failed_save_leaves_what_was_there(
  tmp_path, monkeypatch, existing, stage
):
  path = tmp_path / "model"
  if existing:
    checkpoints.save_model_directory(path, CONFIG, tree(0))

  def full(*args, **kwargs):
    raise OSError(28, "No space left on device")

  target = {
    "tensors": "safetensors.numpy.save_file",
    "config": "pathlib.Path.write_text",
    "names": "os.replace",
  }[stage]
  with monkeypatch.context() as patch:
    patch.setattr(target, full)
    with pytest.raises(OSError, match="No space left"):
      checkpoints.save_model_directory(path, {}, tree(1))
  if existing:
    config, parameters = checkpoints.load_model_directory(path)
    assert config == CONFIG
    assert_same_tree(parameters, tree(0), rtol=1e-6)
    assert len(os.listdir(path)) == 2
  else:
    assert not path.exists()


def test_values_beyond_float16_are_refused_before_anything_is_written(tmp_path):
  path = tmp_path / "model"
  parameters = {"a": {"b": np.array([1.0, -70_000.0])}}
  with pytest.raises(checkpoints.CheckpointError, match="a/b.*65504.*70000"):
    checkpoints.save_model_directory(path, {}, parameters, dtype="float16")
  assert not path.exists()
  checkpoints.save_model_directory(path, {}, parameters)


@pytest.mark.parametrize("version", ["2.0", "10.3"])
def test_a_newer_major_version_is_refused(tmp_path, version):
  checkpoints.save_model_directory(tmp_path, {}, tree())
  (tmp_path / "config.json").write_text(f'{{"format_version": "{version}"}}')
  with pytest.raises(
    checkpoints.CheckpointError, match=f"up to 1.0 in .*config.json.*{version}"
  ):
    checkpoints.load_model_directory(tmp_path)


def test_a_newer_minor_version_is_read(tmp_path):
  checkpoints.save_model_directory(tmp_path, {}, tree())
  text = '{"format_version": "1.7", "new": 1}'
  (tmp_path / "config.json").write_text(text)
  config, _ = checkpoints.load_model_directory(tmp_path)
  assert config == {"new": 1}


@pytest.mark.parametrize(
  "content",
  [
    b"",
    b"{",
    b"[]",
    b"{}",
    b"\xff\xfe",
    b'{"format_version": 1}',
    b'{"format_version": "one"}',
    b"[" * 200_000,
  ],
)
def test_a_damaged_config_is_refused_by_name(tmp_path, content):
  checkpoints.save_model_directory(tmp_path, {}, tree())
  (tmp_path / "config.json").write_bytes(content)
  with pytest.raises(checkpoints.CheckpointError, match="config.json"):
    checkpoints.load_model_directory(tmp_path)


def test_damaged_weights_are_refused_by_name(tmp_path):
  checkpoints.save_model_directory(tmp_path, {}, tree())
  weights = tmp_path / "model.safetensors"
  whole = weights.read_bytes()
  pickled = b"\x80\x04K\x01."
  clash = safetensors.numpy.save({"a": np.ones(1), "a/b": np.ones(1)})
  # Bytes of a dtype that NumPy does not have.
  ours, other = b'{"a":{"dtype":"I8"', b'{"a":{"dtype":"F8_E4M3"'
  exotic = safetensors.numpy.save({"a": np.ones(1, np.int8)})
  header = exotic[8:-1].rstrip().replace(ours, other)
  exotic = len(header).to_bytes(8, "little") + header + b"\0"
  for content in [b"", whole[:5], whole[:-1], pickled, clash, exotic]:
    weights.write_bytes(content)
    with pytest.raises(checkpoints.CheckpointError, match="model.safetensors"):
      checkpoints.load_model_directory(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(tmp_path, name):
  checkpoints.save_model_directory(tmp_path, {}, tree())
  (tmp_path / name).unlink()
  with pytest.raises(checkpoints.CheckpointError, match=name):
    checkpoints.load_model_directory(tmp_path)


def test_parameters_that_fit_pass_the_check():
  expected = jax.eval_shape(lambda: jax.tree.map(jax.numpy.asarray, tree()))
  checkpoints.check_parameters(expected, tree(), "here")


def test_every_parameter_that_does_not_fit_is_named():
  found = tree()
  del found["steps"]
  found["decoder"]["extra"] = np.ones((2, 2))
  found["decoder"]["decoder_norm"]["scale"] = np.ones(4)
  with pytest.raises(checkpoints.CheckpointError) as error:
    checkpoints.check_parameters(tree(), found, "dir/model.safetensors")
  assert str(error.value) == (
    "Parameters in dir/model.safetensors do not fit the model:"
    " steps [5] is missing; decoder/extra [2, 2] is unexpected;"
    " decoder/decoder_norm/scale is [4], expected [3]."
  )
