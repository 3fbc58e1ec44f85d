"""How the verbs speak: results on stdout, everything else on stderr."""

from collections.abc import Iterator
import contextlib
import os
import sys
from typing import Any
import warnings

DEBUG_VARIABLE = "SPEC_DIFF_DEBUG"


def debugging() -> bool:
  """Whether errors shall show their traceback."""
  return os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0")


def reason(error: Exception, source: str | os.PathLike = "") -> str:
  """One line that says what went wrong, and in which file.

  Args:
    error: What was raised.
    source: File at hand, named in front where the error does not name it.
  """
  text = str(error)
  if isinstance(error, OSError) and error.strerror:
    text = error.strerror
    source = error.filename or source
  text = " ".join(text.split()) or type(error).__name__
  named = not source or os.fspath(source) in text
  return text if named else f"{os.fspath(source)}: {text}"


def say(line: str) -> None:
  """Prints a line on stderr; above the progress bar where there is one."""
  print(line, file=sys.stderr, flush=True)


def complain(line: str) -> None:
  """Prints an error on stderr."""
  say(f"error: {line}")


@contextlib.contextmanager
def warnings_as_lines(source: str | os.PathLike) -> Iterator[None]:
  """Prints each warning for users once, as one line that names `source`.

  Those meant for programmers, such as deprecations, are not shown.
  """
  said = set()

  def show(message, *_, **__) -> None:
    line = f"warning: {reason(message, source)}"
    if line not in said:
      said.add(line)
      say(line)

  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", UserWarning)
    warnings.showwarning = show
    yield


@contextlib.contextmanager
def progress(unit: str) -> Iterator[Any]:
  """Shows bars on stderr where that is a terminal, until it is left.

  Args:
    unit: What bars count, behind the numbers; may hold `{task.fields[NAME]}`.

  Yields:
    The `rich.progress.Progress` to add tasks to.
  """
  import rich.console
  import rich.progress

  terminal = rich.console.Console(stderr=True)
  with rich.progress.Progress(
    rich.progress.TextColumn("{task.description}", markup=False),
    rich.progress.BarColumn(),
    rich.progress.MofNCompleteColumn(),
    rich.progress.TextColumn(f"{unit},"),
    rich.progress.TimeRemainingColumn(compact=True),
    rich.progress.TextColumn("left"),
    console=terminal,
    disable=not terminal.is_terminal,
    transient=True,
  ) as shown:
    yield shown


def show(renderable) -> None:
  """Prints a table of rich on stdout, as wide as it needs to be in a pipe."""
  import rich.console

  terminal = rich.console.Console()
  if not terminal.is_terminal:
    terminal.width = 120
  terminal.print(renderable)
