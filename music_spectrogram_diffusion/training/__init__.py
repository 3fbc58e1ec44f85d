"""Training on any source of batches: optimizers, the step and the loop.

Knows the models and how they are saved, no raw data and no TensorFlow.
"""

from music_spectrogram_diffusion.training.checkpointing import (
  CheckpointConfig,
  SaveError,
)
from music_spectrogram_diffusion.training.divergence import DivergenceError
from music_spectrogram_diffusion.training.interruption import Interrupted
from music_spectrogram_diffusion.training.inverter_learner import (
  InverterLearner,
)
from music_spectrogram_diffusion.training.learners import (
  Learner,
  ModelLearner,
)
from music_spectrogram_diffusion.training.loop import train
from music_spectrogram_diffusion.training.optimizers import (
  adafactor,
  adam,
  adamw,
  constant,
  inverse_square_root,
  muon,
  warm_up_then_decay,
)
from music_spectrogram_diffusion.training.partitioning import (
  Partitioner,
  initialize_distributed,
)
from music_spectrogram_diffusion.training.reporting import Watcher
from music_spectrogram_diffusion.training.restoring import (
  OtherRunError,
  restore_average,
  restore_parameters,
)
from music_spectrogram_diffusion.training.run import Run, train_model
from music_spectrogram_diffusion.training.sources import (
  BatchIterator,
  NonFiniteError,
  StepIndexed,
)
from music_spectrogram_diffusion.training.step import TrainState, train_step

__all__ = [
  "BatchIterator",
  "CheckpointConfig",
  "DivergenceError",
  "Interrupted",
  "InverterLearner",
  "Learner",
  "ModelLearner",
  "NonFiniteError",
  "OtherRunError",
  "Partitioner",
  "Run",
  "SaveError",
  "StepIndexed",
  "TrainState",
  "Watcher",
  "adafactor",
  "adam",
  "adamw",
  "constant",
  "initialize_distributed",
  "inverse_square_root",
  "muon",
  "restore_average",
  "restore_parameters",
  "train",
  "train_model",
  "train_step",
  "warm_up_then_decay",
]
