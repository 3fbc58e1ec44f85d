import json
import threading
import time

import jax
from jax import numpy as jnp
import numpy as np
import optax
import pytest

from music_spectrogram_diffusion.training import loop

OPTIMIZER = optax.adam(0.01)
START = {"layer": {"kernel": np.ones((4, 3), np.float32)}}


def loss(parameters, batch, key):
  """A regression whose inputs are noisy, as a diffusion model's are."""
  noise = jax.random.normal(key, batch["x"].shape)
  predicted = (batch["x"] + 0.1 * noise) @ parameters["layer"]["kernel"]
  return jnp.mean((predicted - batch["y"]) ** 2), {"noise": noise[0, 0]}


def make_batch(step):
  rng = np.random.default_rng(step)
  return {
    "x": rng.normal(size=(2, 4)).astype(np.float32),
    "y": rng.normal(size=(2, 3)).astype(np.float32),
  }


def train(directory, make_batch=make_batch, loss=loss, **settings):
  usual = dict(num_steps=7, log_every=2, save_every=3, optimizer=OPTIMIZER)
  return loop.train(
    loss, START, make_batch, directory=directory, **(usual | settings)
  )


def assert_same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
  directory = tmp_path_factory.mktemp("run")
  return directory, train(directory)


def steps_saved(directory):
  return sorted(int(p.name) for p in directory.iterdir() if p.name.isdigit())


def test_training_moves_the_parameters_and_leaves_the_caller_s(uninterrupted):
  _, state = uninterrupted
  assert state.step == 7
  assert np.abs(state.parameters["layer"]["kernel"] - 1.0).min() > 1e-3
  assert (START["layer"]["kernel"] == 1.0).all()


def test_device_arrays_of_the_caller_survive(tmp_path):
  parameters = jax.device_put(START)
  loop.train(
    loss,
    parameters,
    make_batch,
    directory=tmp_path,
    num_steps=1,
    optimizer=OPTIMIZER,
  )
  assert (parameters["layer"]["kernel"] == 1.0).all()


def test_the_last_checkpoints_are_kept(uninterrupted):
  directory, _ = uninterrupted
  assert steps_saved(directory) == [6, 7]


def test_the_average_can_be_restored_alone(uninterrupted):
  directory, state = uninterrupted
  assert_same(loop.restore_average(directory), state.average)


@pytest.mark.parametrize("killed_at", [2, 5])
def test_a_killed_run_goes_on_to_bit_identical_parameters(
  uninterrupted, tmp_path, killed_at
):
  def killing(step):
    if step == killed_at:
      raise KeyboardInterrupt
    return make_batch(step)

  with pytest.raises(KeyboardInterrupt):
    train(tmp_path, killing)
  assert steps_saved(tmp_path) == ([3] if killed_at == 5 else [])
  asked = []

  def recording(step):
    asked.append(step)
    return make_batch(step)

  state = train(tmp_path, recording)
  assert asked == list(range(3 if killed_at == 5 else 0, 7))
  _, expected = uninterrupted
  assert_same(state.parameters, expected.parameters)
  assert_same(state.average, expected.average)
  assert_same(state.optimizer, expected.optimizer)


def test_a_finished_run_is_left_as_it_is(uninterrupted):
  directory, expected = uninterrupted

  def never(step):
    raise AssertionError(step)

  assert_same(train(directory, never).parameters, expected.parameters)


def test_another_seed_is_another_run(uninterrupted, tmp_path):
  _, state = uninterrupted
  other = train(tmp_path, seed=1)
  assert np.any(
    other.parameters["layer"]["kernel"] != state.parameters["layer"]["kernel"]
  )


def test_metrics_are_means_since_the_last_line(uninterrupted):
  directory, _ = uninterrupted
  lines = (directory / "metrics.jsonl").read_text().splitlines()
  lines = [json.loads(line) for line in lines]
  assert [line["step"] for line in lines] == [2, 3, 4, 6, 7]
  assert lines[0].keys() == {
    "step",
    "loss",
    "noise",
    "gradient_norm",
    "seconds_per_step",
  }
  keys = [jax.random.fold_in(jax.random.key(0), step) for step in range(2)]
  noise = [jax.random.normal(key, (2, 4))[0, 0] for key in keys]
  np.testing.assert_allclose(lines[0]["noise"], np.mean(noise), rtol=1e-5)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_nan_stops_training_and_is_never_saved(tmp_path, what):
  def poisoned(step):
    batch = make_batch(step)
    if step == 4:
      batch["y"][0, 0] = np.nan
    return batch

  def loss_of_finite(parameters, batch, key):
    """Finite where the targets are not, but not its gradient."""
    value, metrics = loss(parameters, batch, key)
    return jnp.where(jnp.isnan(value), 1.0, value), metrics

  with pytest.raises(FloatingPointError, match="nan.*step 6.*is kept"):
    train(
      tmp_path,
      poisoned,
      loss if what == "loss" else loss_of_finite,
      log_every=100,
    )
  assert steps_saved(tmp_path) == [3]
  kernel = loop.restore_average(tmp_path)["layer"]["kernel"]
  assert np.isfinite(kernel).all()


@pytest.mark.parametrize("name", ["missing", "."])
def test_where_there_is_no_checkpoint_there_is_an_error(tmp_path, name):
  with pytest.raises(ValueError, match=str(tmp_path)):
    loop.restore_average(tmp_path / name)


def test_batches_come_in_order_however_long_they_take():
  def slow(step):
    time.sleep(0.02 * (step % 2))
    return {"x": np.full(1, step)}

  batches = list(loop.prefetched(slow, 3, 8))
  assert [int(b["x"][0]) for b in batches] == [3, 4, 5, 6, 7]


@pytest.mark.parametrize(("first", "last"), [(5, 5), (0, 1), (7, 5)])
def test_prefetching_asks_for_nothing_more(first, last):
  asked = []

  def record(step):
    asked.append(step)
    return {}

  assert len(list(loop.prefetched(record, first, last))) == len(asked)
  assert asked == list(range(first, last))


def test_batches_are_made_ahead_in_another_thread():
  made = [threading.Event() for _ in range(4)]
  threads = set()

  def record(step):
    threads.add(threading.get_ident())
    made[step].set()
    return {}

  batches = loop.prefetched(record, 0, 4, ahead=2)
  next(batches)
  # The first is in use: the second and the third are on their way.
  assert made[1].wait(5) and made[2].wait(5) and not made[3].is_set()
  assert threading.get_ident() not in threads
  assert len(list(batches)) == 3


def test_an_error_in_a_batch_is_raised():
  def broken(step):
    raise OSError("disk")

  with pytest.raises(OSError, match="disk"):
    list(loop.prefetched(broken, 0, 3))
