"""Log-mel spectrograms back to waveforms, whole or as a stream.

Depends on `audio`; every inverter keeps the contract of `Inverter`.
"""

from music_spectrogram_diffusion.inverter.griffin_lim import GriffinLim
from music_spectrogram_diffusion.inverter.inverter import (
  Inverter,
  check_log_mel,
  cut_into_blocks,
)
from music_spectrogram_diffusion.inverter.onnx import OnnxInverter

__all__ = [
  "GriffinLim",
  "Inverter",
  "OnnxInverter",
  "check_log_mel",
  "cut_into_blocks",
]
