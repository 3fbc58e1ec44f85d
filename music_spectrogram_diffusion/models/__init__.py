"""Networks, and the models they make: network, objective and prediction.

Depends on notes, audio and diffusion; on JAX and Flax.
"""

from music_spectrogram_diffusion.models.autoregressive_model import (
  AutoregressiveModel,
)
from music_spectrogram_diffusion.models.configs import (
  NetworkConfig,
  SamplingConfig,
  aligned_network,
  paper_network,
)
from music_spectrogram_diffusion.models.diffusion_model import (
  SAMPLERS,
  SPACINGS,
  DiffusionModel,
)
from music_spectrogram_diffusion.models.harmonics import harmonic_init
from music_spectrogram_diffusion.models.logical_axes import (
  axes_of,
  logical_axes,
)
from music_spectrogram_diffusion.models.objectives import Objective
from music_spectrogram_diffusion.models.serialization import (
  from_config,
  to_config,
)
from music_spectrogram_diffusion.models.transcription_model import (
  TranscriptionModel,
)

__all__ = [
  "SAMPLERS",
  "SPACINGS",
  "AutoregressiveModel",
  "DiffusionModel",
  "NetworkConfig",
  "Objective",
  "SamplingConfig",
  "TranscriptionModel",
  "aligned_network",
  "axes_of",
  "from_config",
  "harmonic_init",
  "logical_axes",
  "paper_network",
  "to_config",
]
