"""The verb `convert`: a training run to a model directory."""

import json
from pathlib import Path
from typing import Annotated

import typer

MODEL = "model.json"
CHECKPOINTS = "checkpoints"


def convert(
  run: Annotated[Path, typer.Argument(metavar="RUN", show_default=False)],
  output: Annotated[Path, typer.Argument(metavar="OUT", show_default=False)],
  dtype: Annotated[
    str, typer.Option(help="float16 or float32, to store the weights in.")
  ] = "float16",
) -> None:
  """Make a model directory of a training run's averaged weights."""
  import numpy as np

  from music_spectrogram_diffusion import checkpoints, training

  if dtype not in ("float16", "float32"):
    raise ValueError(f"Expected a dtype of float16 or float32; got {dtype!r}.")
  described = run / MODEL
  if not described.is_file():
    raise ValueError(f"Expected a training run in {run}; it has no {MODEL}.")
  checkpoints.save_model_directory(
    output,
    {"model": json.loads(described.read_text())},
    training.restore_average(run / CHECKPOINTS),
    dtype=np.dtype(dtype),
  )
  print(f"{output}: written")
