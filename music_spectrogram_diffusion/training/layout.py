"""What lies where in the directory of a run."""

import os
from pathlib import Path

MODEL = "model.json"
"""What is trained: `Learner.describe`, as JSON."""

CHECKPOINTS = "checkpoints"


def checkpoints(run: str | os.PathLike) -> Path:
  """The folder of a run's checkpoints."""
  return Path(run, CHECKPOINTS)


def is_run(path: str | os.PathLike) -> bool:
  """Whether a training run lives in a directory."""
  return Path(path, MODEL).is_file()


def has_begun(run: str | os.PathLike) -> bool:
  """Whether a run has anything to go on from."""
  return any(checkpoints(run).glob("[0-9]*"))
