"""The transcriber: T5's arithmetic, greedy with a cache, MT3's features."""

import dataclasses
import math

from flax import traverse_util
import jax
from jax import numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion import models, notes
from music_spectrogram_diffusion.models import transcription_model

FRAMES, TOKENS, MEL_BINS = 6, 10, 8
HEADS, HEAD_DIM, EMB_DIM = 2, 8, 16


def tiny_model():
  return models.TranscriptionModel(
    network=models.NetworkConfig(
      emb_dim=EMB_DIM,
      num_heads=HEADS,
      head_dim=HEAD_DIM,
      mlp_dim=24,
      num_encoder_layers=1,
      num_context_layers=0,
      num_decoder_layers=2,
      segment_frames=FRAMES,
      max_tokens=TOKENS,
    ),
    spectrogram=dataclasses.replace(
      transcription_model.SPECTROGRAM, n_mels=MEL_BINS
    ),
  )


@pytest.fixture(scope="module")
def model():
  return tiny_model()


@pytest.fixture(scope="module")
def parameters(model):
  rng = np.random.default_rng(0)

  def draw(path, shape):
    value = rng.normal(size=shape.shape).astype(np.float32)
    match path[-1].key:
      case "kernel":
        # So large that segments differ in what is written for them.
        return 2 * value / np.sqrt(np.float32(len(value)))
      case "scale":
        return 1 + np.float32(0.1) * value
    return value

  shapes = jax.eval_shape(model.init, jax.random.key(0))
  return jax.device_put(jax.tree_util.tree_map_with_path(draw, shapes))


@pytest.fixture(scope="module")
def frames():
  values = np.random.default_rng(1).normal(size=(3, FRAMES, MEL_BINS))
  return jnp.asarray(values, jnp.float32)


@pytest.fixture(scope="module")
def written(model, parameters, frames):
  """What is written for `frames`: no EOS, with these parameters."""
  tokens = np.asarray(model.predict(parameters, frames))
  assert (tokens != notes.EOS).all()
  return tokens


@pytest.fixture(scope="module")
def logits_of(model, parameters, frames):
  """Makes logits of each token, given the true ones before it."""
  compiled = jax.jit(model.module.apply)

  def logits_of(tokens):
    previous = jnp.asarray(np.pad(tokens, ((0, 0), (1, 0)))[:, :-1])
    return np.asarray(compiled({"params": parameters}, frames, previous))

  return logits_of


def reference_logits(parameters, frames, previous):
  """T5.1.1 with sinusoidal positions, from its description, in float64."""
  weights = {
    name: np.asarray(array, np.float64)
    for name, array in traverse_util.flatten_dict(parameters, sep="/").items()
  }

  def positions(length):
    half = EMB_DIM // 2
    table = np.zeros((length, EMB_DIM))
    for place in range(length):
      for i in range(half):
        angle = place / 10_000 ** (i / (half - 1))
        table[place, i] = math.sin(angle)
        table[place, half + i] = math.cos(angle)
    return table

  def norm(x, name):
    mean_square = (x**2).mean(-1, keepdims=True)
    return x / np.sqrt(mean_square + 1e-6) * weights[f"{name}/scale"]

  def attend(x, keys, name, causal=False):
    def heads(y, part):
      y = y @ weights[f"{name}/{part}/kernel"]
      return y.reshape(len(y), HEADS, HEAD_DIM).transpose(1, 0, 2)

    # Not divided by the root of the head's size.
    logits = heads(x, "query") @ heads(keys, "key").transpose(0, 2, 1)
    if causal:
      logits += np.triu(np.full(logits.shape[1:], -np.inf), 1)
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    mixed = (shares @ heads(keys, "value")).transpose(1, 0, 2)
    return mixed.reshape(len(x), -1) @ weights[f"{name}/out/kernel"]

  def mlp(x, name):
    gate = x @ weights[f"{name}/wi_0/kernel"]
    cubic = math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)
    gate = 0.5 * gate * (1 + np.tanh(cubic))
    hidden = gate * (x @ weights[f"{name}/wi_1/kernel"])
    return hidden @ weights[f"{name}/wo/kernel"]

  def one(frames, previous):
    kernel = weights["encoder/continuous_inputs_projection/kernel"]
    x = frames @ kernel + positions(len(frames))
    layer = "encoder/layers_0"
    normed = norm(x, f"{layer}/pre_attention_layer_norm")
    x = x + attend(normed, normed, f"{layer}/attention")
    x = x + mlp(norm(x, f"{layer}/pre_mlp_layer_norm"), f"{layer}/mlp")
    keys = norm(x, "encoder/encoder_norm")

    x = weights["decoder/token_embedder/embedding"][previous]
    x = x + positions(len(previous))
    for i in range(2):
      layer = f"decoder/layers_{i}"
      normed = norm(x, f"{layer}/pre_self_attention_layer_norm")
      x = x + attend(normed, normed, f"{layer}/self_attention", causal=True)
      normed = norm(x, f"{layer}/pre_cross_attention_layer_norm")
      x = x + attend(normed, keys, f"{layer}/MultiHeadDotProductAttention_0")
      x = x + mlp(norm(x, f"{layer}/pre_mlp_layer_norm"), f"{layer}/mlp")
    x = norm(x, "decoder/decoder_norm")
    return x @ weights["decoder/logits_dense/kernel"]

  frames = np.asarray(frames, np.float64)
  return np.stack([one(*pair) for pair in zip(frames, previous, strict=True)])


def test_logits_are_those_of_a_t5(logits_of, parameters, frames):
  tokens = np.random.default_rng(2).integers(3, 1391, (3, TOKENS), np.int32)
  previous = np.pad(tokens, ((0, 0), (1, 0)))[:, :-1]
  expected = reference_logits(parameters, frames, previous)
  found = logits_of(tokens)
  np.testing.assert_allclose(found, expected, atol=1e-5 * abs(expected).max())


def test_token_by_token_gives_the_logits_of_all_at_once(
  model, parameters, frames, written, logits_of
):
  expected = logits_of(written)
  keys = model.module.apply({"params": parameters}, frames, method="encode")
  module = model.module.clone(decode=True)

  @jax.jit
  def step(parameters, cache, previous, keys, position):
    return module.apply(
      {"params": parameters, "cache": cache},
      previous,
      keys,
      position,
      method="next_tokens",
      mutable=["cache"],
    )

  cache, previous = {}, jnp.zeros((3, 1), jnp.int32)
  for position in range(TOKENS):
    logits, variables = step(
      parameters, cache, previous, keys, jnp.int32(position)
    )
    np.testing.assert_allclose(
      logits[:, 0], expected[:, position], atol=1e-5 * abs(expected).max()
    )
    cache = variables["cache"]
    previous = jnp.asarray(written[:, position : position + 1])


def test_each_token_is_the_most_probable(written, logits_of):
  np.testing.assert_array_equal(written, logits_of(written).argmax(-1))
  assert len(np.unique(written)) > TOKENS  # Not one and the same.


def test_nothing_is_written_after_eos(model, parameters, frames, written):
  # What has been the third token of the second segment now means EOS.
  third = written[1, 2]
  assert third not in written[1, :2]
  order = np.arange(model.vocabulary.table_rows)
  order[[third, notes.EOS]] = notes.EOS, third
  decoder = dict(parameters["decoder"])
  decoder["logits_dense"] = {
    "kernel": decoder["logits_dense"]["kernel"][:, order]
  }
  decoder["token_embedder"] = {
    "embedding": decoder["token_embedder"]["embedding"][order]
  }
  changed = parameters | {"decoder": decoder}
  tokens = np.asarray(model.predict(changed, frames))
  expected = order[written]
  for row in expected:
    ends = np.flatnonzero(row == notes.EOS)
    if len(ends):
      row[ends[0] + 1 :] = notes.PAD
  assert expected[1, 2] == notes.EOS
  np.testing.assert_array_equal(tokens, expected)


def test_a_cache_that_grows_keeps_what_it_has(
  monkeypatch, model, parameters, frames, written
):
  monkeypatch.setattr(transcription_model, "_SHORTEST_CACHE", 3)
  assert model._cache_lengths() == [3, 5, TOKENS]
  # By a function of its own: `predict` has been compiled with one length.
  predict = models.TranscriptionModel.predict.__wrapped__
  grown = jax.jit(lambda *arrays: predict(model, *arrays))(parameters, frames)
  np.testing.assert_array_equal(grown, written)


def test_segments_do_not_hear_each_other(model, parameters, frames, written):
  others = frames[jnp.array([0, 2, 1])]
  tokens = model.predict(parameters, others)
  np.testing.assert_array_equal(tokens, written[[0, 2, 1]])


def test_parameters_are_as_many_and_named_as_published():
  network = models.NetworkConfig(
    emb_dim=512,
    num_heads=6,
    mlp_dim=1024,
    num_encoder_layers=8,
    num_context_layers=0,
    num_decoder_layers=8,
    max_tokens=1024,
  )
  model = models.TranscriptionModel(network=network)
  shapes = traverse_util.flatten_dict(
    jax.eval_shape(model.init, jax.random.key(0)), sep="/"
  )
  # As counted in the released network itself.
  assert len(shapes) == 189
  assert sum(shape.size for shape in shapes.values()) == 45_896_704
  for name, shape in {
    "encoder/continuous_inputs_projection/kernel": (512, 512),
    "encoder/layers_7/attention/query/kernel": (512, 384),
    "encoder/encoder_norm/scale": (512,),
    "decoder/token_embedder/embedding": (1536, 512),
    "decoder/layers_7/self_attention/out/kernel": (384, 512),
    "decoder/layers_7/mlp/wi_1/kernel": (512, 1024),
    "decoder/logits_dense/kernel": (512, 1536),
  }.items():
    assert shapes[name].shape == shape, name


HOP = transcription_model.SPECTROGRAM.hop_length
SEGMENT = FRAMES * HOP


def test_a_song_has_a_frame_more_than_hops(model):
  lengths = 0, HOP - 1, SEGMENT - 1, SEGMENT, 2 * SEGMENT - 1
  assert [model.num_segments(length) for length in lengths] == [1, 1, 1, 2, 2]


def test_silence_is_ln_1e_5_and_what_follows_the_end_is_0(model):
  heard = model.features(np.zeros(2 * HOP, np.float32), 0)
  np.testing.assert_allclose(heard[:3], np.log(1e-5), rtol=1e-6)
  np.testing.assert_array_equal(heard[3:], 0)


def test_faint_sounds_are_not_raised_to_the_silence(model):
  noise = np.random.default_rng(0).normal(size=SEGMENT).astype(np.float32)
  loud, faint = model.features(noise, 0), model.features(1e-9 * noise, 0)
  assert faint.max() < np.log(1e-5)
  np.testing.assert_allclose(loud - faint, np.log(1e9), rtol=1e-3)


def test_a_segment_hears_nothing_beyond_its_end(model):
  song = np.random.default_rng(0).normal(size=3 * SEGMENT).astype(np.float32)
  np.testing.assert_array_equal(
    model.features(song, 1), model.features(song[: 2 * SEGMENT], 1)
  )
  alone = np.pad(song[SEGMENT : 2 * SEGMENT], (0, SEGMENT))
  np.testing.assert_array_equal(
    model.features(song, 1), model.features(alone, 0)
  )


def test_a_tone_is_heard_in_the_bins_of_its_mel():
  network = tiny_model().network
  model = models.TranscriptionModel(network=network)
  rate = model.spectrogram.sample_rate
  tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate).astype(np.float32)
  # 514 edges, evenly spaced in mel from 20 to 7600 Hz.
  low, mid, high = (1127 * math.log1p(f / 700) for f in (20, 1000, 7600))
  expected = (mid - low) / (high - low) * 513 - 1
  assert abs(model.features(tone, 0)[0].argmax() - expected) < 1
