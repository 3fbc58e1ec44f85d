import functools

import jax
from jax import numpy as jnp
import numpy as np
import optax
import pytest

from music_spectrogram_diffusion import audio, models
from music_spectrogram_diffusion.training import learners

TOKENS, FRAMES, MEL_BINS = 8, 4, 8
LENGTHS = {"inputs": TOKENS, "targets": FRAMES, "targets_context": FRAMES}
SIZES = dict(
  emb_dim=8,
  num_heads=1,
  head_dim=8,
  mlp_dim=8,
  num_encoder_layers=1,
  num_context_layers=1,
  num_decoder_layers=1,
  dropout_rate=0.5,
)


def model_of(**options):
  network = models.NetworkConfig(**(SIZES | options))
  kind = models.AutoregressiveModel
  return (kind if network.autoregressive else models.DiffusionModel)(
    network=learners.fit_lengths(network, LENGTHS),
    spectrogram=audio.SpectrogramConfig(n_mels=MEL_BINS),
  )


def make_batch(**lengths):
  sizes = dict(tokens=TOKENS, context=FRAMES, targets=FRAMES, bins=MEL_BINS)
  sizes |= lengths
  context = (2, sizes["context"])
  targets = (2, sizes["targets"])
  return {
    "note_tokens": np.ones((2, sizes["tokens"]), np.int32),
    "context": np.zeros((*context, sizes["bins"]), np.float32),
    "context_mask": np.ones(context, bool),
    "targets": np.zeros((*targets, sizes["bins"]), np.float32),
    "targets_mask": np.ones(targets, bool),
  }


@pytest.fixture(scope="module")
def learner():
  return learners.ModelLearner(
    model=model_of(),
    optimizer=optax.sgd(0.1),
    initialize=lambda key, model: jax.tree.map(
      lambda leaf: jnp.full(leaf.shape, 0.1),
      jax.eval_shape(model.init, key),
    ),
    ema_decay=0.5,
  )


@pytest.fixture(scope="module")
def state(learner):
  return learner.initial_state(jax.random.key(0))


def test_it_is_a_learner(learner):
  assert isinstance(learner, learners.Learner)


def test_a_description_is_the_model_s(learner):
  assert models.from_config(learner.describe()) == learner.model


def test_a_step_moves_the_parameters_and_their_average(learner, state):
  after, metrics = jax.jit(learner.step)(state, make_batch(), jax.random.key(1))
  assert after.step == 1
  assert {"loss", "gradient_norm"} <= metrics.keys()
  kernel = [
    tree["decoder"]["spec_out_dense"]["kernel"]
    for tree in (state.parameters, after.average, after.parameters)
  ]
  assert (kernel[2] != kernel[0]).any()
  # In the first step the average forgets nine tenths, or as the decay says.
  np.testing.assert_allclose(
    kernel[1], 0.1 * kernel[0] + 0.9 * kernel[2], rtol=1e-4
  )


def test_evaluation_is_of_the_average_and_without_dropout(learner, state):
  key = jax.random.key(2)
  evaluate = jax.jit(learner.evaluate)
  other = state.replace(
    parameters=jax.tree.map(jnp.zeros_like, state.parameters)
  )
  found = evaluate(other, make_batch(), key)
  loss = functools.partial(learner.model.loss, train=False)
  expected, _ = jax.jit(loss)(state.average, make_batch(), key)
  assert float(found["loss"]) == pytest.approx(float(expected), rel=1e-5)


def test_given_weights_are_both_parameters_and_average(learner, state):
  given = jax.tree.map(lambda leaf: np.full(leaf.shape, 2.0), state.average)
  started = learner.start_from(state, given)
  for tree in (started.parameters, started.average):
    assert all((leaf == 2).all() for leaf in jax.tree.leaves(tree))


def test_batches_as_long_as_the_network_fit(learner):
  learner.check_batch(make_batch())
  learner.check_batch(make_batch(tokens=TOKENS - 3))  # Tokens may be fewer.


@pytest.mark.parametrize(
  ("lengths", "name"),
  [
    (dict(tokens=9), "note_tokens"),
    (dict(context=5), "context"),
    (dict(targets=3), "targets"),
    (dict(bins=9), r"context of \[batch, 4, 8\].*\[batch, 4, 9\]"),
  ],
)
def test_batches_of_other_lengths_are_refused_by_name(learner, lengths, name):
  with pytest.raises(ValueError, match=f"Expected {name}.*FEATURE_LENGTHS"):
    learner.check_batch(make_batch(**lengths))


def test_a_batch_that_lacks_something_is_refused(learner):
  batch = make_batch()
  del batch["targets_mask"]
  with pytest.raises(ValueError, match="targets_mask is missing"):
    learner.check_batch(batch)


@pytest.mark.parametrize(
  "lengths",
  [
    {"inputs": 8, "targets": 4},  # A network with context needs one.
    LENGTHS | {"targets_context": 3},
    LENGTHS | {"target": 4},
    LENGTHS | {"inputs": 0},
  ],
)
def test_lengths_that_no_network_has_are_refused(lengths):
  network = models.NetworkConfig(**SIZES)
  with pytest.raises(ValueError, match="TASK_FEATURE_LENGTHS"):
    learners.fit_lengths(network, lengths)


def test_a_network_may_play_more_tokens_than_it_was_trained_on():
  network = models.NetworkConfig(**SIZES)
  fitted = learners.fit_lengths(network, LENGTHS, max_tokens=99)
  assert (fitted.max_tokens, fitted.segment_frames) == (99, FRAMES)


def test_an_autoregressive_model_learns_by_the_same_step():
  learner = learners.ModelLearner(
    model=model_of(autoregressive=True, num_context_layers=0),
    optimizer=optax.adam(0.02),
  )
  state = jax.jit(learner.initial_state)(jax.random.key(0))
  step = jax.jit(learner.step)
  losses = []
  for _ in range(20):
    state, metrics = step(state, make_batch(), jax.random.key(1))
    losses.append(float(metrics["loss"]))
  assert losses[-1] < 0.5 * losses[0]
