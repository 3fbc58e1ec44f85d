import functools
import itertools
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from flax import struct
import jax
from jax import numpy as jnp
import numpy as np
import optax
import pytest

from music_spectrogram_diffusion import training

sys.path.insert(0, str(Path(__file__).parent))

import regression_run

train = regression_run.train
PROGRAM = regression_run.__file__


def assert_same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def steps_saved(directory):
  return sorted(int(p.name) for p in directory.iterdir() if p.name.isdigit())


def lines_of(directory):
  lines = (directory / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def losses(directory):
  return {line["step"]: line["loss"] for line in lines_of(directory)}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
  directory = tmp_path_factory.mktemp("run")
  return directory, train(directory)


def test_training_moves_the_parameters(uninterrupted):
  _, state = uninterrupted
  assert state.step == 7
  assert np.abs(state.parameters["layer"]["kernel"] - 1.0).min() > 1e-3


def test_the_last_checkpoints_are_kept(uninterrupted):
  directory, _ = uninterrupted
  assert steps_saved(directory) == [6, 7]


@pytest.mark.parametrize("broken_at", [2, 5])
def test_a_run_that_broke_goes_on_to_bit_identical_parameters(
  uninterrupted, tmp_path, broken_at
):
  def breaking(step):
    if step == broken_at:
      raise OSError("gone")
    return regression_run.make_batch(step)

  with pytest.raises(OSError, match="gone"):
    train(tmp_path, training.StepIndexed(breaking))
  assert steps_saved(tmp_path) == ([3] if broken_at == 5 else [])
  asked = []

  def recording(step):
    asked.append(step)
    return regression_run.make_batch(step)

  state = train(tmp_path, training.StepIndexed(recording))
  assert asked == list(range(3 if broken_at == 5 else 0, 7))
  directory, expected = uninterrupted
  assert_same(state, expected)
  assert losses(tmp_path) == losses(directory)


def test_a_finished_run_is_left_as_it_is(uninterrupted):
  directory, expected = uninterrupted

  def never(step):
    raise AssertionError(step)

  assert_same(train(directory, training.StepIndexed(never)), expected)


def test_a_source_with_a_state_of_its_own_goes_on_exactly(tmp_path):
  whole = train(tmp_path / "whole", regression_run.Walk())
  for steps in (4, 7):
    parts = train(tmp_path / "parts", regression_run.Walk(), num_steps=steps)
  assert_same(parts, whole)
  assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_a_plain_iterator_goes_on_by_skipping(tmp_path, uninterrupted):
  def plain():
    return (regression_run.make_batch(step) for step in itertools.count())

  train(tmp_path, plain(), num_steps=4)
  with pytest.warns(UserWarning, match="skipping 4 batches"):
    state = train(tmp_path, plain())
  assert_same(state, uninterrupted[1])


def test_a_source_that_ends_is_said_and_what_was_trained_is_saved(
  tmp_path, capsys
):
  batches = [regression_run.make_batch(step) for step in range(5)]
  state = train(tmp_path, batches)
  assert state.step == 5
  assert steps_saved(tmp_path) == [3, 5]
  assert "ended at step 5 of 7" in capsys.readouterr().out


def test_another_key_is_another_run(uninterrupted, tmp_path):
  other = train(tmp_path, seed=1)
  _, state = uninterrupted
  assert np.any(
    other.parameters["layer"]["kernel"] != state.parameters["layer"]["kernel"]
  )


def test_a_run_that_goes_on_keeps_its_key(uninterrupted, tmp_path):
  train(tmp_path, num_steps=3)
  assert_same(train(tmp_path, seed=1), uninterrupted[1])


def test_metrics_are_means_since_the_last_line(tmp_path, capsys):
  train(tmp_path, log_every=2)
  lines = lines_of(tmp_path)
  assert [line["step"] for line in lines] == [2, 3, 4, 6, 7]
  assert lines[0].keys() == {
    "step",
    "loss",
    "noise",
    "gradient_norm",
    "parameter_norm",
    "seconds_per_step",
  }
  keys = [jax.random.fold_in(jax.random.key(0), step) for step in range(2)]
  noise = [jax.random.normal(key, (2, 4))[0, 0] for key in keys]
  np.testing.assert_allclose(lines[0]["noise"], np.mean(noise), rtol=1e-5)
  printed = capsys.readouterr().out.splitlines()
  assert printed[0].startswith("step 2/7  loss ")
  assert printed[0].endswith(" left")


class Recording:
  """A watcher that keeps what it was told."""

  def __init__(self, every):
    self.every = every
    self.told = []

  def __call__(self, step, state, metrics):
    assert state.step == step
    self.told.append((step, metrics))


def test_watchers_see_means_of_all_steps_since_they_were_called(
  uninterrupted, tmp_path
):
  rare, often = Recording(5), Recording(1)
  train(tmp_path, watchers=[rare, often], log_every=100)
  assert [step for step, _ in often.told] == list(range(1, 8))
  assert [step for step, _ in rare.told] == [5, 7]
  each = [metrics["loss"] for _, metrics in often.told]
  assert dict(enumerate(each, 1)) == losses(uninterrupted[0])
  np.testing.assert_allclose(rare.told[0][1]["loss"], np.mean(each[:5]))
  np.testing.assert_allclose(rare.told[1][1]["loss"], np.mean(each[5:]))


def test_lines_after_the_checkpoint_and_half_lines_are_dropped(
  uninterrupted, tmp_path
):
  train(tmp_path, num_steps=3)
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 4, "loss": 9.0}\n{"step": 5, "lo')
  train(tmp_path)
  assert [line["step"] for line in lines_of(tmp_path)] == list(range(1, 8))
  assert losses(tmp_path) == losses(uninterrupted[0])


def test_metrics_that_cannot_be_written_do_not_stop_a_run(
  uninterrupted, tmp_path
):
  class Blocking(Recording):
    def __call__(self, step, state, metrics):
      """Puts a folder where the file was."""
      path = tmp_path / "metrics.jsonl"
      if path.is_file():
        path.unlink()
        path.mkdir()

  with pytest.warns(UserWarning, match=f"Cannot write {tmp_path}/metrics"):
    state = train(tmp_path, watchers=[Blocking(3)])
  assert_same(state, uninterrupted[1])


def test_a_state_is_saved_before_it_is_watched(tmp_path):
  class Breaking(Recording):
    def __call__(self, step, state, metrics):
      raise RuntimeError("cannot draw")

  with pytest.raises(RuntimeError, match="cannot draw"):
    train(tmp_path, watchers=[Breaking(6)])
  assert steps_saved(tmp_path) == [3, 6]


def test_the_time_of_steps_is_that_of_steps_alone(tmp_path):
  def step(state, batch, key):
    time.sleep(0.02)
    return regression_run.STEP(state, batch, key)

  class Slow(Recording):
    def __call__(self, step, state, metrics):
      super().__call__(step, state, metrics)
      time.sleep(0.3)

  slow = Slow(2)
  checkpoints = training.CheckpointConfig(save_every=100)
  train(
    tmp_path,
    step=step,
    watchers=[slow],
    num_steps=20,
    log_every=5,
    checkpoints=checkpoints,
  )
  seconds = [metrics["seconds_per_step"] for _, metrics in slow.told[1:]]
  assert 0.02 <= np.median(seconds) < 0.15
  lines = [line["seconds_per_step"] for line in lines_of(tmp_path)[1:]]
  assert 0.02 <= np.median(lines) < 0.15


def test_groups_of_metrics_may_be_empty(tmp_path):
  def loss(parameters, batch, key):
    value, _ = regression_run.loss(parameters, batch, key)
    return value, {"loss/high": jnp.log(batch["y"][0, 0])}

  train(tmp_path, step=regression_run.make_step(loss), log_every=10)
  with np.errstate(invalid="ignore"):
    draws = np.log([regression_run.make_batch(i)["y"][0, 0] for i in range(3)])
  found = lines_of(tmp_path)[0].get("loss/high", np.nan)
  np.testing.assert_allclose(found, np.nanmean(draws), rtol=1e-5)


@pytest.mark.parametrize("what", ["loss", "gradient_norm"])
def test_nan_stops_training_and_is_never_saved(tmp_path, what):
  def loss(parameters, batch, key):
    """Not finite for the fifth batch, or only its gradient."""
    value, metrics = regression_run.loss(parameters, batch, key)
    bad = batch["y"][0, 0] == regression_run.make_batch(4)["y"][0, 0]
    if what == "loss":
      return jnp.where(bad, jnp.nan, value), metrics
    # Its root is finite at zero, unlike the slope of its root.
    zero = 0.0 * parameters["layer"]["kernel"][0, 0]
    return value + jnp.sqrt(jnp.where(bad, zero, 1.0)), metrics

  with pytest.raises(
    training.NonFiniteError,
    match=f"step 5, but.*{what} is nan.*ids song-4-a, song-4-b[.].*stay",
  ):
    train(tmp_path, step=regression_run.make_step(loss), log_every=100)
  assert steps_saved(tmp_path) == [3]
  kernel = training.restore_average(tmp_path)["layer"]["kernel"]
  assert np.isfinite(kernel).all()


def test_nan_in_a_batch_is_named_before_it_is_used(tmp_path):
  def poisoned(step):
    batch = regression_run.make_batch(step)
    if step == 4:
      batch["y"][1, 0] = np.nan
    return batch

  with pytest.raises(
    training.NonFiniteError, match="'y'.*step 5, found nan in ids song-4-b[.]"
  ):
    train(tmp_path, training.StepIndexed(poisoned))
  assert steps_saved(tmp_path) == [3]


def test_a_state_that_is_not_finite_is_never_saved(tmp_path):
  def step(state, batch, key):
    """Its metrics tell nothing."""
    state, _ = regression_run.STEP(state, batch, key)
    bad = jnp.where(state.step == 5, jnp.nan, 1.0)
    parameters = jax.tree.map(lambda x: x * bad, state.parameters)
    return state.replace(parameters=parameters), {"loss": jnp.float32(1.0)}

  with pytest.raises(
    training.NonFiniteError, match="after step 6,.*layer/kernel"
  ):
    train(tmp_path, step=step)
  assert steps_saved(tmp_path) == [3]


@struct.dataclass
class TwoNetworks:
  """A state as of adversarial training."""

  step: jax.Array
  generator: dict
  discriminator: dict
  optimizers: dict


def test_any_state_goes_through_the_loop(tmp_path):
  rates = {"generator": optax.sgd(0.1), "discriminator": optax.adam(0.1)}

  def make():
    networks = {name: {"w": jnp.zeros(3)} for name in rates}
    return TwoNetworks(
      step=jnp.zeros((), jnp.int32),
      optimizers={name: rates[name].init(networks[name]) for name in rates},
      **networks,
    )

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state, batch, key):
    del key
    networks, optimizers, metrics = {}, {}, {}
    for name, optimizer in rates.items():
      value, gradients = jax.value_and_grad(
        lambda network: jnp.sum((network["w"] - batch["x"].mean()) ** 2)
      )(getattr(state, name))
      with jax.numpy_dtype_promotion("standard"):
        updates, optimizers[name] = optimizer.update(
          gradients, state.optimizers[name]
        )
      networks[name] = optax.apply_updates(getattr(state, name), updates)
      metrics[f"{name}_loss"] = value
    return TwoNetworks(
      step=state.step + 1, optimizers=optimizers, **networks
    ), metrics

  whole = train(tmp_path / "whole", step=step, state=make())
  for steps in (4, 7):
    parts = train(tmp_path / "parts", step=step, state=make(), num_steps=steps)
  assert_same(parts, whole)
  assert isinstance(parts, TwoNetworks)
  assert float(whole.generator["w"][0]) != 0.0


def attempts(*arguments):
  """Makes runs one after the other, each in a process; gives exit codes."""
  result = subprocess.run(
    [sys.executable, PROGRAM, json.dumps(arguments)],
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  *lines, codes = result.stdout.splitlines()
  return json.loads(codes), lines, result.stderr


def assert_same_losses(whole, parts, num_steps):
  """None was lost or made twice, and all are equal to the last bit."""
  lines = lines_of(parts)
  assert [line["step"] for line in lines] == list(range(1, num_steps + 1))
  assert losses(parts) == losses(whole)


def test_a_run_killed_at_any_moment_goes_on_with_bit_identical_losses(tmp_path):
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  kills = [
    ("step", 2),  # Nothing has been saved.
    ("save begun", 3),  # While it is written by another thread.
    ("step", 4),  # Soon after, while it may still be written.
    ("written", 6),  # Before what is written has its name.
    ("save begun", 9),
    ("written", 10),  # In the last step.
  ]
  again = dict(directory=str(killed), num_steps=10)
  codes, _, errors = attempts(
    dict(directory=str(whole), num_steps=10),
    *(again | {"trouble": [signal.SIGKILL, *kill]} for kill in kills),
    again,
  )
  assert codes == [0, *[-signal.SIGKILL] * len(kills), 0], errors
  assert_same_losses(whole, killed, 10)
  # Nothing half-written is left.
  left = {path.name for path in killed.iterdir()}
  assert left == {"9", "10", "metrics.jsonl", ".lock"}


def test_sigterm_saves_and_the_run_goes_on_with_bit_identical_losses(tmp_path):
  whole, stopped = tmp_path / "whole", tmp_path / "stopped"
  again = dict(directory=str(stopped), num_steps=10)
  codes, lines, errors = attempts(
    dict(directory=str(whole), num_steps=10),
    again | {"trouble": [signal.SIGTERM, "step", 1]},
    again | {"trouble": [signal.SIGINT, "step", 5]},
    again,
  )
  assert codes == [0, 128 + signal.SIGTERM, 128 + signal.SIGINT, 0], errors
  assert_same_losses(whole, stopped, 10)
  assert any(
    line.startswith("Stopped by SIGTERM at step 4") and str(stopped) in line
    for line in lines
  )


def test_hosts_of_which_one_gets_a_signal_stop_together_and_go_on(tmp_path):
  whole, stopped = tmp_path / "whole", tmp_path / "stopped"
  run = dict(num_steps=16, hosts=2)
  again = run | dict(directory=str(stopped))
  codes, _, errors = attempts(
    run | dict(directory=str(whole)),
    again | {"trouble": [signal.SIGTERM, "step", 2]},
    again | {"trouble": [signal.SIGINT, "step", 9]},
    again | {"trouble": [signal.SIGTERM, "step", 15]},  # Too late to stop.
  )
  assert codes == [0, 0, 143, 143, 130, 130, 0, 0], errors
  # Each went on in data of its own.
  assert_same_losses(whole, stopped, 16)


def test_a_second_ctrl_c_stops_at_once(tmp_path):
  def step(state, batch, key):
    if int(state.step) == 4:
      os.kill(os.getpid(), signal.SIGINT)
      os.kill(os.getpid(), signal.SIGINT)
    return regression_run.STEP(state, batch, key)

  with pytest.raises(KeyboardInterrupt):
    train(tmp_path, step=step)
  assert steps_saved(tmp_path) == [3]
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
