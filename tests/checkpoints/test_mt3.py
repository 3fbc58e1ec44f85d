"""Facts about `checkpoints.mt3`; parameters are drawn by their names."""

import zlib

from flax import serialization, traverse_util
import jax
import numpy as np
import pytest
import tensorstore

from music_spectrogram_diffusion import checkpoints, models

CONFIG = """
from mt3 import network
network.T5Config:
  head_dim = 4
TASK_FEATURE_LENGTHS = {'inputs': 16, 'targets': 32}
"""
IN_ZARR = "decoder/layers_1/encoder_decoder_attention/key/kernel"


def draw(name, shape):
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  return (rng.integers(-8, 8, shape) / 16).astype(np.float32)


def published_tree():
  """MT3's names, with an encoder layer, two decoder layers, two heads of 4."""
  emb_dim, heads_dim, mlp_dim = 12, 8, 20
  shapes = {
    "encoder/continuous_inputs_projection/kernel": (512, emb_dim),
    "encoder/encoder_norm/scale": (emb_dim,),
    "decoder/token_embedder/embedding": (1536, emb_dim),
    "decoder/decoder_norm/scale": (emb_dim,),
    "decoder/logits_dense/kernel": (emb_dim, 1536),
  }
  blocks = {
    "encoder/layers_0": ["attention"],
    "decoder/layers_0": ["self_attention", "encoder_decoder_attention"],
    "decoder/layers_1": ["self_attention", "encoder_decoder_attention"],
  }
  norms = {
    "attention": "pre_attention_layer_norm",
    "self_attention": "pre_self_attention_layer_norm",
    "encoder_decoder_attention": "pre_cross_attention_layer_norm",
  }
  for block, attentions in blocks.items():
    for attention in attentions:
      for part in ("query", "key", "value"):
        shapes[f"{block}/{attention}/{part}/kernel"] = emb_dim, heads_dim
      shapes[f"{block}/{attention}/out/kernel"] = heads_dim, emb_dim
      shapes[f"{block}/{norms[attention]}/scale"] = (emb_dim,)
    shapes[f"{block}/pre_mlp_layer_norm/scale"] = (emb_dim,)
    shapes[f"{block}/mlp/wi_0/kernel"] = emb_dim, mlp_dim
    shapes[f"{block}/mlp/wi_1/kernel"] = emb_dim, mlp_dim
    shapes[f"{block}/mlp/wo/kernel"] = mlp_dim, emb_dim
  return {name: draw(name, shape) for name, shape in shapes.items()}


def write(folder, flat, config=CONFIG):
  """Writes a checkpoint as t5x does: most arrays inside, one beside."""
  folder.mkdir()
  if config:
    (folder / "config.gin").write_text(config)
  target = dict(flat)
  if IN_ZARR in target:
    name = "target." + IN_ZARR.replace("/", ".")
    store = {
      "driver": "zarr",
      "kvstore": {"driver": "file", "path": f"{folder}/{name}/"},
    }
    tensorstore.open(
      store, create=True, dtype="float32", shape=target[IN_ZARR].shape
    ).result().write(target[IN_ZARR]).result()
    target[IN_ZARR] = {"driver": "zarr", "kvstore": {"path": f"{name}/"}}
  contents = {
    "version": 3,
    "optimizer": {
      "target": traverse_util.unflatten_dict(target, sep="/"),
      "state": {"step": 7},
    },
  }
  (folder / "checkpoint").write_bytes(serialization.msgpack_serialize(contents))
  return folder


def test_parameters_and_sizes_are_those_that_were_published(tmp_path):
  folder = write(tmp_path / "mt3", published_tree())
  model, parameters = checkpoints.load_mt3_checkpoint(folder)
  assert model == models.TranscriptionModel(
    network=models.NetworkConfig(
      emb_dim=12,
      num_heads=2,
      head_dim=4,
      mlp_dim=20,
      num_encoder_layers=1,
      num_context_layers=0,
      num_decoder_layers=2,
      segment_frames=16,
      max_tokens=32,
    )
  )
  found = traverse_util.flatten_dict(parameters, sep="/")
  expected = {
    name.replace(
      "encoder_decoder_attention", "MultiHeadDotProductAttention_0"
    ): array
    for name, array in published_tree().items()
  }
  assert found.keys() == expected.keys()
  for name, array in expected.items():
    np.testing.assert_array_equal(found[name], array, name)
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  assert jax.tree.map(np.shape, parameters) == jax.tree.map(np.shape, shapes)


def test_without_a_config_heads_and_lengths_are_those_of_mt3(tmp_path):
  flat = published_tree()
  for name, array in flat.items():
    axis = {"query": 1, "key": 1, "value": 1, "out": 0}.get(name.split("/")[-2])
    if axis is not None:
      flat[name] = np.repeat(array, 16, axis)
  folder = write(tmp_path / "mt3", flat, config=None)
  model, _ = checkpoints.load_mt3_checkpoint(folder)
  network = model.network
  assert (network.num_heads, network.head_dim) == (2, 64)
  assert (network.segment_frames, network.max_tokens) == (256, 1024)


@pytest.mark.parametrize(
  "change, message",
  [
    (
      {"decoder/token_embedder/embedding": (1664, 12)},
      "Expected MT3's 1536 tokens in .*, got 1664; .*piano model of 2021",
    ),
    (
      {"encoder/layers_0/attention/query/kernel": (12, 10)},
      "Expected heads of 4 channels in .*, got 10 channels in all",
    ),
    (
      {"encoder/continuous_inputs_projection/kernel": None},
      "Expected a matrix encoder/continuous_inputs_projection/kernel, .*found"
      " none",
    ),
    (
      {"decoder/logits_dense/kernel": None},
      r"do not fit the model: decoder/logits_dense/kernel \[12, 1536\] is"
      " missing",
    ),
    (
      {"decoder/layers_1/encoder_decoder_attention/out/kernel": (8, 9)},
      r"encoder_decoder_attention/out/kernel is \[8, 9\], expected \[8, 12\]",
    ),
  ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
  flat = published_tree()
  for name, shape in change.items():
    del flat[name]
    if shape:
      flat[name] = draw(name, shape)
  folder = write(tmp_path / "mt3", flat)
  with pytest.raises(checkpoints.CheckpointError, match=message):
    checkpoints.load_mt3_checkpoint(folder)


@pytest.mark.parametrize(
  "config",
  [
    "T5Config.head_dim = 'four'",
    "TASK_FEATURE_LENGTHS = {'inputs': 16}",
    "TASK_FEATURE_LENGTHS = %LENGTHS",
  ],
)
def test_a_config_that_says_no_sizes_is_an_error(tmp_path, config):
  folder = write(tmp_path / "mt3", published_tree(), config)
  with pytest.raises(checkpoints.CheckpointError, match="config.gin"):
    checkpoints.load_mt3_checkpoint(folder)


def test_a_folder_without_a_checkpoint_is_an_error(tmp_path):
  with pytest.raises(checkpoints.CheckpointError, match="t5x checkpoint"):
    checkpoints.load_mt3_checkpoint(tmp_path)
