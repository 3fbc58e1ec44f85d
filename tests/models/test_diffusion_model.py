import dataclasses

import jax
from jax import numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion import audio, diffusion, models

KEY = jax.random.key(0)


def conditioning_of(tiny, batch):
  return tiny.encode(
    batch["note_tokens"], batch["context"], batch["context_mask"]
  )


@pytest.fixture(scope="module")
def predictions(either, batch_of, noisy):
  """Conditional, unconditional, and a function of the guidance weight."""
  conditioning = conditioning_of(either, batch_of(either))

  def guided(weight):
    return either.denoise(*noisy, conditioning, guidance_weight=weight)

  unconditional = either.denoise(*noisy, conditioning.unconditional())
  return either.denoise(*noisy, conditioning), unconditional, guided


def test_guidance_of_1_is_the_conditional_prediction(predictions):
  conditional, _, guided = predictions
  np.testing.assert_array_equal(guided(1.0), conditional)


def test_guidance_of_0_is_the_unconditional_prediction(predictions):
  conditional, unconditional, guided = predictions
  np.testing.assert_allclose(guided(0.0), unconditional, atol=1e-4)
  assert np.abs(unconditional - conditional).max() > 1e-2


def test_the_paper_s_prediction_is_that_of_eps(paper, batch_of, noisy):
  z_t, time = noisy
  conditioning = conditioning_of(paper, batch_of(paper))
  output = jax.jit(paper.model.output)(
    paper.parameters, z_t, time, conditioning
  )
  logsnr = diffusion.schedules.CosineSchedule().logsnr(time)
  alpha, sigma = diffusion.schedules.alpha_sigma(logsnr, 3)
  x0 = paper.denoise(z_t, time, conditioning)
  np.testing.assert_allclose(alpha * x0 + sigma * output, z_t, atol=1e-4)


def predict(aligned, batch, key=KEY, **settings):
  """By default, two steps of DDIM with guidance 1.5."""
  return aligned.model.predict(
    aligned.parameters,
    batch["note_tokens"],
    batch["context"],
    batch["context_mask"],
    key,
    **settings,
  )


def test_predict_gives_log_mel_in_its_range_by_its_key(aligned, batch_of):
  batch = batch_of(aligned)
  log_mel = predict(aligned, batch)
  low, high = aligned.model.spectrogram.mel_range
  assert log_mel.shape == batch["targets"].shape
  assert low - 1e-3 <= log_mel.min() and log_mel.max() <= high + 1e-3
  np.testing.assert_array_equal(log_mel, predict(aligned, batch))
  other = predict(aligned, batch, jax.random.key(1))
  assert np.abs(log_mel - other).max() > 0.1


def test_predict_is_the_sampler_s_loop_by_hand(aligned, batch_of):
  batch = batch_of(aligned)
  model, schedule = aligned.model, aligned.model.schedule
  conditioning = conditioning_of(aligned, batch)
  z_t = jax.random.normal(jax.random.fold_in(KEY, 0), batch["targets"].shape)
  # Two steps from 1 to end_time = 0.5; the second one ends in x0.
  logsnr = [schedule.logsnr(jnp.full(3, t)) for t in (1.0, 0.75)]
  for index, time in enumerate((1.0, 0.75)):
    time = jnp.full(3, time)
    heard = aligned.denoise(z_t, time, conditioning)
    unheard = aligned.denoise(z_t, time, conditioning.unconditional())
    x0 = jnp.clip(1.5 * heard - 0.5 * unheard, -1, 1)
    if index == 0:
      z_t = diffusion.samplers.ddim_step(
        z_t, x0, logsnr_t=logsnr[0], logsnr_s=logsnr[1]
      )
  expected = audio.unscale_log_mel(x0, model.spectrogram)
  found = predict(aligned, batch)
  np.testing.assert_allclose(found, expected, atol=5e-3)


@pytest.mark.parametrize(
  ("settings", "said"),
  [
    ({"sampler": "euler"}, "sampler of ddpm, ddim, dpm, sde-dpm; got 'euler'"),
    ({"num_steps": 0}, "at least 1 sampling step, got 0"),
    ({"end_time": 1.0}, "end_time from 0 to below 1, got 1.0"),
    ({"end_time": -0.1}, "end_time"),
    ({"guidance_weight": float("nan")}, "finite guidance weight, got nan"),
  ],
)
def test_settings_out_of_range_are_errors(aligned, batch_of, settings, said):
  with pytest.raises(ValueError, match=said):
    predict(aligned, batch_of(aligned), **settings)


def test_the_loss_is_a_mean_over_the_valid_frames(either, batch_of):
  batch = batch_of(either)

  def loss_of(mask):
    mask = jnp.broadcast_to(mask, batch["targets_mask"].shape)
    return either.loss(batch | {"targets_mask": mask}, KEY, train=False)

  first = jnp.arange(12) < 5
  whole, _ = loss_of(jnp.ones(12, bool))
  (left, _), (right, _) = loss_of(first), loss_of(~first)
  assert abs(left - right) > 1e-4
  np.testing.assert_allclose(whole, (5 * left + 7 * right) / 12, rtol=1e-5)
  nothing, metrics = loss_of(jnp.zeros(12, bool))
  assert nothing == 0.0 and np.isnan(list(metrics.values())).all()


def test_dropout_is_on_only_when_asked_for(paper, batch_of):
  batch = batch_of(paper)
  inputs = [batch[n] for n in ("note_tokens", "context", "context_mask")]
  still = conditioning_of(paper, batch).keys

  @jax.jit
  def dropped(key):
    return paper.model.encode(
      paper.parameters, *inputs, deterministic=False, rngs={"dropout": key}
    ).keys

  one, other = dropped(jax.random.key(0)), dropped(jax.random.key(1))
  for a, b in ((one, other), (one, still)):
    assert np.abs(a - b).max() > 1e-2


def dropping(tiny, **shares):
  """Loss in training without dropout of activations."""
  network = dataclasses.replace(tiny.model.network, dropout_rate=0.0)
  model = dataclasses.replace(tiny.model, network=network)
  objective = models.Objective(**({"drop_condition": 0.0} | shares))

  @jax.jit
  def loss(batch):
    return model.loss(tiny.parameters, batch, KEY, objective=objective)[0]

  return loss


def test_a_dropped_condition_is_no_notes_and_no_context(paper, batch_of):
  # What is expected is of a model with dropout, but out of training.
  batch = batch_of(paper)
  loss = dropping(paper, drop_condition=1.0)
  nothing = batch | {
    "note_tokens": jnp.zeros_like(batch["note_tokens"]),
    "context_mask": jnp.zeros_like(batch["context_mask"]),
  }
  expected, _ = paper.loss(nothing, KEY, train=False)
  assert loss(batch) == loss(nothing)
  np.testing.assert_allclose(loss(batch), expected, rtol=1e-5)


def test_a_dropped_context_leaves_the_notes(paper, batch_of):
  batch = batch_of(paper)
  loss = dropping(paper, drop_context=1.0)
  without = jnp.zeros_like(batch["context_mask"])
  expected, _ = paper.loss(batch | {"context_mask": without}, KEY, train=False)
  np.testing.assert_allclose(loss(batch), expected, rtol=1e-5)
  fewer = batch | {"note_tokens": jnp.zeros_like(batch["note_tokens"])}
  assert abs(loss(fewer) - expected) > 1e-4


def test_draws_of_noise_are_as_examples_over_again(aligned, batch_of):
  batch = batch_of(aligned)
  repeated = {k: jnp.repeat(v, 2, axis=0) for k, v in batch.items()}
  twice, metrics = aligned.loss(
    batch, KEY, objective=models.Objective(noise_draws=2), train=False
  )
  expected, expected_metrics = aligned.loss(repeated, KEY, train=False)
  np.testing.assert_allclose(twice, expected, rtol=1e-4)
  for name, value in metrics.items():
    np.testing.assert_allclose(value, expected_metrics[name], rtol=1e-3)


def test_errors_are_told_apart_by_noise_level(either, batch_of):
  _, metrics = either.loss(batch_of(either), KEY, train=False)
  assert metrics.keys() == {
    f"{kind}/{level}"
    for kind in ("loss", "x0_error")
    for level in ("low", "medium", "high")
  }
  # Three stratified times: one in each third.
  low, high = metrics["x0_error/low"], metrics["x0_error/high"]
  assert 0 < low < high <= 2


def test_the_loss_is_made_of_those_of_its_noise_levels(aligned, batch_of):
  batch = batch_of(aligned)
  everything = jnp.ones_like(batch["targets_mask"])
  loss, metrics = aligned.loss(
    batch | {"targets_mask": everything}, KEY, train=False
  )
  levels = [metrics[f"loss/{level}"] for level in ("low", "medium", "high")]
  np.testing.assert_allclose(loss, np.mean(levels), rtol=1e-5)


def test_a_noise_level_that_no_frame_has_is_nan(aligned, batch_of):
  # Of three stratified times, one is in each third.
  batch = batch_of(aligned)
  only_one = jnp.asarray([[True], [False], [False]]) & batch["targets_mask"]
  _, metrics = aligned.loss(
    batch | {"targets_mask": only_one}, KEY, train=False
  )
  values = [metrics[f"loss/{level}"] for level in ("low", "medium", "high")]
  assert np.isnan(values).sum() == 2
