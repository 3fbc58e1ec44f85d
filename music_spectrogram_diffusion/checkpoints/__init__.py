"""Models on disk: our own directories, and the import of published ones.

Imports `models` and what lies below; never TensorFlow or torch.
"""

from music_spectrogram_diffusion.checkpoints.diffusers import (
  load_diffusers_pipeline,
)
from music_spectrogram_diffusion.checkpoints.diffusers_export import (
  export_diffusers_pipeline,
)
from music_spectrogram_diffusion.checkpoints.directory import (
  CheckpointError,
  check_parameters,
  load_model_directory,
  save_model_directory,
  weights_hash,
)
from music_spectrogram_diffusion.checkpoints.downloads import DownloadError
from music_spectrogram_diffusion.checkpoints.inverters import (
  find_inverter,
  has_inverter,
  load_inverter,
  save_inverter,
)
from music_spectrogram_diffusion.checkpoints.mixing import mix_models
from music_spectrogram_diffusion.checkpoints.mt3 import load_mt3_checkpoint
from music_spectrogram_diffusion.checkpoints.pretrained import (
  ONNX_INVERTER,
  convert_published,
  find_model,
)
from music_spectrogram_diffusion.checkpoints.registry import published_models

__all__ = [
  "ONNX_INVERTER",
  "CheckpointError",
  "DownloadError",
  "check_parameters",
  "convert_published",
  "export_diffusers_pipeline",
  "find_inverter",
  "find_model",
  "has_inverter",
  "load_diffusers_pipeline",
  "load_inverter",
  "load_model_directory",
  "load_mt3_checkpoint",
  "mix_models",
  "published_models",
  "save_inverter",
  "save_model_directory",
  "weights_hash",
]
