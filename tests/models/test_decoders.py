import functools

import jax
from jax import numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion.models import decoders

FRAMES, KEYS, MEL_BINS = 12, 6, 8


@pytest.fixture(scope="module")
def decode(paper):
  """The paper's decoder on a batch of two; arguments may be replaced."""
  config = paper.model.network
  module = decoders.Decoder(config)
  apply = jax.jit(functools.partial(module.apply, deterministic=True))
  variables = {"params": paper.parameters["decoder"]}
  key = jax.random.split(jax.random.key(0), 2)
  usual = dict(
    inputs=jax.random.normal(key[0], (2, FRAMES, MEL_BINS)),
    time=jnp.asarray([0.3, 0.8]),
    keys=jax.random.normal(key[1], (2, KEYS, config.emb_dim)),
    mask=jnp.arange(KEYS) < jnp.asarray([[6], [2]]),
    bias=jnp.zeros((2, 2, config.num_heads, FRAMES, KEYS)),
  )

  def decode(**changes):
    return np.asarray(apply(variables, **(usual | changes)))

  decode.usual = usual
  return decode


def test_examples_are_independent_of_their_neighbours(decode):
  usual = decode.usual
  for name in ("inputs", "time", "keys"):
    value = usual[name].at[1].set(usual[name][0] + 0.1)
    after = decode(**{name: value})
    np.testing.assert_allclose(after[0], decode()[0], atol=1e-6)
    assert np.abs(after[1] - decode()[1]).max() > 1e-3, name


def test_masked_keys_are_not_seen_and_valid_ones_are(decode):
  keys = decode.usual["keys"].at[:, 3].add(1.0)
  after = decode(keys=keys)
  assert np.abs(after[0] - decode()[0]).max() > 1e-3
  np.testing.assert_array_equal(after[1], decode()[1])


def test_with_all_keys_masked_the_output_does_not_depend_on_them(decode):
  mask = jnp.zeros((2, KEYS), bool)
  other = -decode.usual["keys"]
  np.testing.assert_array_equal(
    decode(mask=mask), decode(mask=mask, keys=other)
  )


def test_cross_attention_over_nothing_adds_nothing(decode, paper):
  # It is as if its output projection were zero.
  def silence(path, value):
    names = [entry.key for entry in path]
    dead = "MultiHeadDotProductAttention_0" in names and "out" in names
    return jnp.zeros_like(value) if dead else value

  parameters = jax.tree_util.tree_map_with_path(
    silence, paper.parameters["decoder"]
  )
  module = decoders.Decoder(paper.model.network)
  expected = jax.jit(functools.partial(module.apply, deterministic=True))(
    {"params": parameters}, **decode.usual
  )
  mask = jnp.zeros((2, KEYS), bool)
  np.testing.assert_allclose(decode(mask=mask), expected, atol=1e-5)


def test_keys_are_a_set(decode):
  order = jnp.asarray([3, 1, 0, 5, 2, 4])
  shuffled = decode(
    keys=decode.usual["keys"][:, order], mask=decode.usual["mask"][:, order]
  )
  np.testing.assert_allclose(shuffled, decode(), atol=1e-5)


def test_frames_are_told_apart_by_their_positions(decode):
  flat = jnp.ones((2, FRAMES, MEL_BINS))
  assert np.abs(np.diff(decode(inputs=flat), axis=1)).max(-1).min() > 1e-3


def test_a_bias_reaches_its_own_layer_example_and_frame(decode):
  bias = decode.usual["bias"]
  in_the_last_layer = decode(bias=bias.at[-1, 0, :, 4, 2].set(5.0))
  moved = np.abs(in_the_last_layer - decode()).max(-1) > 1e-4
  assert moved[0, 4] and moved.sum() == 1
  in_the_first_layer = decode(bias=bias.at[0, 0, :, 4, 2].set(5.0))
  # Self-attention of the next layer passes it on.
  assert (np.abs(in_the_first_layer - decode())[0].max(-1) > 1e-6).all()


def test_two_outputs_lie_side_by_side(paper):
  module = decoders.Decoder(paper.model.network, num_outputs=2)
  usual = dict(
    inputs=jnp.zeros((1, FRAMES, MEL_BINS)),
    time=jnp.zeros(1),
    keys=jnp.zeros((1, KEYS, 32)),
    mask=jnp.ones((1, KEYS), bool),
    deterministic=True,
  )
  output, variables = jax.eval_shape(
    lambda key: module.init_with_output(key, **usual), jax.random.key(0)
  )
  assert output.shape == (1, FRAMES, 2 * MEL_BINS)
  assert variables["params"]["spec_out_dense"]["kernel"].shape == (32, 16)
