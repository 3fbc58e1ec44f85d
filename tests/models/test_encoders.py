import functools

import jax
from jax import numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion.models import encoders, layers, note_list


@pytest.fixture(scope="module")
def context_encoder(paper):
  """The paper's context encoder with its own parameters, compiled."""
  config = paper.model.network
  module = encoders.ContinuousEncoder(config, config.num_context_layers)
  parameters = paper.parameters["continuous_encoder"]
  encode = functools.partial(module.apply, deterministic=True)
  return functools.partial(jax.jit(encode), {"params": parameters})


@pytest.mark.parametrize("num_valid", [1, 5, 12])
def test_the_last_valid_context_frame_has_the_last_position(paper, num_valid):
  # Without layers and of silence, the encoding is that of the positions.
  config = paper.model.network
  module = encoders.ContinuousEncoder(config, num_layers=0)
  context = jnp.zeros((1, 12, 8))
  valid = jnp.arange(12)[None] < num_valid
  table = jax.random.normal(jax.random.key(0), (12, 32))
  parameters = {
    "Embed_0": {"embedding": table},
    "input_proj": {"kernel": jnp.zeros((8, 32))},
    "encoder_norm": {"scale": jnp.ones(32)},
  }
  encoded = module.apply(
    {"params": parameters}, context, valid, deterministic=True
  )
  expected = layers.RMSNorm().apply(
    {"params": {"scale": jnp.ones(32)}}, table[12 - num_valid :]
  )
  np.testing.assert_allclose(encoded[0, :num_valid], expected, atol=1e-6)


def test_what_lies_behind_a_context_is_not_seen(context_encoder):
  context = jax.random.normal(jax.random.key(0), (2, 12, 8))
  valid = jnp.arange(12) < jnp.asarray([[5], [12]])
  changed = jnp.where(valid[..., None], context, 100.0)
  before, after = (
    context_encoder(context, valid),
    context_encoder(changed, valid),
  )
  np.testing.assert_array_equal(before[0, :5], after[0, :5])
  np.testing.assert_array_equal(before[1], after[1])


def test_every_valid_context_frame_is_seen_by_the_others(context_encoder):
  context = jax.random.normal(jax.random.key(0), (2, 12, 8))
  valid = jnp.arange(12) < jnp.asarray([[5], [12]])
  before = context_encoder(context, valid)
  after = context_encoder(context.at[:, 4].add(1.0), valid)
  moved = np.abs(before - after).max(-1)
  assert (moved[0, :5] > 1e-4).all() and (moved[1] > 1e-4).all()


@pytest.fixture(scope="module")
def encode_note(aligned):
  """Encodes a list of one note and one empty position."""
  config = aligned.model.network
  module = encoders.NoteListEncoder(config, config.num_encoder_layers)
  encode = jax.jit(functools.partial(module.apply, deterministic=True))
  variables = {"params": aligned.parameters["token_encoder"]}
  usual = dict(
    pitch=60,
    is_drum=False,
    program=4,
    velocity=0.5,
    onset=3,
    offset=9,
    tied=False,
  )

  def encode_note(**changes):
    columns = {
      name: jnp.full((1, 2), value, jnp.asarray(usual[name]).dtype)
      for name, value in (usual | changes).items()
    }
    mask = jnp.asarray([[True, False]])
    listed = note_list.NoteList(mask=mask, **columns)
    return np.asarray(encode(variables, listed)[0, 0])

  return encode_note


@pytest.mark.parametrize(
  "changes",
  [
    dict(pitch=61),
    dict(is_drum=True),
    dict(program=5),
    dict(velocity=1.0),
    dict(onset=4),
    dict(offset=10),
    dict(tied=True),
  ],
  ids=lambda changes: next(iter(changes)),
)
def test_everything_about_a_note_is_told(encode_note, changes):
  assert np.abs(encode_note(**changes) - encode_note()).max() > 1e-3


def test_a_drum_has_no_program(encode_note):
  np.testing.assert_array_equal(
    encode_note(is_drum=True, program=7), encode_note(is_drum=True, program=0)
  )


def test_when_a_note_ends_after_the_segment_is_not_told(encode_note):
  np.testing.assert_array_equal(
    encode_note(offset=24), encode_note(offset=note_list.NEVER)
  )


def test_frame_times_are_the_middles_of_their_windows():
  # Frame 3 is a window from 60 ms to 100 ms.
  assert encoders.frame_times(5)[3] == 8
