"""Serves our denoising steps: ours.py SIZE-AS-JSON, a process of its own.

Each function makes `STEPS` guided steps, in one program:

* fast: what `DiffusionModel.predict` repeats, in float32 and in bfloat16;
* plain: the Flax modules, as they are trained, which compute everything anew;
* textbook: the network as one would first write it, of benchmarks/training, in
  two passes, one after the other;
* encode: not steps, but the encoders, which run once a segment;
* products: those of the projections and MLPs alone, of the same weights, which
  is the rate that the floor is reckoned with.
"""

import json
import os
import pathlib
import sys

import turns

size = json.loads(sys.argv[1])
if size["device"] == "cpu":
  turns.use_two_cores()
  os.environ["JAX_PLATFORMS"] = "cpu"

import dataclasses  # noqa: E402  # JAX counts the cores when it is imported.

import jax  # noqa: E402
from jax import lax  # noqa: E402
from jax import numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import sizes  # noqa: E402

sys.path.append(str(pathlib.Path(__file__).parents[1] / "training"))
import baseline  # noqa: E402

from music_spectrogram_diffusion.models import (  # noqa: E402
  network,
  sampling_network,
)

STEPS = 4


def conditioning(config, tokens: int, batch: int) -> network.Conditioning:
  """Random encodings of so many notes or tokens and of a full context."""
  rng = np.random.default_rng(1)
  null = config.max_notes is not None
  num_keys = null + tokens + config.segment_frames * config.has_context
  bias = None
  if config.relative_time:
    shape = (config.num_decoder_layers, batch, config.num_heads)
    shape += (config.segment_frames, num_keys)
    bias = jnp.asarray(rng.standard_normal(shape, np.float32))
  shape = (batch, num_keys, config.emb_dim)
  return network.Conditioning(
    keys=jnp.asarray(rng.standard_normal(shape, np.float32), config.dtype),
    mask=jnp.ones((batch, num_keys), bool),
    null=jnp.arange(num_keys) == (0 if null else -1),
    bias=bias,
  )


def encode(model, parameters, tokens, batch):
  """The encoders of so many tokens, or notes, and of a full context."""
  config = model.network
  note_tokens = np.full((batch, tokens), model.vocabulary.pitch[0], np.int32)
  shape = (batch, config.segment_frames, model.spectrogram.n_mels)
  context = jnp.full(shape, -4.0)
  return jax.jit(model.encode), (
    parameters,
    jnp.asarray(note_tokens),
    context,
    jnp.ones(shape[:2], bool),
  )


def loop(model, step):
  """A program of `STEPS` steps; each output finds its way into the next."""

  def run(z, rows):
    def body(z, row):
      heard, unheard = jnp.split(step(z, row), 2)
      return 0.5 * z + 0.1 * (2.0 * heard - unheard), None

    return lax.scan(body, z, rows)[0]

  return run


def fast(model, parameters, tokens, batch):
  """Steps as they are sampled; keys, values and FiLM are there already."""
  config = model.network
  prepared = jax.jit(sampling_network.prepare, static_argnums=0)(
    config, parameters["decoder"], conditioning(config, tokens, batch)
  )
  films = jax.jit(sampling_network.films, static_argnums=0)(
    config, parameters["decoder"], times()
  )

  @jax.jit
  def run(prepared, z, films):
    def step(z, row):
      return sampling_network.decode(config, prepared, z, row, guided=True)

    return loop(model, step)(z, films)

  return run, (prepared, noise(model, batch), films)


def plain(model, parameters, tokens, batch):
  """Steps of the Flax modules."""
  given = conditioning(model.network, tokens, batch)

  @jax.jit
  def run(parameters, given, z, times):
    both = given.concatenate(given.unconditional())

    def step(z, time):
      return model.output(
        parameters, jnp.tile(z, (2, 1, 1)), jnp.full(2 * len(z), time), both
      )

    return loop(model, step)(z, times)

  return run, (parameters, given, noise(model, batch), times())


def textbook(model, parameters, tokens, batch):
  """Steps of the baseline of training: two passes, nothing shared."""
  given = conditioning(model.network, tokens, batch)
  decoder = baseline.Baseline(model)

  nothing = given.replace(
    keys=jnp.zeros_like(given.keys), mask=jnp.zeros_like(given.mask)
  )

  @jax.jit
  def run(parameters, given, nothing, z, times):
    def one(z, time, given):
      # As if each pass were a program: XLA would take out of the loop, and
      # compute once, what the passes have in common.
      z, given = lax.optimization_barrier((z, given))
      return decoder._decoder(
        parameters["decoder"],
        z,
        jnp.full(len(z), time),
        given.keys,
        given.mask,
        lambda x: x,
      )

    def step(z, time):
      heard = one(z, time, given)
      z, heard = lax.optimization_barrier((z, heard))
      return jnp.concatenate([heard, one(z, time, nothing)])

    return loop(model, step)(z, times)

  return run, (parameters, given, nothing, noise(model, batch), times())


def products(model, parameters, batch):
  """The products of all layers' projections and MLPs, and nothing else."""
  config = model.network
  decoder = parameters["decoder"]
  stack = [decoder[f"layers_{i}"] for i in range(config.num_decoder_layers)]

  def kernels(weights, names):
    return [
      jnp.asarray(weights[name]["kernel"], config.dtype) for name in names
    ]

  weights = [
    (
      kernels(layer["self_attention"], ("query", "key", "value", "out")),
      kernels(layer["mlp"], ("wi_0", "wi_1", "wo")),
    )
    for layer in stack
  ]

  @jax.jit
  def run(x, weights):
    def dot(x, kernel):
      return jnp.matmul(
        x.astype(kernel.dtype), kernel, preferred_element_type=jnp.float32
      )

    def body(x, _):
      for *first, last in (part for layer in weights for part in layer):
        x = dot(sum(dot(x, kernel) for kernel in first), last)
      return x, None

    return lax.scan(body, x, length=STEPS)[0]

  rows = 2 * batch * config.segment_frames
  return run, (jnp.ones((rows, config.emb_dim)), weights)


def times():
  """Noise times of the steps."""
  return jnp.linspace(0.9, 0.1, STEPS)


def noise(model, batch):
  """What the first step is given."""
  shape = (batch, model.network.segment_frames, model.spectrogram.n_mels)
  return jax.random.normal(jax.random.key(0), shape)


def main():
  """Serves until the input ends."""
  model, parameters = sizes.build(size["name"])
  parameters = jax.device_put(parameters)
  batch = size["batch"]
  half = dataclasses.replace(model.network, dtype="bfloat16")
  half = dataclasses.replace(model, network=half)
  programs = {
    "products": products(model, parameters, batch),
    "products bfloat16": products(half, parameters, batch),
  }
  flops = {
    name: STEPS
    * sizes.dense_flops(model.network, 2 * batch * model.network.segment_frames)
    for name in programs
  }
  for tokens in size["tokens"]:
    added = {
      f"fast, {tokens}": fast(model, parameters, tokens, batch),
      f"fast bfloat16, {tokens}": fast(half, parameters, tokens, batch),
      f"plain, {tokens}": plain(model, parameters, tokens, batch),
      f"encode, {tokens}": encode(model, parameters, tokens, batch),
    }
    if size["name"] != sizes.DEFAULT:
      added[f"textbook, {tokens}"] = textbook(model, parameters, tokens, batch)
    num_keys = added[f"fast, {tokens}"][1][0].cross[0].key.shape[1]
    needed = STEPS * sizes.step_flops(
      model.network, num_keys, model.spectrogram.n_mels, batch
    )
    programs |= added
    flops |= dict.fromkeys(added, needed)

  def call(program):
    function, arguments = program
    return lambda: jax.block_until_ready(function(*arguments))

  turns.serve(
    {name: call(program) for name, program in programs.items()},
    steps=STEPS,
    flops=flops,
    jax=jax.__version__,
    device=jax.devices()[0].device_kind,
  )


if __name__ == "__main__":
  main()
