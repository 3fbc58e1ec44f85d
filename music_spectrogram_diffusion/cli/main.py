"""The command `spec-diff` and what is common to its verbs."""

import sys
from typing import Annotated

import typer

import music_spectrogram_diffusion
from music_spectrogram_diffusion.cli import (
  console,
  convert,
  doctor,
  info,
  render,
)

app = typer.Typer(
  no_args_is_help=True,
  add_completion=False,
  pretty_exceptions_enable=False,
  rich_markup_mode=None,
)
app.command(no_args_is_help=True)(render.render)
app.command(no_args_is_help=True)(info.info)
app.command(no_args_is_help=True)(convert.convert)
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
  try:
    app()
  except (ValueError, OSError) as error:
    if console.debugging():
      raise
    console.complain(console.reason(error))
    sys.exit(2)
