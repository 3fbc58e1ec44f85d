"""The inverters that are compared, as they are built in any process."""

import dataclasses
import pathlib
from typing import Any

import jax

from music_spectrogram_diffusion import audio, checkpoints, inverter

UNTRAINED = "untrained"
"""Instead of a directory: the paper's inverter with random weights."""
GRIFFIN_LIM = "griffin-lim"
"""Instead of a directory: Griffin-Lim."""
GUIDED = "guided:"
"""Before a directory: its inverter, which is told the notes."""
HALF = "bfloat16:"
"""Before a directory, or after `GUIDED`: products are made in bfloat16."""

_ITERATIONS = 64


def build(name: str) -> inverter.Inverter:
  """Builds an inverter.

  Args:
    name: One of the names above, or a directory that `save_inverter` wrote.
  """
  if name.startswith(GUIDED):
    inner = saved(name.removeprefix(GUIDED))
    return inverter.NoteGuidedInverter(inner, inner.uncorrected())
  return _BUILT.get(name, saved)(name)


def griffin_lim(_: str = "") -> inverter.GriffinLim:
  """What inverts without anything learned."""
  return inverter.GriffinLim(
    audio.SpectrogramConfig(), num_iterations=_ITERATIONS
  )


def untrained(_: str = "") -> inverter.NeuralInverter:
  """The paper's inverter, with random weights."""
  generator = inverter.SeaNet()
  parameters = jax.jit(generator.init)(jax.random.key(0))
  return _on_device(generator, parameters)


def saved(directory: str) -> inverter.NeuralInverter:
  """An inverter of ours, from its directory, after `HALF` maybe."""
  generator, parameters = checkpoints.load_inverter(
    directory.removeprefix(HALF)
  )
  if directory.startswith(HALF):
    generator = dataclasses.replace(generator, dtype="bfloat16")
  return _on_device(generator, parameters)


def embedded() -> pathlib.Path | None:
  """The directory of the embedded model, if it has an inverter."""
  path = checkpoints.find_model()
  return path if checkpoints.has_inverter(path) else None


def num_parameters(invert: inverter.Inverter) -> int:
  """Values of an inverter's network; 0 for none."""
  invert = getattr(invert, "inner", invert)
  leaves = jax.tree.leaves(getattr(invert, "parameters", ()))
  return sum(leaf.size for leaf in leaves)


def _on_device(generator: inverter.Generator, parameters: Any):
  return inverter.NeuralInverter(
    generator.spectrogram, generator, jax.device_put(parameters)
  )


_BUILT = {GRIFFIN_LIM: griffin_lim, UNTRAINED: untrained}
