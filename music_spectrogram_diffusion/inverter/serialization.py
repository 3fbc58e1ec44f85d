"""Generators as JSON: what stands under "inverter" in a model's config."""

from typing import Any

from music_spectrogram_diffusion import audio, serialization
from music_spectrogram_diffusion.inverter.seanet import SeaNet
from music_spectrogram_diffusion.inverter.sinusoid_vocoder import (
  SinusoidVocoder,
)

_GENERATORS = (SeaNet, SinusoidVocoder)
_PARTS = {
  part.__name__: part for part in (*_GENERATORS, audio.SpectrogramConfig)
}

GENERATORS = tuple(part.__name__ for part in _GENERATORS)
"""Types of generators, as a config names them."""

to_config = serialization.to_config


def from_config(config: Any) -> Any:
  """Builds the generator that `to_config` described.

  Args:
    config: The description.

  Returns:
    The generator, without parameters.

  Raises:
    ValueError: The type is not known, or a field is missing, unknown or wrong.
  """
  return serialization.from_config(config, _PARTS)
