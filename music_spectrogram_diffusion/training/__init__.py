"""Training on any source of batches: optimizers, the step and the loop.

Knows the models and how they are saved, no raw data and no TensorFlow.
"""

from music_spectrogram_diffusion.training.loop import restore_average, train
from music_spectrogram_diffusion.training.optimizers import (
  adafactor,
  adamw,
  warm_up_then_decay,
)
from music_spectrogram_diffusion.training.step import TrainState

__all__ = [
  "TrainState",
  "adafactor",
  "adamw",
  "restore_average",
  "train",
  "warm_up_then_decay",
]
