"""The verb `models`: published weights, listed, downloaded and found."""

from typing import Annotated

import typer

from music_spectrogram_diffusion.cli import console

app = typer.Typer(
  no_args_is_help=True,
  rich_markup_mode=None,
  help="List, download and find published models.",
)

_Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]


@app.command("list")
def list_models() -> None:
  """List published models, and where they are if they are here."""
  import rich.box
  import rich.table

  from music_spectrogram_diffusion import checkpoints

  table = rich.table.Table(box=rich.box.SIMPLE)
  for heading in ("name", "about", "where"):
    table.add_column(heading, overflow="fold")
  for name, model in checkpoints.published_models().items():
    found = model.find()
    table.add_row(name, model.about, str(found) if found else "not downloaded")
  console.show(table)


@app.command(no_args_is_help=True)
def download(name: _Name) -> None:
  """Download a published model, and print where it is.

  $SPEC_DIFF_CACHE is where it goes; those of the Hugging Face Hub go to the
  cache of huggingface_hub. An interrupted download is gone on with.
  """
  print(_published(name).fetch())


@app.command(no_args_is_help=True)
def path(name: _Name) -> None:
  """Print where a downloaded model is."""
  found = _published(name).find()
  if not found:
    raise ValueError(
      f"{name} is not here yet; `spec-diff models download {name}` gets it."
    )
  print(found)


def _published(name: str):
  from music_spectrogram_diffusion import checkpoints

  models = checkpoints.published_models()
  if name not in models:
    raise ValueError(f"Expected one of {', '.join(models)}; got {name}.")
  return models[name]
