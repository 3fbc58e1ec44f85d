"""Models as JSON: every part a dict of its fields and its `type`."""

from typing import Any

from music_spectrogram_diffusion import audio, diffusion, notes, serialization
from music_spectrogram_diffusion.models import configs
from music_spectrogram_diffusion.models.autoregressive_model import (
  AutoregressiveModel,
)
from music_spectrogram_diffusion.models.diffusion_model import DiffusionModel

_PARTS = {
  part.__name__: part
  for part in (
    AutoregressiveModel,
    DiffusionModel,
    audio.SpectrogramConfig,
    configs.NetworkConfig,
    configs.SamplingConfig,
    diffusion.parameterization.EDM,
    diffusion.parameterization.Eps,
    diffusion.parameterization.StandardizedX0,
    diffusion.parameterization.V,
    diffusion.parameterization.X0,
    diffusion.parameterization.X0AndEps,
    diffusion.schedules.CosineSchedule,
    diffusion.schedules.LinearBetaSchedule,
    diffusion.schedules.SquaredCosineSchedule,
    notes.Vocabulary,
  )
}


to_config = serialization.to_config


def from_config(config: Any) -> Any:
  """Builds what `to_config` described; only models and their parts are made.

  Args:
    config: The description.

  Returns:
    The part.

  Raises:
    ValueError: The type is not known, or a field is missing, unknown or wrong.
  """
  return serialization.from_config(config, _PARTS)
