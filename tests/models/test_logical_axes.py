from flax import traverse_util
import jax
from jax import numpy as jnp
import pytest

from music_spectrogram_diffusion import models


def shapes_of(config):
  kind = (
    models.AutoregressiveModel
    if config.autoregressive
    else models.DiffusionModel
  )
  return jax.eval_shape(kind(network=config).init, jax.random.key(0))


NETWORKS = {
  "tiny": models.paper_network("tiny"),
  "small": models.paper_network("small"),
  "no_context": models.paper_network("small", context=False),
  "autoregressive": models.paper_network(
    "small", context=False, autoregressive=True
  ),
  "base": models.paper_network("base"),
  "large": models.paper_network("large"),
  "aligned": models.aligned_network(),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_axis_has_a_name_and_equal_names_are_equally_long(name):
  config = NETWORKS[name]
  shapes = traverse_util.flatten_dict(shapes_of(config), sep="/")
  axes = traverse_util.flatten_dict(
    models.logical_axes(shapes_of(config)), sep="/"
  )
  assert axes.keys() == shapes.keys()
  lengths = {
    "embed": {config.emb_dim},
    "joined_kv": {config.num_heads * config.head_dim},
    "mel": {128},
    "mlp": {config.mlp_dim, 4 * config.emb_dim},
    "cond": {4 * config.emb_dim},
    "vocab": {1536, 256},
    "length": {config.max_tokens, config.segment_frames},
  }
  for path, names in axes.items():
    assert len(names) == len(shapes[path].shape)
    for meaning, length in zip(names, shapes[path].shape, strict=True):
      # FiLM gives a scale and a shift of each channel.
      twice = 2 if "FiLM" in path and meaning == "embed" else 1
      if meaning is not None:
        assert length // twice in lengths[meaning], path


def test_a_parameter_of_no_network_is_an_error_that_names_it():
  with pytest.raises(ValueError, match=r"found conv/kernel of shape \(3, 2\)"):
    models.logical_axes({"conv": {"kernel": jnp.zeros((3, 2))}})


@pytest.mark.parametrize(
  ("path", "num_axes", "expected"),
  [
    ("optimizer/0/mu/decoder/layers_0/mlp/wo/kernel", 2, ("mlp", "embed")),
    ("optimizer/0/v_row/decoder/layers_0/mlp/wo/kernel", 1, None),
    ("generator/conv_out/kernel", 2, None),
    ("decoder/decoder_norm/scale", 1, ("embed",)),
  ],
)
def test_an_optimizer_s_arrays_are_known_by_what_they_belong_to(
  path, num_axes, expected
):
  assert models.axes_of(path, num_axes) == expected
