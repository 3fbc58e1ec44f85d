"""The verb `convert`: what others have made, to model directories."""

import json
from pathlib import Path
from typing import Annotated

import typer

from music_spectrogram_diffusion.cli import console

MODEL = "model.json"
CHECKPOINTS = "checkpoints"

app = typer.Typer(
  no_args_is_help=True,
  rich_markup_mode=None,
  help="Make a model directory of a training run or of published weights.",
)

_Output = Annotated[Path, typer.Argument(metavar="OUT", show_default=False)]
_Dtype = Annotated[
  str, typer.Option(help="float16 or float32, to store the weights in.")
]


@app.command(no_args_is_help=True)
def run(
  directory: Annotated[Path, typer.Argument(metavar="RUN", show_default=False)],
  output: _Output,
  dtype: _Dtype = "float16",
  raw: Annotated[
    bool,
    typer.Option("--raw", help="Take the weights themselves, not the average."),
  ] = False,
  step: Annotated[
    int | None,
    typer.Option(
      help="Take the checkpoint of this step, not the last.", show_default=False
    ),
  ] = None,
) -> None:
  """Convert the averaged weights of a training run."""
  import jax

  from music_spectrogram_diffusion import checkpoints, models, training

  _check(dtype)
  if output.exists():
    raise ValueError(f"Expected a new directory, got {output}.")
  described = directory / MODEL
  if not described.is_file():
    raise ValueError(
      f"Expected a training run in {directory}; it has no {MODEL}."
    )
  try:
    model = models.from_config(json.loads(described.read_text("utf-8")))
  except ValueError as error:
    raise ValueError(f"Cannot read {described}: {error}") from error
  if not isinstance(model, models.DiffusionModel | models.AutoregressiveModel):
    raise ValueError(
      f"Expected a DiffusionModel or an AutoregressiveModel in {described}, got"
      f" {type(model).__name__}."
    )
  with console.warnings_as_lines(directory):  # Of damaged checkpoints.
    parameters = training.restore_parameters(
      directory / CHECKPOINTS, average=not raw, step=step
    )
  checkpoints.check_parameters(
    jax.eval_shape(model.init, jax.random.key(0)), parameters, directory
  )
  checkpoints.save_model_directory(
    output, {"model": models.to_config(model)}, parameters, dtype=dtype
  )
  print(f"{output}: written")


@app.command(no_args_is_help=True)
def t5x(
  checkpoint: Annotated[
    Path, typer.Argument(metavar="CHECKPOINT_DIR", show_default=False)
  ],
  output: _Output,
  dtype: _Dtype = "float32",
) -> None:
  """Convert a checkpoint of t5x.

  Its config.gin is read from the same directory or the one above.
  """
  _convert_published(checkpoint, output, dtype)


@app.command(no_args_is_help=True)
def diffusers(
  pipeline: Annotated[
    Path, typer.Argument(metavar="PIPELINE_DIR", show_default=False)
  ],
  output: _Output,
  dtype: _Dtype = "float32",
) -> None:
  """Convert a pipeline of diffusers."""
  _convert_published(pipeline, output, dtype)


def _convert_published(source: Path, output: Path, dtype: str) -> None:
  from music_spectrogram_diffusion import checkpoints

  _check(dtype)
  with console.warnings_as_lines(source):
    checkpoints.convert_published(source, output, dtype=dtype)
  print(f"{output}: written")


def _check(dtype: str) -> None:
  if dtype not in ("float16", "float32"):
    raise ValueError(f"Expected a dtype of float16 or float32; got {dtype!r}.")
