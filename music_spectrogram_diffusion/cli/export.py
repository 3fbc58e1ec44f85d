"""The verb `export`: models in the formats of others."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
  no_args_is_help=True,
  rich_markup_mode=None,
  help="Write a model in the format of another program.",
)


@app.callback()
def _formats() -> None:
  """Keeps the format a word of its own while there is only one."""


@app.command(no_args_is_help=True)
def diffusers(
  model: Annotated[str, typer.Argument(metavar="MODEL", show_default=False)],
  output: Annotated[Path, typer.Argument(metavar="OUT", show_default=False)],
  without_guidance: Annotated[
    bool,
    typer.Option(
      "--without-guidance",
      help="Export a model that is meant to be played with guidance, which the"
      " pipeline does not have.",
    ),
  ] = False,
) -> None:
  """Write a SpectrogramDiffusionPipeline of diffusers, without an inverter.

  MODEL is a model directory or what `spec-diff models list` shows.
  """
  from music_spectrogram_diffusion import checkpoints

  source = checkpoints.find_model(model)
  config, parameters = checkpoints.load_model_directory(source)
  checkpoints.export_diffusers_pipeline(
    config.get("model"),
    parameters,
    output,
    source=source,
    without_guidance=without_guidance,
  )
  print(f"{output}: written")
