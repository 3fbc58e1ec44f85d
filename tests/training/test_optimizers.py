from flax import traverse_util
import jax
from jax import numpy as jnp
import numpy as np
import optax
import pytest

from music_spectrogram_diffusion.training import fine_tuning, optimizers


@pytest.fixture(autouse=True)
def standard_promotion():
  """What Optax counts on."""
  with jax.numpy_dtype_promotion("standard"):
    yield


SCHEDULE = dict(peak=2e-3, num_steps=1000, warmup_steps=100, decay_steps=400)


@pytest.mark.parametrize(
  ("step", "expected"),
  [
    (0, 2e-5),
    (49, 1e-3),
    (99, 2e-3),
    (350, 2e-3),
    (599, 2e-3),
    (799, 2e-3 * (1 + 0.03) / 2),
    (999, 2e-3 * 0.03),
    (5000, 2e-3 * 0.03),
  ],
)
def test_the_learning_rate_rises_stays_and_falls(step, expected):
  rate = optimizers.warm_up_then_decay(**SCHEDULE)
  np.testing.assert_allclose(rate(step), expected, rtol=1e-5)
  np.testing.assert_allclose(rate(jnp.int32(step)), expected, rtol=1e-5)


def test_without_decay_the_learning_rate_stays():
  rate = optimizers.warm_up_then_decay(peak=1.0, num_steps=200)
  assert rate(149) == rate(199) == 1.0


def test_a_short_run_warms_up_to_its_end():
  rate = optimizers.warm_up_then_decay(peak=1.0, num_steps=10, decay_steps=6)
  rates = [rate(0), rate(3), rate(9)]
  np.testing.assert_allclose(rates, [0.25, 1.0, 0.03], rtol=1e-5)


def test_a_decay_that_is_longer_than_the_run_is_an_error():
  with pytest.raises(ValueError, match="num_steps = 10, got 11"):
    optimizers.warm_up_then_decay(peak=1.0, num_steps=10, decay_steps=11)


@pytest.mark.parametrize(
  ("step", "expected"), [(0, 0.25e-3), (1, 0.5e-3), (3, 1e-3), (9999, 1e-3)]
)
def test_a_constant_rate_is_reached_by_a_warm_up(step, expected):
  rate = optimizers.constant(1e-3, warmup_steps=4)
  np.testing.assert_allclose(rate(step), expected, rtol=1e-6)
  np.testing.assert_allclose(rate(jnp.int32(step)), expected, rtol=1e-6)


def test_without_warm_up_a_constant_rate_is_constant():
  rate = optimizers.constant(2e-3)
  np.testing.assert_allclose([rate(0), rate(10**6)], 2e-3, rtol=1e-6)


@pytest.mark.parametrize(
  ("step", "linear", "expected"),
  [
    (0, True, 0.01 / 100),
    (49, True, 0.005),
    (0, False, 0.01),
    (99, True, 0.01),
    (99, False, 0.01),
    (399, True, 0.005),
    (9999, True, 0.001),
    (9999, False, 0.001),
  ],
)
def test_the_inverse_square_root_falls_from_its_peak(step, linear, expected):
  rate = optimizers.inverse_square_root(0.01, warmup_steps=100, linear=linear)
  np.testing.assert_allclose(rate(step), expected, rtol=1e-5)
  np.testing.assert_allclose(rate(jnp.int32(step)), expected, rtol=1e-5)


def test_the_inverse_square_root_needs_a_warm_up():
  with pytest.raises(ValueError, match="at least 1, got 0"):
    optimizers.inverse_square_root(0.01, warmup_steps=0)


PARAMETERS = {
  "layer": {"kernel": jnp.full((3, 2), 2.0)},
  "norm": {"scale": jnp.ones(3)},
  "Embed_0": {"embedding": jnp.full((4, 3), 0.5)},
}


def test_weight_decay_applies_to_kernels_alone():
  optimizer = optimizers.adamw(0.1, weight_decay=0.01)
  nothing = jax.tree.map(jnp.zeros_like, PARAMETERS)
  updates, _ = optimizer.update(nothing, optimizer.init(PARAMETERS), PARAMETERS)
  np.testing.assert_allclose(
    updates["layer"]["kernel"], -0.1 * 0.01 * 2.0, rtol=1e-6
  )
  assert not updates["norm"]["scale"].any()
  assert not updates["Embed_0"]["embedding"].any()


def test_adamw_clips_the_norm_of_all_gradients_together():
  # The first two moments of a constant gradient g give m / sqrt(v) = 1
  # whatever its size; a spike after small ones tells whether it was clipped.
  optimizer = optimizers.adamw(1.0, b1=0.0, b2=0.5, clip_norm=1.0)
  parameters = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
  state = optimizer.init(parameters)
  small = {"a": jnp.full(1, 0.6), "b": jnp.full(1, 0.8)}
  spike = jax.tree.map(lambda g: 1000.0 * g, small)
  _, state = optimizer.update(small, state, parameters)
  updates, _ = optimizer.update(spike, state, parameters)
  # Clipped, the spike is the small gradient again.
  np.testing.assert_allclose([updates["a"], updates["b"]], -1.0, rtol=1e-5)


def test_adafactor_s_second_moment_decays_with_power_0_8():
  # Unfactored, because the parameter is small.
  gradients = [1.0, 0.25, 0.5]
  parameter = jnp.full(4, 3.0)
  optimizer = optimizers.adafactor(1e-3)
  state, second_moment = optimizer.init(parameter), 0.0
  for step, gradient in enumerate(gradients, start=1):
    update, state = optimizer.update(jnp.full(4, gradient), state, parameter)
    decay = 1.0 - step**-0.8
    second_moment = decay * second_moment + (1.0 - decay) * gradient**2
    expected = min(1.0, gradient / np.sqrt(second_moment))
    np.testing.assert_allclose(update, -1e-3 * 3.0 * expected, rtol=1e-4)


@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
def test_adafactor_s_steps_are_relative_to_the_size_of_a_parameter(scale):
  parameter = scale * jax.random.normal(jax.random.key(0), (128, 130))
  gradient = jax.random.normal(jax.random.key(1), (128, 1))
  optimizer = optimizers.adafactor(1e-3)
  update, _ = optimizer.update(
    jnp.broadcast_to(gradient, (128, 130)),
    optimizer.init(parameter),
    parameter,
  )

  def rms(x):
    return float(jnp.sqrt(jnp.mean(x**2)))

  # A gradient of rank 1 is factored exactly: every element moves equally far.
  assert rms(update) == pytest.approx(1e-3 * rms(parameter), rel=1e-3)
  np.testing.assert_allclose(
    -jnp.sign(update), jnp.broadcast_to(jnp.sign(gradient), (128, 130))
  )


def test_adafactor_keeps_rows_and_columns_of_large_matrices_only():
  state = optimizers.adafactor().init(jnp.zeros((256, 512)))
  assert sum(leaf.size for leaf in jax.tree.leaves(state)) < 256 * 512 / 100


class NumpyAdafactor:
  """Algorithms 4 and 5 of Shazeer and Stern 2018, in float64.

  As T5X has them: rows and columns of matrices whose sides are at least
  `factor_from` long, and what falls in the clip of an update is its root mean
  square.
  """

  def __init__(self, shape, factor_from):
    self.factored = len(shape) == 2 and min(shape) >= factor_from
    if self.factored:
      self.rows, self.columns = np.zeros(shape[0]), np.zeros(shape[1])
    else:
      self.average = np.zeros(shape)
    self.step = 0

  def update(self, parameter, gradient, learning_rate):
    self.step += 1
    keep = 1.0 - self.step**-0.8
    squared = gradient**2 + 1e-30
    if self.factored:
      self.rows = keep * self.rows + (1 - keep) * squared.mean(axis=1)
      self.columns = keep * self.columns + (1 - keep) * squared.mean(axis=0)
      second = np.outer(self.rows, self.columns) / self.rows.mean()
    else:
      self.average = keep * self.average + (1 - keep) * squared
      second = self.average
    update = gradient / np.sqrt(second)
    update /= max(1.0, np.sqrt(np.mean(update**2)))
    scale = max(1e-3, np.sqrt(np.mean(parameter**2)))
    return parameter - learning_rate * scale * update


def test_adafactor_follows_its_definition_step_for_step():
  shapes = {
    "wide": (10, 12),
    "tall": (14, 9),
    "narrow": (40, 5),
    "scale": (12,),
  }
  rng = np.random.default_rng(0)
  exact = {name: rng.normal(size=shape) for name, shape in shapes.items()}
  exact["scale"] *= 1e-4  # Below the least size.
  references = {
    name: NumpyAdafactor(shape, 8) for name, shape in shapes.items()
  }
  optimizer = optimizers.adafactor(1e-2, min_dim_size_to_factor=8)
  ours = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), exact)
  state, update = optimizer.init(ours), jax.jit(optimizer.update)
  for step in range(12):
    # Sizes of gradients differ by orders of magnitude from step to step.
    gradients = {
      name: 10.0 ** -(step % 5) * rng.normal(size=shape)
      for name, shape in shapes.items()
    }
    updates, state = update(
      jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), gradients),
      state,
      ours,
    )
    ours = optax.apply_updates(ours, updates)
    for name, reference in references.items():
      exact[name] = reference.update(exact[name], gradients[name], 1e-2)
      np.testing.assert_allclose(
        ours[name], exact[name], rtol=1e-5, atol=1e-7, err_msg=name
      )


def test_adafactor_is_t5x_s_step_for_step():
  t5x = pytest.importorskip("t5x.adafactor", reason="needs a t5x checkout")
  rng = np.random.default_rng(0)
  shapes = {"kernel": (130, 140), "table": (150, 128), "scale": (130,)}
  ours = {
    name: jnp.asarray(rng.normal(size=shape), jnp.float32)
    for name, shape in shapes.items()
  }
  theirs = ours
  optimizer = optimizers.adafactor(1e-3)
  reference = t5x.Adafactor(
    learning_rate=1e-3,
    decay_rate=0.8,
    step_offset=0,
    logical_factor_rules=t5x.standard_logical_factor_rules(),
  )
  state, reference_state = optimizer.init(ours), reference.init_state(ours)
  for _ in range(5):
    gradients = {
      name: jnp.asarray(rng.normal(size=shape), jnp.float32)
      for name, shape in shapes.items()
    }
    updates, state = optimizer.update(gradients, state, ours)
    ours = optax.apply_updates(ours, updates)
    theirs, reference_state = reference.apply_gradient(
      reference.hyper_params, theirs, reference_state, gradients
    )
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, theirs
    )


def test_adam_makes_unit_steps_behind_a_clip():
  gradients = {"a": jnp.full(1, 300.0), "b": jnp.full(1, -400.0)}
  parameters = jax.tree.map(jnp.zeros_like, gradients)
  for clip in (None, 1.0):
    optimizer = optimizers.adam(0.5, clip_norm=clip)
    updates, state = optimizer.update(
      gradients, optimizer.init(parameters), parameters
    )
    np.testing.assert_allclose(updates["a"], -0.5, rtol=1e-4)
    np.testing.assert_allclose(updates["b"], 0.5, rtol=1e-4)
    (largest,) = {
      float(jnp.max(leaf))
      for path, leaf in jax.tree_util.tree_leaves_with_path(state)
      if "mu" in jax.tree_util.keystr(path) and "a" in str(path[-1])
    }
    # The first moment has a tenth of the gradient, of norm 500 unless clipped.
    assert largest == pytest.approx(30.0 if clip is None else 0.06, rel=1e-5)


def test_an_optimizer_takes_a_schedule():
  rate = optimizers.warm_up_then_decay(peak=1.0, num_steps=8, warmup_steps=4)
  optimizer = optimizers.adamw(rate)
  parameters = {"kernel": jnp.zeros((1, 1))}
  state, sizes = optimizer.init(parameters), []
  for _ in range(5):
    updates, state = optimizer.update(
      jax.tree.map(jnp.ones_like, parameters), state, parameters
    )
    parameters = optax.apply_updates(parameters, updates)
    sizes.append(-float(updates["kernel"][0, 0]))
  np.testing.assert_allclose(sizes, [0.25, 0.5, 0.75, 1.0, 1.0], rtol=1e-4)


@pytest.fixture
def network():
  """Parameters named like a network's, and a gradient of them."""
  shapes = {
    ("layers_0", "MultiHeadDotProductAttention_0", "out", "kernel"): (32, 16),
    ("layers_0", "mlp", "wo", "kernel"): (16, 16),
    ("layers_0", "mlp", "norm", "scale"): (16,),
    ("layers_0", "FiLMLayer_0", "DenseGeneral_0", "kernel"): (16, 32),
    ("pitch_embedder", "embedding"): (128, 16),
  }
  draw = np.random.default_rng(0)
  values = {path: draw.normal(size=shape) for path, shape in shapes.items()}
  gradient = {path: draw.normal(size=shape) for path, shape in shapes.items()}
  return tuple(
    traverse_util.unflatten_dict(
      {path: jnp.asarray(value, jnp.float32) for path, value in flat.items()}
    )
    for flat in (values, gradient)
  )


def first_update(optimizer, network):
  parameters, gradient = network
  updates, _ = optimizer.update(
    gradient, optimizer.init(parameters), parameters
  )
  return traverse_util.flatten_dict(updates, sep="/")


def test_muon_moves_inner_matrices_in_all_directions_alike(network):
  moved = first_update(optimizers.muon(1e-2), network)
  for name in (
    "layers_0/MultiHeadDotProductAttention_0/out/kernel",
    "layers_0/mlp/wo/kernel",
  ):
    values = np.linalg.svd(moved[name], compute_uv=False)
    assert values.max() < 2.0 * values.min()
    size = np.sqrt(np.mean(np.square(moved[name])))
    np.testing.assert_allclose(size, 0.2 * 1e-2, rtol=0.2)


def test_muon_moves_all_else_as_nadam_does(network):
  moved = first_update(optimizers.muon(1e-2, clip_norm=1e3), network)
  expected = first_update(optax.nadam(1e-2, b2=0.98), network)
  for name in (
    "layers_0/mlp/norm/scale",
    "layers_0/FiLMLayer_0/DenseGeneral_0/kernel",
    "pitch_embedder/embedding",
  ):
    np.testing.assert_allclose(moved[name], expected[name], rtol=1e-4)


def test_the_rate_of_muon_follows_its_schedule_and_its_gain(network):
  plain = first_update(optimizers.muon(1e-2), network)
  schedule = optimizers.constant(1e-2)
  moved = first_update(optimizers.muon(schedule, gain=3.0), network)
  ratio = {
    name: float(jnp.abs(moved[name]).sum() / jnp.abs(plain[name]).sum())
    for name in moved
  }
  assert ratio.pop("layers_0/mlp/wo/kernel") == pytest.approx(3.0)
  assert ratio["pitch_embedder/embedding"] == pytest.approx(1.0)


def test_what_is_frozen_stays_under_muon(network):
  optimizer = fine_tuning.frozen(optimizers.muon(1e-2), ["layers_0/mlp"])
  moved = first_update(optimizer, network)
  assert not np.any(moved["layers_0/mlp/wo/kernel"])
  assert np.all(moved["layers_0/FiLMLayer_0/DenseGeneral_0/kernel"])
