import functools

import jax
from jax import numpy as jnp
import numpy as np
import optax
import pytest

from music_spectrogram_diffusion import audio, diffusion, models, training
from music_spectrogram_diffusion.training import step as steps

FRAMES, TOKENS, MEL_BINS = 8, 16, 8
SIZES = dict(
  emb_dim=16,
  num_heads=2,
  head_dim=8,
  mlp_dim=16,
  num_encoder_layers=1,
  num_context_layers=1,
  num_decoder_layers=1,
  segment_frames=FRAMES,
  max_tokens=TOKENS,
)
EDM = diffusion.parameterization.EDM(
  mean=np.zeros(MEL_BINS, np.float32),
  deviation=np.full(MEL_BINS, 0.3, np.float32),
)
PAPER = (
  models.NetworkConfig(**SIZES),
  diffusion.parameterization.Eps(),
  diffusion.losses.eps_loss,
  training.adafactor(3e-2),
)
ALIGNED = (
  models.aligned_network(max_notes=8, **SIZES),
  EDM,
  diffusion.losses.output_loss,
  training.adamw(1e-2, weight_decay=0.1),
)
NUM_STEPS = 200


@pytest.fixture(scope="module", params=[PAPER, ALIGNED], ids=["eps", "edm"])
def trained(request):
  """The state before and after training on one batch, and all metrics."""
  network, parameterization, loss, optimizer = request.param
  model = models.DiffusionModel(
    network=network,
    spectrogram=audio.SpectrogramConfig(n_mels=MEL_BINS),
    parameterization=parameterization,
  )
  rng = np.random.default_rng(0)
  valid = np.ones((2, FRAMES), bool)
  batch = {
    "note_tokens": rng.integers(1, 1400, (2, TOKENS), np.int32),
    "context": np.full((2, FRAMES, MEL_BINS), -3.0, np.float32),
    "context_mask": valid,
    "targets": rng.uniform(-11, 3, (2, 1, MEL_BINS)).astype(np.float32)
    + np.zeros((2, FRAMES, 1), np.float32),
    "targets_mask": valid,
  }
  # By NumPy: to compile the initialisers takes longer than all else.
  parameters = jax.tree.map(
    lambda shape: rng.normal(0, 0.25, shape.shape).astype(np.float32),
    jax.eval_shape(model.init, jax.random.key(0)),
  )
  before = steps.TrainState.create(parameters, optimizer)
  objective = models.Objective(loss=loss, noise_draws=2)
  step = jax.jit(
    functools.partial(
      steps.train_step,
      loss=functools.partial(model.loss, objective=objective),
      optimizer=optimizer,
      ema_decay=0.9,
    ),
    donate_argnums=0,
  )
  state, history = jax.tree.map(jnp.copy, before), []
  for _ in range(NUM_STEPS):
    state, metrics = step(state, batch, jax.random.key(1))
    history.append(metrics)
  return before, state, {k: [m[k] for m in history] for k in history[0]}


def test_the_loss_of_one_batch_falls(trained):
  _, _, metrics = trained
  assert np.isfinite(metrics["loss"]).all()
  first, last = (np.mean(metrics["loss"][s]) for s in np.s_[:20, -40:])
  assert last < 0.75 * first


def test_metrics_are_the_model_s_and_the_step_s(trained):
  _, _, metrics = trained
  levels = {
    f"{kind}/{level}"
    for kind in ("loss", "x0_error")
    for level in ("low", "medium", "high")
  }
  assert metrics.keys() == levels | {
    "loss",
    "gradient_norm",
    "parameter_norm",
  }
  assert min(metrics["gradient_norm"]) > 0


def test_every_step_draws_its_own_noise(trained):
  _, _, metrics = trained
  assert len(set(map(float, metrics["loss"]))) == NUM_STEPS


def test_position_tables_never_change_and_all_else_does(trained):
  before, after, _ = trained
  for name in ("parameters", "average"):
    old, new = (
      dict(jax.tree_util.tree_leaves_with_path(getattr(state, name)))
      for state in (before, after)
    )
    tables = [path for path in old if "Embed_0" in str(path)]
    assert tables
    for path in old:
      same = np.array_equal(old[path], new[path])
      assert same == (path in tables), jax.tree_util.keystr(path)


def test_the_average_follows_the_parameters(trained):
  before, after, _ = trained

  def distance(a, b):
    gaps = jax.tree.map(lambda x, y: jnp.sum((x - y) ** 2), a, b)
    return float(sum(jax.tree.leaves(gaps)))

  gap = distance(after.average, after.parameters)
  assert 0 < gap < distance(before.parameters, after.parameters)


@pytest.mark.parametrize(
  ("step", "expected"), [(0, 0.1), (8, 0.5), (90, 0.91), (10_000, 0.99)]
)
def test_the_average_forgets_its_start(step, expected):
  rate = steps.ema_rate(jnp.asarray(step, jnp.int32), 0.99)
  np.testing.assert_allclose(rate, expected, rtol=1e-6)


def test_one_step_is_gradient_descent_and_its_average():
  def loss(parameters, batch, key):
    del key
    return jnp.sum(batch["x"] * parameters["w"]), {}

  optimizer = optax.sgd(0.5)
  w, x = jnp.asarray([1.0, 2.0]), jnp.asarray([3.0, 4.0])
  state, metrics = steps.train_step(
    steps.TrainState.create({"w": w}, optimizer),
    {"x": x},
    jax.random.key(0),
    loss=loss,
    optimizer=optimizer,
    ema_decay=0.99,
  )
  np.testing.assert_allclose(state.parameters["w"], w - 0.5 * x)
  np.testing.assert_allclose(state.average["w"], w - 0.9 * 0.5 * x, rtol=1e-6)
  assert (int(state.step), float(metrics["loss"])) == (1, 11.0)
  assert float(metrics["gradient_norm"]) == 5.0
  assert float(metrics["parameter_norm"]) == pytest.approx(5.0**0.5)


def test_without_an_average_none_is_kept():
  optimizer = optax.sgd(0.5)
  parameters = {"w": jnp.ones(2)}
  before = steps.TrainState.create(parameters, optimizer, keep_average=False)
  after, _ = steps.train_step(
    before,
    {"x": jnp.ones(2)},
    jax.random.key(0),
    loss=lambda parameters, batch, key: (jnp.sum(parameters["w"]), {}),
    optimizer=optimizer,
  )
  assert before.average is after.average is None


def masked_regression(parameters, batch, key):
  """A mean over valid frames, as the models' losses are."""
  del key
  error = (batch["x"] @ parameters["w"] - batch["y"]) ** 2
  mask = batch.get("targets_mask", jnp.ones(error.shape, bool))
  mean = jnp.sum(jnp.where(mask, error, 0.0)) / jnp.sum(mask, dtype=jnp.float32)
  return mean, {"first": mean}


def regression_batch(masked):
  rng = np.random.default_rng(0)
  batch = {
    "x": rng.normal(size=(8, 5, 3)).astype(np.float32),
    "y": rng.normal(size=(8, 5)).astype(np.float32),
  }
  if masked:
    # Some parts have many valid frames, some few.
    batch["targets_mask"] = np.arange(5) < rng.integers(1, 6, (8, 1))
  return batch


@pytest.mark.parametrize("masked", [True, False])
def test_micro_batches_give_the_update_of_the_whole_batch(masked):
  optimizer = optax.adam(0.1)

  def updated(micro_batches):
    start = {"w": jnp.asarray([1.0, -2.0, 3.0])}
    step = jax.jit(
      functools.partial(
        steps.train_step,
        loss=masked_regression,
        optimizer=optimizer,
        micro_batches=micro_batches,
      )
    )
    state = steps.TrainState.create(start, optimizer)
    return step(state, regression_batch(masked), jax.random.key(0))

  whole, whole_metrics = updated(1)
  for micro_batches in (2, 4, 8):
    state, metrics = updated(micro_batches)
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-5), state, whole
    )
    for name in ("loss", "first", "gradient_norm", "parameter_norm"):
      np.testing.assert_allclose(
        metrics[name], whole_metrics[name], rtol=1e-5, err_msg=name
      )


def test_each_micro_batch_draws_its_own_noise():
  def drawn(parameters, batch, key):
    noise = jax.random.normal(key)
    return jnp.sum(parameters["w"]) * 0.0, {"square": noise**2, "noise": noise}

  optimizer = optax.sgd(0.1)
  state = steps.TrainState.create({"w": jnp.ones(2)}, optimizer)
  batch = {"x": jnp.ones((4, 1))}
  _, metrics = steps.train_step(
    state,
    batch,
    jax.random.key(0),
    loss=drawn,
    optimizer=optimizer,
    micro_batches=4,
  )
  # The mean of squares exceeds the square of the mean unless all are equal.
  assert metrics["square"] > metrics["noise"] ** 2 + 1e-3


def test_a_batch_that_does_not_divide_is_an_error():
  optimizer = optax.sgd(0.1)
  with pytest.raises(ValueError, match="micro_batches = 3 parts, got 8"):
    steps.train_step(
      steps.TrainState.create({"w": jnp.ones(3)}, optimizer),
      regression_batch(masked=True),
      jax.random.key(0),
      loss=masked_regression,
      optimizer=optimizer,
      micro_batches=3,
    )
