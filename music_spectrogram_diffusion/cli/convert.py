"""The verb `convert`: to model directories, from what else holds weights."""

import functools
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
  help="Make a model directory: of a run, of published weights, of two models.",
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
  """Convert the averaged weights of a training run.

  Of a model, into a new directory. Of an inverter, into a new one or into a
  model directory, whose inverter it becomes.
  """
  from music_spectrogram_diffusion import training

  _check(dtype)
  described = directory / MODEL
  if not described.is_file():
    raise ValueError(
      f"Expected a training run in {directory}; it has no {MODEL}."
    )
  try:
    description = json.loads(described.read_text("utf-8"))
    save = _saver_of(description, output)
  except ValueError as error:
    raise ValueError(f"Cannot convert {described}: {error}") from error
  with console.warnings_as_lines(directory):  # Of damaged checkpoints.
    parameters = training.restore_parameters(
      directory / CHECKPOINTS, average=not raw, step=step
    )
  save(parameters, source=directory, dtype=dtype)
  print(f"{output}: written")


def _saver_of(description, output: Path):
  """What writes the parameters of a description; says what does not fit."""
  from music_spectrogram_diffusion import inverter, models

  kind = description.get("type") if isinstance(description, dict) else None
  if kind in inverter.GENERATORS:
    generator = inverter.from_config(description)
    if output.exists() and not (output / "config.json").is_file():
      raise ValueError(
        f"Expected a new directory or that of a model, got {output}."
      )
    return functools.partial(_save_inverter, output, generator)
  model = models.from_config(description)
  if not isinstance(model, models.DiffusionModel | models.AutoregressiveModel):
    raise ValueError(
      "Expected a DiffusionModel, an AutoregressiveModel or one of"
      f" {', '.join(inverter.GENERATORS)}, got {type(model).__name__}."
    )
  if output.exists():
    raise ValueError(f"Expected a new directory, got {output}.")
  return functools.partial(_save_model, output, model)


def _save_inverter(output, generator, parameters, *, source, dtype) -> None:
  import jax

  from music_spectrogram_diffusion import checkpoints

  shapes = jax.eval_shape(generator.init, jax.random.key(0))
  checkpoints.check_parameters(shapes, parameters, source)
  checkpoints.save_inverter(output, generator, parameters, dtype=dtype)


def _save_model(output, model, parameters, *, source, dtype) -> None:
  import jax

  from music_spectrogram_diffusion import checkpoints, models

  shapes = jax.eval_shape(model.init, jax.random.key(0))
  checkpoints.check_parameters(shapes, parameters, source)
  checkpoints.save_model_directory(
    output, {"model": models.to_config(model)}, parameters, dtype=dtype
  )


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


@app.command(no_args_is_help=True)
def mix(
  model: Annotated[Path, typer.Argument(metavar="MODEL", show_default=False)],
  other: Annotated[Path, typer.Argument(metavar="OTHER", show_default=False)],
  output: _Output,
  share: Annotated[
    float, typer.Option(help="Of OTHER in the weights.", min=0, max=1)
  ] = 0.5,
  dtype: _Dtype = "float16",
) -> None:
  """Average the weights of two models alike.

  Say, of a run and of what it began from. All else is MODEL's: its config, its
  way of sampling and its inverter.
  """
  from music_spectrogram_diffusion import checkpoints

  _check(dtype)
  checkpoints.mix_models(model, other, output, share=share, dtype=dtype)
  print(f"{output}: written")


def _convert_published(source: Path, output: Path, dtype: str) -> None:
  from music_spectrogram_diffusion import checkpoints

  _check(dtype)
  with console.warnings_as_lines(source):
    checkpoints.convert_published(source, output, dtype=dtype)
  print(f"{output}: written")


def _check(dtype: str) -> None:
  if dtype not in ("float16", "float32"):
    raise ValueError(f"Expected a dtype of float16 or float32; got {dtype!r}.")
