import functools
import importlib
import math
from pathlib import Path
import sys

import jax
from jax import numpy as jnp
import jax.extend
import pytest

from music_spectrogram_diffusion import audio, models
from music_spectrogram_diffusion.models import network, sampling_network

FOLDER = Path(__file__).parents[2] / "benchmarks" / "speed"
MEL_BINS, TOKENS = 8, 20


@pytest.fixture(scope="module")
def load():
  """Imports a file of the bench, which imports its neighbours."""
  sys.path.insert(0, str(FOLDER))
  yield importlib.import_module
  sys.path.remove(str(FOLDER))
  for path in FOLDER.glob("*.py"):
    sys.modules.pop(path.stem, None)


def product_flops(jaxpr):
  """Of all products in a program without loops."""
  flops = 0.0
  for equation in jaxpr.eqns:
    if equation.primitive.name == "dot_general":
      (contracted, _), _ = equation.params["dimension_numbers"]
      shape = equation.invars[0].aval.shape
      depth = math.prod(shape[axis] for axis in contracted)
      flops += 2.0 * depth * equation.outvars[0].aval.size
    for inner in jax.extend.core.jaxprs_in_params(equation.params):
      flops += product_flops(inner)
  return flops


@pytest.mark.parametrize("aligned", [False, True])
def test_a_step_makes_the_products_of_the_floor_and_no_others(load, aligned):
  sizes = load("sizes")
  make = models.aligned_network if aligned else models.NetworkConfig
  config = make(
    emb_dim=32,
    num_heads=2,
    head_dim=16,
    mlp_dim=24,
    num_encoder_layers=1,
    num_context_layers=1,
    num_decoder_layers=3,
    segment_frames=12,
  )
  model = models.DiffusionModel(
    network=config, spectrogram=audio.SpectrogramConfig(n_mels=MEL_BINS)
  )
  shapes = jax.eval_shape(model.init, jax.random.key(0))["decoder"]
  decoder = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
  num_keys = aligned + TOKENS + 12
  bias = jnp.zeros((3, 1, 2, 12, num_keys)) if aligned else None
  conditioning = network.Conditioning(
    keys=jnp.zeros((1, num_keys, 32)),
    mask=jnp.ones((1, num_keys), bool),
    null=jnp.zeros(num_keys, bool),
    bias=bias,
  )
  prepared = sampling_network.prepare(config, decoder, conditioning)
  step = functools.partial(sampling_network.decode, config, guided=True)
  jaxpr = jax.make_jaxpr(step)(
    prepared, jnp.zeros((1, 12, MEL_BINS)), [[jnp.zeros(64)] * 2] * 3
  )
  expected = sizes.step_flops(config, num_keys, MEL_BINS)
  assert product_flops(jaxpr.jaxpr) == expected


def test_processes_take_turns_and_count_with_their_least(load):
  turns = load("turns")
  costs = iter([{"clock_s": 3.0}, {"clock_s": 5.0}, {"clock_s": 2.0}])
  order = []

  def measure(name):
    order.append(name)
    return next(costs) if name == "a" else {"clock_s": 1.0}

  found = turns.in_turns(
    {name: functools.partial(measure, name) for name in "ab"}, rounds=3
  )
  assert found == {"a": {"clock_s": 2.0}, "b": {"clock_s": 1.0}}
  assert "".join(order) == "ababab"


def test_encoders_are_measured_once_a_segment_beside_the_peer_s(load):
  steps = load("steps")
  names = ("fast", "plain", "fast bfloat16", "textbook", "encode")
  names += ("diffusers, two passes", "diffusers, one batch")
  names += ("diffusers, encode",)
  found = {f"{name}, 256": {"clock_s": 0.1, "cpu_s": 0.2} for name in names}
  for name in ("products", "products bfloat16"):
    found[name] = {"clock_s": 0.05, "cpu_s": 0.1}
  found["diffusers, encode, 256"] = {"clock_s": 0.25, "cpu_s": 0.5}
  flops = dict.fromkeys(found, 1e9)
  rows = steps._rows("base", 256, 256, found, flops)
  [theirs] = [row for row in rows if "diffusers, encoders" in row[0]]
  assert theirs[1:5] == ("250.0", "500.0", "", "2.50")
