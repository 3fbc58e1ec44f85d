"""Log-mel spectrograms back to waveforms, whole or as a stream.

Depends on `audio` and `notes`; every inverter keeps the contract of `Inverter`.
"""

from music_spectrogram_diffusion.inverter.discriminators import (
  DiscriminatorConfig,
  Discriminators,
)
from music_spectrogram_diffusion.inverter.griffin_lim import GriffinLim
from music_spectrogram_diffusion.inverter.inverter import (
  Inverter,
  check_log_mel,
  cut_into_blocks,
)
from music_spectrogram_diffusion.inverter.losses import (
  LossWeights,
  adversarial_loss,
  discriminator_loss,
  feature_matching_loss,
  relative_spectral_loss,
  spectral_reconstruction_loss,
  stft_distance,
)
from music_spectrogram_diffusion.inverter.note_guided import NoteGuidedInverter
from music_spectrogram_diffusion.inverter.onnx import OnnxInverter
from music_spectrogram_diffusion.inverter.saved_model import SavedModelInverter
from music_spectrogram_diffusion.inverter.seanet import SeaNet
from music_spectrogram_diffusion.inverter.serialization import (
  GENERATORS,
  from_config,
  to_config,
)
from music_spectrogram_diffusion.inverter.sinusoid_vocoder import (
  SinusoidVocoder,
)
from music_spectrogram_diffusion.inverter.streaming import (
  Generator,
  NeuralInverter,
)

__all__ = [
  "GENERATORS",
  "DiscriminatorConfig",
  "Discriminators",
  "Generator",
  "GriffinLim",
  "Inverter",
  "LossWeights",
  "NeuralInverter",
  "NoteGuidedInverter",
  "OnnxInverter",
  "SavedModelInverter",
  "SeaNet",
  "SinusoidVocoder",
  "adversarial_loss",
  "check_log_mel",
  "cut_into_blocks",
  "discriminator_loss",
  "feature_matching_loss",
  "from_config",
  "relative_spectral_loss",
  "spectral_reconstruction_loss",
  "stft_distance",
  "to_config",
]
