"""The autoregressive model: causal, cached, and trained by least squares."""

import dataclasses

import jax
from jax import numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion import audio, models, notes

FRAMES = 8


def tiny_model(**fields):
  network = models.paper_network(
    "tiny",
    context=False,
    autoregressive=True,
    segment_frames=FRAMES,
    max_tokens=16,
    dropout_rate=0.0,
  )
  spectrogram = audio.SpectrogramConfig(n_mels=8)
  return models.AutoregressiveModel(
    network=network, spectrogram=spectrogram, **fields
  )


@pytest.fixture(scope="module")
def model():
  return tiny_model(dither=0.0)


@pytest.fixture(scope="module")
def unscaled():
  return tiny_model(dither=0.0, scale_frames=False)


@pytest.fixture(scope="module")
def parameters(model):
  return model.init(jax.random.key(0))


@pytest.fixture(scope="module")
def batch():
  rng = np.random.default_rng(0)
  piece = notes.Notes.from_columns([0.0, 0.05], 0.1, [60, 64], 90)
  [tokens] = notes.tokenize_segments(piece, vocabulary=notes.Vocabulary())
  low, high = audio.SpectrogramConfig().mel_range
  targets = rng.uniform(low, high, (2, FRAMES, 8)).astype(np.float32)
  padded = np.zeros((2, 16), np.int32)
  padded[:, : len(tokens)] = tokens
  return {
    "note_tokens": jnp.asarray(padded),
    "context": jnp.zeros((2, FRAMES, 8)),
    "context_mask": jnp.zeros((2, FRAMES), bool),
    "targets": jnp.asarray(targets),
    "targets_mask": jnp.ones((2, FRAMES), bool),
  }


def predict(model, parameters, batch, seed=0):
  return model.predict(
    parameters,
    batch["note_tokens"],
    batch["context"],
    batch["context_mask"],
    jax.random.key(seed),
  )


def teacher_forced(model, parameters, batch, previous):
  conditioning = model._encode(parameters, batch["note_tokens"])
  return model.module.apply(
    {"params": parameters}, previous, conditioning, method="next_frames"
  )


def test_a_frame_depends_on_the_frames_before_it_alone(
  model, parameters, batch
):
  previous = jax.random.normal(jax.random.key(1), (2, FRAMES, 8))
  changed = previous.at[:, 5].add(1.0)
  before = teacher_forced(model, parameters, batch, previous)
  after = teacher_forced(model, parameters, batch, changed)
  np.testing.assert_allclose(after[:, :5], before[:, :5], atol=1e-6)
  assert np.abs(after - before)[:, 5:].max(axis=(0, 2)).min() > 1e-3


def test_frames_one_by_one_are_those_of_the_whole_segment(
  model, parameters, batch
):
  generated = predict(model, parameters, batch)
  scaled = audio.scale_log_mel(generated, model.spectrogram)
  assert scaled.std() > 0.05
  previous = jnp.pad(scaled, ((0, 0), (1, 0), (0, 0)))[:, :-1]
  again = teacher_forced(model, parameters, batch, previous)
  np.testing.assert_allclose(jnp.clip(again, -1, 1), scaled, atol=1e-5)


def test_frames_that_are_not_scaled_are_fed_back_as_they_are(
  unscaled, parameters, batch
):
  large = jax.tree.map(lambda p: 5 * p, parameters)  # Beyond [-1, 1].
  generated = predict(unscaled, large, batch)
  assert np.abs(generated).max() > 4.0
  previous = jnp.pad(generated, ((0, 0), (1, 0), (0, 0)))[:, :-1]
  again = teacher_forced(unscaled, large, batch, previous)
  np.testing.assert_allclose(again, generated, rtol=1e-3, atol=1e-3)


def test_the_frame_before_the_first_is_zeros_scaled_or_not(
  model, unscaled, parameters, batch
):
  flat = jax.tree.map(jnp.zeros_like, parameters)
  decoder = flat["decoder"] | {
    name: jax.tree.map(jnp.ones_like, flat["decoder"][name])
    for name in ("continuous_inputs_projection", "decoder_norm")
  }
  decoder["spec_out_dense"] = {"kernel": jnp.full((32, 8), 0.01)}
  # Of position 0, 16 sines are 0 and 16 cosines 1; normed, each is sqrt(2).
  expected = 0.01 * 16 * np.sqrt(2.0)
  first = predict(unscaled, flat | {"decoder": decoder}, batch)[:, 0]
  np.testing.assert_allclose(first, expected, rtol=1e-5)
  scaled = predict(model, flat | {"decoder": decoder}, batch)[:, 0]
  low, high = model.spectrogram.mel_range
  expected = low + (expected + 1) / 2 * (high - low)
  np.testing.assert_allclose(scaled, expected, rtol=1e-5)


@pytest.mark.parametrize("scale_frames", [True, False])
def test_dither_has_its_deviation_in_nats(
  model, parameters, batch, scale_frames
):
  model = dataclasses.replace(model, scale_frames=scale_frames)
  flat = jax.tree.map(jnp.zeros_like, parameters)  # Predicts zeros.
  dithered = dataclasses.replace(model, dither=0.2)
  noise = predict(dithered, flat, batch) - predict(model, flat, batch)
  assert 0.15 < float(noise.std()) < 0.25
  other = predict(dithered, flat, batch, seed=1) - predict(model, flat, batch)
  assert np.abs(other - noise).max() > 0.1


def test_notes_change_what_is_generated(model, parameters, batch):
  silent = batch | {"note_tokens": batch["note_tokens"].at[:, 0].set(1)}
  played, other = (predict(model, parameters, b) for b in (batch, silent))
  assert np.abs(played - other).max() > 1e-3


def test_how_far_tokens_are_padded_changes_nothing(model, parameters, batch):
  tokens = batch["note_tokens"]
  shorter = tokens[:, : int((tokens > 0).sum(1).max())]
  assert shorter.shape[1] < tokens.shape[1]
  np.testing.assert_array_equal(
    predict(model, parameters, batch | {"note_tokens": shorter}),
    predict(model, parameters, batch),
  )


def test_loss_is_the_mean_squared_error_of_valid_frames(
  model, parameters, batch
):
  flat = jax.tree.map(jnp.zeros_like, parameters)
  mask = batch["targets_mask"].at[:, 4:].set(False)
  loss, _ = model.loss(
    flat, batch | {"targets_mask": mask}, jax.random.key(0), train=False
  )
  targets = audio.scale_log_mel(np.asarray(batch["targets"]), model.spectrogram)
  np.testing.assert_allclose(loss, np.square(targets[:, :4]).mean(), rtol=1e-5)


def test_loss_of_frames_that_are_not_scaled_is_in_nats_without_a_limit(
  unscaled, parameters, batch
):
  flat = jax.tree.map(jnp.zeros_like, parameters)
  targets = jnp.full((2, FRAMES, 8), -3.0).at[:, : FRAMES // 2].set(5.0)
  loss, _ = unscaled.loss(
    flat, batch | {"targets": targets}, jax.random.key(0), train=False
  )
  np.testing.assert_allclose(loss, (9.0 + 25.0) / 2)


def test_gradient_descent_lowers_the_loss(model, parameters, batch):
  @jax.jit
  def step(parameters):
    (loss, _), gradients = jax.value_and_grad(model.loss, has_aux=True)(
      parameters, batch, jax.random.key(0)
    )
    return loss, jax.tree.map(lambda p, g: p - 0.02 * g, parameters, gradients)

  losses = []
  for _ in range(20):
    loss, parameters = step(parameters)
    losses.append(float(loss))
  assert losses[-1] < 0.7 * losses[0]


def test_parameters_are_the_transformers_without_noise_time(parameters):
  assert set(parameters) == {"encoder", "decoder"}
  assert "Embed_0" not in parameters["encoder"]
  assert set(parameters["decoder"]) == {
    "continuous_inputs_projection",
    "decoder_norm",
    "layers_0",
    "layers_1",
    "spec_out_dense",
  }
  assert not [k for k in parameters["decoder"]["layers_0"] if "FiLM" in k]


def test_config_comes_back_from_json(model, unscaled):
  for original in (model, unscaled):
    assert models.from_config(models.to_config(original)) == original


def test_a_config_that_does_not_say_so_is_of_scaled_frames(model):
  config = models.to_config(model)
  del config["scale_frames"]
  assert models.from_config(config) == model


def test_a_network_of_another_kind_is_refused():
  with pytest.raises(ValueError, match="autoregressive"):
    models.AutoregressiveModel(network=models.paper_network("tiny"))
  with pytest.raises(ValueError, match="num_context_layers to 0"):
    models.paper_network("tiny", autoregressive=True)
