"""A tiny run, for the tests of what a run survives; a program of its own, too.

`python regression_run.py ATTEMPTS`, a JSON list of arguments of `attempt`.
"""

import functools
import json
import os
import pathlib
import socket
import sys
import traceback

import jax
from jax import numpy as jnp
from jax import sharding
import numpy as np
import optax
from orbax.checkpoint import CheckpointManager

from music_spectrogram_diffusion import training

OPTIMIZER = optax.adam(0.01)


def start():
  return training.TrainState.create(
    {"layer": {"kernel": np.ones((4, 3), np.float32)}}, OPTIMIZER
  )


def loss(parameters, batch, key):
  """A regression whose inputs are noisy, as a diffusion model's are."""
  noise = jax.random.normal(key, batch["x"].shape)
  predicted = (batch["x"] + 0.1 * noise) @ parameters["layer"]["kernel"]
  return jnp.mean((predicted - batch["y"]) ** 2), {"noise": noise[0, 0]}


def make_step(loss=loss, **options):
  step = functools.partial(
    training.train_step, loss=loss, optimizer=OPTIMIZER, **options
  )
  return jax.jit(step, donate_argnums=0)


STEP = make_step()


def make_batch(index):
  rng = np.random.default_rng(index)
  return {
    "x": rng.normal(size=(2, 4)).astype(np.float32),
    "y": rng.normal(size=(2, 3)).astype(np.float32),
    "ids": np.array([f"song-{index}-{row}" for row in "ab"]),
  }


def train(directory, source=None, step=STEP, seed=0, state=None, **settings):
  """Seven steps, saved after every third and the last."""
  usual = dict(
    num_steps=7,
    log_every=1,
    checkpoints=training.CheckpointConfig(save_every=3),
  )
  return training.train(
    start() if state is None else state,
    step,
    training.StepIndexed(make_batch) if source is None else source,
    directory=directory,
    key=jax.random.key(seed),
    **(usual | settings),
  )


class Walk:
  """Batches of a generator with a state of its own: no function of the step."""

  def __init__(self, seed=5):
    self._rng = np.random.default_rng(seed)

  def __next__(self):
    # Draws a varying number, so that skipping steps would not do.
    steps = self._rng.integers(1, 4)
    x = self._rng.normal(size=(steps, 2, 4)).sum(axis=0)
    y = self._rng.normal(size=(2, 3))
    return {"x": x.astype(np.float32), "y": y.astype(np.float32)}

  def get_state(self):
    return json.dumps(self._rng.bit_generator.state).encode()

  def set_state(self, state):
    self._rng.bit_generator.state = json.loads(state)


def strike_when(directory, kind, moment, at):
  """Has this process get a signal at a moment of a step of the run."""

  def strike(here, step):
    if (here, step) == (moment, at):
      os.kill(os.getpid(), kind)

  rename, save = os.rename, CheckpointManager.save

  def striking_rename(path, target):
    if pathlib.Path(target).parent == pathlib.Path(directory):
      strike("written", int(pathlib.Path(target).name))
    rename(path, target)

  def striking_save(self, step, **arguments):
    result = save(self, step, **arguments)
    strike("save begun", step)
    return result

  def step(state, batch, key):
    state, metrics = STEP(state, batch, key)
    strike("step", int(state.step))
    return state, metrics

  os.rename = striking_rename
  CheckpointManager.save = striking_save
  return step


def attempt(directory, num_steps, trouble=(), hosts=1, host=0, port=0):
  """Runs, and dies of what is asked for; gives the exit code.

  Of several hosts, each has data of its own; trouble comes to the last.
  """
  settings = {"num_steps": num_steps}
  if hosts > 1:
    jax.distributed.initialize(f"127.0.0.1:{port}", hosts, host)
    mesh = jax.make_mesh(
      (hosts,), ("data",), axis_types=(sharding.AxisType.Auto,)
    )
    rows = sharding.NamedSharding(mesh, sharding.PartitionSpec("data"))
    whole = sharding.NamedSharding(mesh, sharding.PartitionSpec())
    settings["state"] = jax.jit(start, out_shardings=whole)()
    settings["place_batch"] = lambda batch: {
      name: jax.make_array_from_process_local_data(rows, value)
      for name, value in batch.items()
    }
  is_last = host == hosts - 1
  step = strike_when(directory, *trouble) if trouble and is_last else STEP
  try:
    train(directory, Walk(seed=5 + host), step, **settings)
  except training.Interrupted as error:
    print(error)
    return error.exit_code
  return 0


def fork(**arguments):
  """Makes an attempt in a process of its own; gives its number."""
  sys.stdout.flush()
  child = os.fork()
  if child:
    return child
  code = 99
  try:
    code = attempt(**arguments)
  except BaseException:
    traceback.print_exc()
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main():
  """Makes all attempts, and prints the exit codes of their processes.

  They are forked before JAX has started anything, which saves importing it.
  """
  codes = []
  for arguments in json.loads(sys.argv[1]):
    with socket.socket() as free:
      free.bind(("127.0.0.1", 0))
      port = free.getsockname()[1]
    children = [
      fork(**arguments, host=host, port=port)
      for host in range(arguments.get("hosts", 1))
    ]
    for child in children:
      _, status = os.waitpid(child, 0)
      codes.append(os.waitstatus_to_exitcode(status))
  print(json.dumps(codes))


if __name__ == "__main__":
  main()
