"""Training inverters: alone, against discriminators, and what stops a run."""

import json
import math
import pathlib
from typing import Any

from flax import struct
import jax
from jax import numpy as jnp
import numpy as np
import optax
import pytest

from music_spectrogram_diffusion import audio, inverter, training
from music_spectrogram_diffusion.training import divergence, inverter_learner

CONFIG = audio.SpectrogramConfig(
  sample_rate=8000,
  hop_length=80,
  win_length=160,
  n_fft=256,
  n_mels=16,
  fmax=4000.0,
)
VOCODER = inverter.SinusoidVocoder(
  spectrogram=CONFIG, channels=8, num_blocks=1, expansion=2
)
SEANET = inverter.SeaNet(spectrogram=CONFIG, channels=2, strides=(8, 5, 2))
JUDGES = inverter.DiscriminatorConfig(
  stft_channels=2,
  stft_window=128,
  stft_hop=32,
  wave_channels=4,
  max_wave_channels=8,
  num_wave_scales=1,
)
FRAMES = 48
KEY = jax.random.key(0)


def distance(real, generated, config):
  return inverter.relative_spectral_loss(
    real, generated, config, scales=((256, 16),)
  )


def alone(generator=VOCODER, **options):
  return inverter_learner.InverterLearner(
    generator=generator,
    optimizer=optax.adam(3e-3),
    reconstruction=distance,
    **options,
  )


def adversarial(**options):
  return alone(
    discriminators=inverter.Discriminators(JUDGES),
    discriminator_optimizer=optax.adam(5e-3),
    **options,
  )


def batch(number=0, size=2):
  rng = np.random.default_rng(number)
  time = np.arange(FRAMES * CONFIG.hop_length) / CONFIG.sample_rate
  pitch = rng.uniform(200.0, 1500.0, (size, 1))
  return {"audio": np.float32(0.3 * np.sin(2 * np.pi * pitch * time))}


def drawn(learner):
  """A state by NumPy: to compile the initialisers takes longer than a step."""
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(learner.initial_state, KEY)
  parameters, discriminators = jax.tree.map(
    lambda shape: np.float32(
      rng.normal(size=shape.shape) / math.sqrt(math.prod(shape.shape[:-1]))
    ),
    (shapes.parameters, shapes.discriminators),
  )
  return learner.state_of(parameters, discriminators)


@struct.dataclass
class ToyState:
  step: Any


@pytest.fixture(scope="module")
def adversarial_step():
  learner = adversarial()
  state = jax.jit(learner.initial_state)(KEY)
  return learner, state, jax.jit(learner.step)


@pytest.fixture(scope="module")
def vocoder_step():
  learner = alone()
  return jax.jit(learner.initial_state)(KEY), jax.jit(learner.step)


@pytest.fixture
def seanet_step():
  learner = alone(SEANET)
  return drawn(learner), jax.jit(learner.step)


@pytest.mark.parametrize("generator", ["vocoder", "seanet"])
def test_a_generator_learns_to_make_tones(request, generator):
  state, step = request.getfixturevalue(f"{generator}_step")
  losses = []
  for _ in range(20):
    state, metrics = step(state, batch(), KEY)
    losses.append(float(metrics["loss"]))
  assert losses[-1] < 0.9 * losses[0]
  assert int(state.step) == 20


def test_both_sides_are_updated_in_one_step(adversarial_step):
  learner, state, step = adversarial_step
  after, metrics = step(state, batch(), KEY)
  for before, now in (
    (state.parameters, after.parameters),
    (state.discriminators, after.discriminators),
  ):
    changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, now)
    assert np.mean(jax.tree.leaves(changed)) > 0.5
  assert {"adversarial", "feature_matching", "discriminator_loss"} <= set(
    metrics
  )
  assert all(np.isfinite(value) for value in metrics.values())


def test_losses_add_up_with_their_weights(adversarial_step):
  learner, state, step = adversarial_step
  _, metrics = step(state, batch(), KEY)
  weights = inverter.LossWeights()
  expected = (
    weights.reconstruction * metrics["reconstruction"]
    + weights.adversarial * metrics["adversarial"]
    + weights.feature_matching * metrics["feature_matching"]
    + metrics["frequency"]
  )
  np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)


def test_discriminators_learn_to_tell_what_is_generated(adversarial_step):
  _, first, step = adversarial_step
  state, losses = first, []
  for number in range(25):
    state, metrics = step(state, batch(number % 4), KEY)
    losses.append(float(metrics["discriminator_loss"]))
    # What they tell apart does not run away from them.
    state = state.replace(parameters=first.parameters)
  assert losses[-1] < 0.8 * losses[0]


def test_the_log_mel_of_a_batch_comes_before_the_audio_s_own(vocoder_step):
  state, step = vocoder_step
  clips = batch()
  own = np.asarray(audio.log_mel(clips["audio"], CONFIG))[:, :-1]
  _, metrics = step(state, clips, KEY)
  _, same = step(state, clips | {"log_mel": own}, KEY)
  _, other = step(state, clips | {"log_mel": own - 1.0}, KEY)
  np.testing.assert_allclose(same["loss"], metrics["loss"], rtol=1e-4)
  assert abs(float(other["loss"]) - float(metrics["loss"])) > 1e-3


def test_evaluation_measures_the_average(vocoder_step):
  state, _ = vocoder_step
  evaluate = jax.jit(alone().evaluate)
  metrics = evaluate(state, batch(), KEY)
  assert {"loss", "stft_distance", "log_mel_distance"} <= set(metrics)
  moved = state.replace(
    parameters=jax.tree.map(lambda leaf: 1 + np.asarray(leaf), state.parameters)
  )
  again = evaluate(moved, batch(), KEY)
  assert float(metrics["loss"]) == float(again["loss"])


@pytest.mark.parametrize(
  "clips, complaint",
  [
    ({"sound": np.zeros((2, 4000))}, "batches with audio"),
    ({"audio": np.zeros((2, 4001))}, "multiple of 80"),
    ({"audio": np.zeros((2, 800))}, "raise CLIP_FRAMES"),
    (
      {"audio": np.zeros((2, 4000)), "log_mel": np.zeros((2, 50, 16))},
      r"log_mel \[2, 49, 16\]",
    ),
  ],
)
def test_clips_that_do_not_fit_are_refused(clips, complaint):
  with pytest.raises(ValueError, match=complaint):
    alone().check_batch(clips)


def test_discriminators_need_an_optimizer():
  with pytest.raises(ValueError, match="or neither"):
    alone(discriminators=inverter.Discriminators(JUDGES))


def test_the_loop_trains_and_goes_on_with_an_inverter(tmp_path):
  learner = alone()

  def run(steps):
    return training.train_model(
      model_dir=tmp_path / "run",
      learner=learner,
      train_source=lambda **_: training.StepIndexed(batch),
      eval_source=lambda **_: training.StepIndexed(lambda i: batch(i + 100)),
      total_steps=steps,
      batch_size=2,
      partitioner=training.Partitioner(data=1),
      checkpoints=training.CheckpointConfig(save_every=2),
      watchers=[lambda run: divergence.StopOnDivergence(run, every=2)],
      log_every=1,
    )

  run(2)
  state = run(4)
  assert int(state.step) == 4
  described = json.loads((tmp_path / "run" / "model.json").read_text())
  assert inverter.from_config(described) == VOCODER
  average = training.restore_average(tmp_path / "run" / "checkpoints")
  jax.tree.map(np.testing.assert_array_equal, average, state.average)


def lost_run(directory, metrics_of, keep=1, **options):
  """Trains a toy up to step 20, whose metrics are a function of the step."""

  def step(state, batch, key):
    del batch, key
    done = int(state.step) + 1
    metrics = {name: jnp.float32(x) for name, x in metrics_of(done).items()}
    return ToyState(jnp.int32(done)), metrics

  return training.train(
    ToyState(jnp.int32(0)),
    step,
    training.StepIndexed(lambda _: {"audio": np.zeros(1)}),
    directory=directory / "checkpoints",
    num_steps=20,
    key=KEY,
    checkpoints=training.CheckpointConfig(save_every=2, keep=keep),
    watchers=[watcher(directory, every=2, **options)],
    log_every=4,
  )


def saved_steps(directory):
  paths = directory.glob("checkpoints/*")
  return sorted(int(path.name) for path in paths if path.is_dir())


def test_a_run_that_explodes_goes_on_from_before(tmp_path):
  def exploding(step):
    return {"reconstruction": 0.5 if step < 8 else 50.0}

  for _ in range(2):  # As a user would who changes nothing.
    with pytest.raises(divergence.DivergenceError, match="at step 8"):
      lost_run(tmp_path, exploding)
    assert saved_steps(tmp_path) == [6]
  state = lost_run(tmp_path, lambda step: {"reconstruction": 0.5})
  assert int(state.step) == 20


def test_what_collapses_is_not_saved_meanwhile(tmp_path):
  def collapsing(step):
    loss = 1.0 if step < 7 else 0.001
    return {"reconstruction": 0.5, "discriminator_loss": loss}

  with pytest.raises(divergence.DivergenceError, match="at step 12"):
    lost_run(tmp_path, collapsing, patience=3, sure=0.6)
  assert saved_steps(tmp_path) == [6]


def test_a_doubt_that_passes_prevents_no_later_checkpoint(tmp_path):
  def doubtful(step):
    loss = 0.001 if 7 <= step <= 10 else 1.0
    return {"reconstruction": 0.5, "discriminator_loss": loss}

  lost_run(tmp_path, doubtful, keep=20, patience=3)
  assert saved_steps(tmp_path) == [2, 4, 6, 12, 14, 16, 18, 20]


def watcher(directory=pathlib.Path("the-run"), every=10, **options):
  run = training.Run(
    directory=directory,
    learner=alone(),
    partitioner=training.Partitioner(data=1),
    total_steps=100,
    batch_size=2,
    key=KEY,
    eval_source=None,
  )
  return divergence.StopOnDivergence(run, every=every, **options)


def test_an_exploding_reconstruction_stops_a_run():
  watch = watcher(worst=3.0)
  watch(10, None, {"reconstruction": 0.5})
  watch(20, None, {"reconstruction": 1.4})
  with pytest.raises(
    divergence.DivergenceError, match="1.6 at step 30.*the-run"
  ):
    watch(30, None, {"reconstruction": 1.6})


@pytest.mark.parametrize(
  "loss, what", [(0.001, "all that is"), (2.0, "nothing")]
)
def test_collapsed_discriminators_stop_a_run_after_a_while(loss, what):
  watch = watcher(patience=3)
  fine = {"reconstruction": 0.5, "discriminator_loss": 1.0}
  lost = fine | {"discriminator_loss": loss}
  for metrics in (lost, lost, fine, lost, lost):
    watch(10, None, metrics)
  with pytest.raises(divergence.DivergenceError, match=what):
    watch(60, None, lost)


def test_a_steady_run_is_left_alone():
  watch = watcher(patience=2)
  for step in range(20):
    watch(
      step,
      None,
      {
        "reconstruction": 0.5 + 0.1 * math.sin(step),
        "discriminator_loss": 1.5 + 0.4 * math.cos(step),
      },
    )


def test_the_average_follows_the_parameters_and_lags_behind(vocoder_step):
  state, step = vocoder_step
  for _ in range(2):
    before, (state, _) = state, step(state, batch(), KEY)
  rate = 2 / 11  # Of the old average in the second step: less than ema_decay.
  expected = jax.tree.map(
    lambda old, new: rate * old + (1 - rate) * new,
    before.average,
    state.parameters,
  )
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-7),
    state.average,
    expected,
  )
  assert not np.allclose(
    state.average["head"]["kernel"], state.parameters["head"]["kernel"], atol=0
  )


def test_silence_gives_finite_losses_and_gradients(adversarial_step):
  _, state, step = adversarial_step
  silent = {"audio": np.zeros((2, FRAMES * CONFIG.hop_length), np.float32)}
  _, metrics = step(state, silent, KEY)
  assert all(np.isfinite(value) for value in metrics.values())
