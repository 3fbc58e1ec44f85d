"""Generators through JSON and back."""

import json

import pytest

from music_spectrogram_diffusion import audio, inverter
from music_spectrogram_diffusion.inverter import seanet


@pytest.mark.parametrize(
  "generator",
  [
    seanet.PAPER,
    seanet.SMALL,
    inverter.SeaNet(
      spectrogram=audio.SpectrogramConfig(hop_length=160, fmax=7_000.0),
      strides=(4, 5, 8),
      dtype="bfloat16",
    ),
  ],
)
def test_every_generator_comes_back(generator):
  text = json.dumps(inverter.to_config(generator))
  assert inverter.from_config(json.loads(text)) == generator


@pytest.mark.parametrize(
  ("fields", "said"),
  [
    ({"type": "Popen"}, "got 'Popen'"),
    (
      {"type": "DiffusionModel"},
      "SeaNet, SinusoidVocoder, SpectrogramConfig; got",
    ),
    ({"strides": [8, 5, "4", 2]}, "each of strides of SeaNet as int; got '4'"),
    ({"strides": 320}, "strides of SeaNet as tuple; got 320"),
    ({"strides": [8, 5]}, "product is the hop of 320"),
    ({"kernel": 7}, "SeaNet has no field kernel"),
    ({"spectrogram": None}, "spectrogram of SeaNet as SpectrogramConfig"),
  ],
)
def test_what_cannot_be_built_is_an_error(fields, said):
  with pytest.raises(ValueError, match=said):
    inverter.from_config(inverter.to_config(seanet.PAPER) | fields)
