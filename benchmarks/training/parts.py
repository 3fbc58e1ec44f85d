"""What `run.py` measures, each part in a process of its own.

`python benchmarks/training/parts.py PART [--quick]` prints rows as JSON.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import pathlib
import sys
import tempfile
import time
from typing import Any

import jax
from jax import numpy as jnp
import numpy as np

from music_spectrogram_diffusion import audio, data, models, notes, training
from music_spectrogram_diffusion.training import metrics

ROOT = pathlib.Path(__file__).parents[2]
SOUNDFONT = ROOT / "tests" / "data" / "sine.sf2"

QUICK = dict(
  emb_dim=64,
  num_heads=2,
  head_dim=32,
  mlp_dim=128,
  num_encoder_layers=1,
  num_context_layers=1,
  num_decoder_layers=1,
  segment_frames=32,
  max_tokens=128,
)


def make_learner(size: str, quick: bool, **changes: Any):
  """The paper's model with context and Adafactor; a tiny one to try it."""
  network = models.paper_network(size)
  if quick:
    network = dataclasses.replace(network, **QUICK)
  network = dataclasses.replace(network, **changes)
  return training.ModelLearner(
    model=models.DiffusionModel(network=network),
    optimizer=training.adafactor(),
  )


def make_state(learner: training.ModelLearner):
  """A state of random parameters, by NumPy: to compile `init` takes longer."""
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(learner.model.init, jax.random.key(0))
  parameters = jax.tree.map(
    lambda s: jnp.asarray(rng.normal(0, s.shape[0] ** -0.5, s.shape), s.dtype),
    shapes,
  )
  return training.TrainState.create(parameters, learner.optimizer)


def make_batch(learner: training.ModelLearner, batch_size: int):
  """A batch as of a dense piece: a third of the tokens are no padding."""
  rng = np.random.default_rng(1)
  shapes = metrics.batch_shapes(learner, batch_size)
  tokens = rng.integers(1, 1391, shapes["note_tokens"].shape, np.int32)
  tokens[:, tokens.shape[1] // 3 :] = notes.PAD
  low, high = learner.model.spectrogram.mel_range
  batch = {"note_tokens": tokens}
  for name in ("context", "targets"):
    batch[name] = rng.uniform(low, high, shapes[name].shape).astype(np.float32)
    mask = f"{name}_mask"
    batch[mask] = np.ones(shapes[mask].shape, bool)
  return batch


def seconds(function, *args) -> float:
  """Wall seconds of a call, whose result is waited for."""
  started = time.perf_counter()
  jax.block_until_ready(function(*args))
  return time.perf_counter() - started


def alternating(functions: dict[str, Any], rounds: int) -> dict[str, float]:
  """Shortest wall seconds of each function, called in turns.

  What else the machine does then slows all of them alike.
  """
  found = {name: [] for name in functions}
  for function in functions.values():
    function()
  for _ in range(rounds):
    for name, function in functions.items():
      found[name].append(seconds(function))
  return {name: min(times) for name, times in found.items()}


def matrix_product(size: int):
  """A function that multiplies two matrices, and its operations."""
  matrix = jnp.full((size, size), 1.0 / size, jnp.float32)
  product = jax.jit(jnp.matmul)
  return lambda: product(matrix, matrix), 2.0 * size**3


def step(quick: bool):
  """One step of small_with_context beside the baseline's and the peak."""
  import baseline

  learner = make_learner("small", quick)
  state, batch = make_state(learner), make_batch(learner, 1)
  key = jax.random.key(0)
  plain = baseline.Baseline(learner.model)
  ours_loss, theirs_loss = (
    jax.jit(functools.partial(loss, train=False))(state.parameters, batch, key)[
      0
    ]
    for loss in (learner.model.loss, plain.loss)
  )
  np.testing.assert_allclose(ours_loss, theirs_loss, rtol=1e-4)
  textbook = functools.partial(
    training.train_step, loss=plain.loss, optimizer=learner.optimizer
  )
  product, product_flops = matrix_product(256 if quick else 2048)
  ours, theirs = jax.jit(learner.step), jax.jit(textbook)
  found = alternating(
    {
      "ours": lambda: ours(state, batch, key),
      "baseline": lambda: theirs(state, batch, key),
      "product": product,
    },
    rounds=3,
  )
  work = metrics.model_flops(learner, 1)
  peak = product_flops / found["product"]
  yield "step of small_with_context, batch 1", f"{found['ours']:.2f} s", ""
  yield "the same of the baseline", f"{found['baseline']:.2f} s", ""
  ratio = found["baseline"] / found["ours"]
  yield "baseline over ours", f"{ratio:.2f}", "at least 1"
  yield "matrix-product peak", f"{peak / 1e9:.0f} GFLOP/s", ""
  yield (
    "FLOP/s of a step over that peak",
    f"{work / found['ours'] / peak:.2f}",
    "at least 0.5",
  )


def batch(quick: bool):
  """Step time per example over batch sizes, of two layers a stack."""
  layers = dict(
    num_encoder_layers=2, num_context_layers=2, num_decoder_layers=2
  )
  learner = make_learner("small", quick, **({} if quick else layers))
  state, key = make_state(learner), jax.random.key(0)
  compiled = jax.jit(learner.step)
  functions = {
    str(size): functools.partial(
      compiled, state, make_batch(learner, size), key
    )
    for size in (1, 2, 4)
  }
  found = alternating(functions, rounds=3)
  for size, wall_s in found.items():
    yield (
      f"step, small with 2 layers a stack, batch {size}",
      f"{wall_s:.2f} s",
      "",
    )
  growth = (found["4"] - found["2"]) / (2 * (found["2"] - found["1"]))
  yield (
    "time that an example adds, from 2 to 4 over from 1 to 2",
    f"{growth:.2f}",
    "about 1",
  )


def compilation(quick: bool, remat: bool = False):
  """Seconds to compile the step of base_with_context, and its memory."""
  learner = make_learner("base", quick, remat=remat)
  state = jax.eval_shape(learner.initial_state, jax.random.key(0))
  shapes = metrics.batch_shapes(learner, 8)
  started = time.perf_counter()
  compiled = (
    jax.jit(learner.step, donate_argnums=0)
    .lower(state, shapes, jax.random.key(0))
    .compile()
  )
  wall_s = time.perf_counter() - started
  return wall_s, compiled.memory_analysis().temp_size_in_bytes


def base(quick: bool):
  """Compilation of base_with_context, and memory with rematerialisation."""
  wall_s, plain = compilation(quick)
  _, again = compilation(quick, remat=True)
  yield "compiling base_with_context's step", f"{wall_s:.0f} s", "under 60 s"
  yield "memory of base's step, batch 8", f"{plain / 1e9:.2f} GB", ""
  yield "the same with rematerialisation", f"{again / 1e9:.2f} GB", ""
  yield "one over the other", f"{plain / again:.2f}", "at least 2"


class Seconds:
  """A watcher that keeps the seconds of a step."""

  def __init__(self, every: int):
    self.every, self.found = every, []

  def __call__(self, step, state, metrics):
    self.found.append(metrics["seconds_per_step"])


def loop(quick: bool):
  """The loop on array shards beside the same on one batch again and again."""
  layers = dict(
    num_encoder_layers=1, num_context_layers=1, num_decoder_layers=1
  )
  learner = make_learner("small", quick, **({} if quick else layers))
  network = learner.model.network
  batch_size, block, rounds = 4, 5, 2 if quick else 6
  compiled = jax.jit(learner.step, donate_argnums=0)
  with tempfile.TemporaryDirectory() as folder:
    songs = pathlib.Path(folder, "songs")
    config = audio.SpectrogramConfig()
    for _ in data.prepare_songs(
      songs, range(3), soundfont_path=SOUNDFONT, config=config, num_workers=0
    ):
      pass
    windows = data.WindowBatches(
      songs,
      vocabulary=learner.model.vocabulary,
      config=config,
      batch_size=batch_size,
      max_tokens=network.max_tokens,
      segment_frames=network.segment_frames,
    )
    constant = windows.batch(0)
    sources = {"constant": lambda step: constant, "shards": windows.batch}
    # In turns, so that what else the machine does slows both alike.
    names = [name for _ in range(rounds) for name in sources]
    found = {name: [] for name in sources}
    for turn, name in enumerate(["constant", *names]):
      watcher = Seconds(block)
      training.train(
        make_state(learner),
        compiled,
        training.StepIndexed(sources[name]),
        directory=pathlib.Path(folder, f"run_{turn}"),
        num_steps=2 * block,
        key=jax.random.key(0),
        checkpoints=training.CheckpointConfig(save_every=10**6),
        watchers=[watcher],
        log_every=10**6,
      )
      if turn:  # The first compiles; the first block of the others warms up.
        found[name].append(watcher.found[1])
  best = {name: min(times) for name, times in found.items()}
  yield "step in the loop, one batch", f"{best['constant'] * 1e3:.0f} ms", ""
  yield "step in the loop, array shards", f"{best['shards'] * 1e3:.0f} ms", ""
  more = best["shards"] / best["constant"] - 1
  yield "array shards over one batch", f"{more:+.1%}", "at most +3 %"


PARTS = {part.__name__: part for part in (step, batch, base, loop)}


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("part", choices=PARTS)
  parser.add_argument("--quick", action="store_true")
  args = parser.parse_args()
  with contextlib.redirect_stdout(sys.stderr):  # The loop's lines.
    rows = list(PARTS[args.part](args.quick))
  print(json.dumps(rows), flush=True)


if __name__ == "__main__":
  main()
