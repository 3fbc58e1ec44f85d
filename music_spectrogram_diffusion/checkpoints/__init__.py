"""Models on disk: our own directories, and the import of published ones.

Imports `models` and what lies below; never TensorFlow or torch.
"""

from music_spectrogram_diffusion.checkpoints.diffusers import (
  load_diffusers_pipeline,
)
from music_spectrogram_diffusion.checkpoints.directory import (
  CheckpointError,
  check_parameters,
  load_model_directory,
  save_model_directory,
  weights_hash,
)

__all__ = [
  "CheckpointError",
  "check_parameters",
  "load_diffusers_pipeline",
  "load_model_directory",
  "save_model_directory",
  "weights_hash",
]
