"""The command `spec-diff` and what is common to its verbs."""

import sys
from typing import Annotated

import typer

import music_spectrogram_diffusion
from music_spectrogram_diffusion import cache
from music_spectrogram_diffusion.cli import (
  console,
  convert,
  doctor,
  evaluate,
  export,
  info,
  models,
  prepare,
  render,
  train,
)

app = typer.Typer(
  no_args_is_help=True,
  add_completion=False,
  pretty_exceptions_enable=False,
  rich_markup_mode=None,
)
app.command(no_args_is_help=True)(render.render)
app.command(no_args_is_help=True)(info.info)
# What begins with `--gin.` is gin's to read.
app.command(
  no_args_is_help=True, context_settings={"ignore_unknown_options": True}
)(train.train)
app.command(no_args_is_help=True)(evaluate.evaluate)
app.add_typer(convert.app, name="convert")
app.add_typer(export.app, name="export")
app.add_typer(models.app, name="models")
app.add_typer(prepare.app, name="prepare")
app.command()(doctor.doctor)


def _print_version(wanted: bool) -> bool:
  if wanted:
    print(music_spectrogram_diffusion.__version__)
    raise typer.Exit
  return wanted


@app.callback(
  epilog=f"Set {console.DEBUG_VARIABLE}=1 to see the traceback of an error."
)
def options(
  version: Annotated[
    bool,
    typer.Option(
      "--version",
      callback=_print_version,
      is_eager=True,
      help="Print the version and exit.",
    ),
  ] = False,
) -> None:
  """Plays MIDI files with a neural synthesizer."""


def main() -> None:
  """Runs the command line; exits 2 with one line where an input is wrong."""
  cache.keep_compiled_programs()
  try:
    app()
  except (ValueError, OSError) as error:
    if console.debugging():
      raise
    console.complain(console.reason(error))
    sys.exit(2)
