"""Tiny models of both families, and a batch of segments for them."""

import dataclasses
import functools
import math

import jax
from jax import numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion import audio, diffusion, models, notes

FRAMES, TOKENS, MEL_BINS = 12, 48, 8
STEPS = 2 * FRAMES  # Of 10 ms.


@dataclasses.dataclass(frozen=True, eq=False)
class Tiny:
  """A model with random parameters, compiled once for each shape."""

  model: models.DiffusionModel
  parameters: dict

  @functools.cached_property
  def encode(self):
    return functools.partial(jax.jit(self.model.encode), self.parameters)

  @functools.cached_property
  def denoise(self):
    function = jax.jit(self.model.denoise, static_argnames="guidance_weight")
    return functools.partial(function, self.parameters)

  @functools.cached_property
  def loss(self):
    function = jax.jit(self.model.loss, static_argnames=("objective", "train"))
    return functools.partial(function, self.parameters)


def tiny(network, **parts):
  model = models.DiffusionModel(
    network=network,
    spectrogram=audio.SpectrogramConfig(n_mels=MEL_BINS),
    **parts,
  )
  # By NumPy: to compile the initialisers takes longer than all else.
  rng = np.random.default_rng(0)

  def draw(path, shape):
    value = rng.normal(size=shape.shape).astype(np.float32)
    match path[-1].key:
      case "kernel":
        return value / np.sqrt(np.float32(len(value)))
      case "scale":
        return 1 + np.float32(0.1) * value
    return value

  shapes = jax.eval_shape(model.init, jax.random.key(0))
  parameters = jax.tree_util.tree_map_with_path(draw, shapes)
  return Tiny(model, jax.device_put(parameters))


SIZES = dict(
  emb_dim=32,
  num_heads=2,
  head_dim=16,
  mlp_dim=32,
  num_encoder_layers=1,
  num_context_layers=1,
  num_decoder_layers=2,
  segment_frames=FRAMES,
  max_tokens=TOKENS,
)


@pytest.fixture(scope="session")
def paper():
  return tiny(models.NetworkConfig(**SIZES))


@pytest.fixture(scope="session")
def aligned():
  return tiny(
    models.aligned_network(max_notes=20, **(SIZES | {"num_decoder_layers": 1})),
    vocabulary=notes.Vocabulary(velocity_bins=32),
    parameterization=diffusion.parameterization.EDM(
      mean=np.linspace(-0.8, 0.0, MEL_BINS, dtype=np.float32),
      deviation=np.full(MEL_BINS, 0.2, np.float32),
    ),
    sampling=models.SamplingConfig(
      sampler="ddim", num_steps=2, guidance_weight=1.5, end_time=0.5
    ),
  )


@pytest.fixture(scope="session", params=["paper", "aligned"])
def either(request):
  """Both families, one after the other."""
  return request.getfixturevalue(request.param)


def tokenize(onset, offset, pitch, vocabulary, **columns):
  """Padded tokens of one segment; times in steps."""
  piece = notes.Notes.from_columns(
    np.divide(onset, 100), np.divide(offset, 100), pitch, 90, **columns
  )
  [tokens] = notes.tokenize_segments(
    piece, vocabulary=vocabulary, segment_frames=FRAMES
  )
  return np.pad(tokens, (0, TOKENS - len(tokens)))


def make_batch(vocabulary):
  """Three segments: with a full, an empty and a partial context."""
  rng = np.random.default_rng(1)
  floor = math.log(1e-5)
  shape = (3, FRAMES, MEL_BINS)
  lengths = np.array([[FRAMES], [0], [5]])
  return {
    "note_tokens": jnp.stack(
      [
        tokenize([0, 4], [20, 10], [60, 64], vocabulary),
        tokenize([2], [STEPS], [50], vocabulary, program=40),
        tokenize([0, 3, 8], [9, 20, 9], [55, 70, 38], vocabulary),
      ]
    ),
    "context": jnp.asarray(rng.uniform(floor, 4, shape), jnp.float32),
    "context_mask": jnp.asarray(np.arange(FRAMES) < lengths),
    "targets": jnp.asarray(rng.uniform(floor, 4, shape), jnp.float32),
    "targets_mask": jnp.asarray(np.arange(FRAMES) < [[FRAMES], [FRAMES], [7]]),
  }


@pytest.fixture(scope="session")
def batch_of():
  """Gives a batch in the vocabulary of a tiny model."""
  return lambda tiny: make_batch(tiny.model.vocabulary)


@pytest.fixture(scope="session")
def noisy():
  """A noisy spectrogram for each of three segments, and their times."""
  z_t = jax.random.normal(jax.random.key(2), (3, FRAMES, MEL_BINS))
  return z_t, jnp.asarray([0.9, 0.5, 0.2])
