"""The verb `train`: a run that gin files describe."""

import contextlib
from pathlib import Path
import re
from typing import Annotated

import typer

from music_spectrogram_diffusion import quietly
from music_spectrogram_diffusion.cli import console, gin_files, outputs

OPERATIVE_CONFIG = "operative_config.gin"
"""In the directory of a run: what was configured, as a gin file."""

_BINDING = re.compile(r"--gin\.([^=\s]+)=(.*)", re.DOTALL)


def train(
  overrides: Annotated[
    list[str] | None,
    typer.Argument(metavar="--gin.NAME=VALUE", show_default=False),
  ] = None,
  gin_file: Annotated[
    list[str] | None,
    typer.Option(
      "--gin_file",
      metavar="FILE",
      help="A gin file, your own or one that is installed. Repeat it.",
      show_default=False,
    ),
  ] = None,
  gin_search_paths: Annotated[
    str,
    typer.Option(
      "--gin_search_paths",
      metavar="FOLDERS",
      help="Where gin files are looked for first; commas between.",
      show_default=False,
    ),
  ] = "",
) -> None:
  """Train or fine-tune a model, as gin files say.

  `--gin.NAME=VALUE` overrides them: a macro, as in --gin.MODEL_DIR='"run"', or
  a parameter, as in --gin.partitioning.Partitioner.model=2. Values are literals
  of Python. The same command goes on with a run that was stopped.
  """
  bindings = [_binding(argument) for argument in overrides or ()]
  if not gin_file:
    raise ValueError(
      "Expected a --gin_file, such as --gin_file=small_with_context.gin; they"
      f" are explained in {gin_files.installed() / 'README.md'}."
    )
  with contextlib.suppress(ModuleNotFoundError):
    quietly.import_tensorflow()  # What gin imports by name may load it loudly.
  gin_files.load(
    gin_file,
    bindings,
    search_paths=[path for path in gin_search_paths.split(",") if path],
  )
  import gin
  from music_spectrogram_diffusion import training

  started = []

  def save_config(directory: Path) -> None:
    started.append(directory)  # On one of the hosts.
    text = gin_files.operative()
    outputs.write_whole(directory / OPERATIVE_CONFIG, text.encode())

  if not gin_files.configures(training.train_model):
    raise ValueError(
      f"Expected a gin file that describes a run; {', '.join(gin_file)} does"
      " not. Add one, such as --gin_file=small_with_context.gin."
    )
  with console.warnings_as_lines("training"), gin_files.explained():
    try:
      if gin_files.configures(training.initialize_distributed):
        gin.get_configurable(training.initialize_distributed)()
      state = gin.get_configurable(training.train_model)(on_start=save_config)
    except training.Interrupted as stopped:
      console.say(str(stopped).partition("\n")[0])
      raise typer.Exit(stopped.exit_code) from None

  for directory in started:
    print(
      f"{directory}: {int(state.step)} steps made;"
      f" `spec-diff convert run {directory} OUT` makes a model of it"
    )


def _binding(argument: str) -> str:
  """The line of gin that an argument stands for."""
  match = _BINDING.fullmatch(argument)
  if match is None:
    raise ValueError(
      f"Expected --gin_file=FILE or --gin.NAME=VALUE, got {argument}."
    )
  return f"{match[1]} = {match[2]}"
