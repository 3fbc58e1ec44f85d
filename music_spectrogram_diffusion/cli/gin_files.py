"""Gin files: finding them, reading them, and saying what is wrong in them.

Here alone gin is imported; it reaches the library from outside.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import contextlib
import difflib
import inspect
import logging
from pathlib import Path
import re
import sys
from typing import Any

import music_spectrogram_diffusion

_REQUIRED = re.compile(r"(?:^|')(\S+?)/(?:gin\.)?macro\b")
_UNKNOWN_PARAMETER = re.compile(r"Configurable '(\S+)' doesn't have .*'(\S+)'")
_UNKNOWN_NAME = re.compile(
  r"resolve selector (\S+); <(?:module|class) '(\S+?)'"
)
_UNKNOWN_SYMBOL = re.compile(r"^'(\w+)' was not provided by an import")
_UNKNOWN_FILE = re.compile(r"Unable to open file: (\S+)\. Searched")
_WRONG_ARGUMENT = re.compile(
  r"(unexpected keyword|missing .*required.*) argument:? '(\w+)'"
)
_WHERE = re.compile(r'In file "(.+?)", line (\d+)')
_CALL = re.compile(r"\n\s*In call to configurable '(\S+)'.*")
_IMPORT = re.compile(r"^(?:from|import)\s.*$", re.M)
_MACRO = re.compile(
  r"^([A-Za-z_]\w*)\s*=|%([A-Za-z_]\w*)(?![\w.])", re.MULTILINE
)


def installed() -> Path:
  """The folder of the gin files that come with the package.

  Raises:
    ValueError: There is none.
  """
  package = Path(music_spectrogram_diffusion.__file__).parent
  # Installed inside the package; in a checkout beside it.
  for folder in (package / "gin", package.parent / "gin"):
    if (folder / "train.gin").is_file():
      return folder
  raise ValueError(f"Expected gin files in {package / 'gin'}; install again.")


def load(
  files: Sequence[str],
  bindings: Sequence[str] = (),
  *,
  search_paths: Sequence[str] = (),
) -> None:
  """Makes gin's configuration that of some files, in place of any before.

  Args:
    files: Gin files: from here, from a search path, or of those installed, with
      or without `gin/` in front.
    bindings: Lines like `NAME = VALUE` that override what the files say.
    search_paths: Folders in which files, and what they include, are looked for
      before those that are installed.

  Raises:
    ValueError: A file is not there, or a name in it or in a binding is not
      known; the message says which, and what may be meant.
  """
  import gin
  from gin import config as gin_config

  gin.clear_config()
  folders = ["", *search_paths, str(installed())]
  gin_config._LOCATION_PREFIXES[:] = folders  # Gin only ever adds to them.
  for name in files:
    with _parsing(folders):
      gin.parse_config_file(_find(name, folders))
  imports = _IMPORT.findall(gin.config_str())
  macros = _macros(gin.config_str())
  for binding in bindings:
    name, _, value = (part.strip() for part in binding.partition("="))
    if "." not in name and name not in macros:
      raise ValueError(
        f"No gin file knows {name} of --gin.{binding}{_suggest(name, macros)}."
      )
    with _parsing(folders, f"--gin.{binding}"):
      try:
        gin.parse_config([*imports, binding])
      except SyntaxError as error:
        raise ValueError(
          f"Expected a Python literal, with quotes around strings:"
          f" --gin.{name}='\"{value}\"'."
        ) from error
  with _parsing(folders):
    gin.finalize()


@contextlib.contextmanager
def explained() -> Iterator[None]:
  """Leaves out of errors, while what is configured runs, where gin called it.

  Raises:
    ValueError: What the library raised, as one line; or a parameter is wrong of
      a function that takes any keyword, whose names gin does not know.
  """
  try:
    yield
  except ValueError as error:
    raise ValueError(_without_calls(error)) from error
  except TypeError as error:
    wrong, call = (
      pattern.search(str(error)) for pattern in (_WRONG_ARGUMENT, _CALL)
    )
    if not wrong or not call:
      raise
    what = "needs a" if wrong[1].startswith("missing") else "takes no"
    raise ValueError(f"{call[1]} {what} parameter {wrong[2]!r}.") from error


@contextlib.contextmanager
def _parsing(
  folders: Sequence[str], binding: str | None = None
) -> Iterator[None]:
  """Turns gin's errors into ValueErrors of one line, with what may be meant.

  Args:
    folders: Where gin files are looked for.
    binding: Where the error is, if not in a file that gin names.
  """
  try:
    with _quiet():
      yield
  except (
    ValueError,
    AttributeError,
    NameError,
    ImportError,
    SyntaxError,
    OSError,
  ) as error:
    where = _WHERE.search(str(error))
    place = binding or (where and f"{where[1]}, line {where[2]}")
    said = _explain(error, folders)
    raise ValueError(f"{place}: {said}" if place else said) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Gin logs an error for each folder that a file is not in."""
  logger = logging.getLogger()
  logger.addFilter(_is_no_search)
  try:
    yield
  finally:
    logger.removeFilter(_is_no_search)


def _is_no_search(record: logging.LogRecord) -> bool:
  return not record.getMessage().startswith("Path not found: ")


def configures(function: Callable[..., Any]) -> bool:
  """Whether anything is bound to a function."""
  import gin

  try:
    return bool(gin.get_bindings(function, resolve_references=False))
  except ValueError:  # Gin has never heard of it.
    return False


def operative() -> str:
  """What has been used of the configuration so far, as a gin file."""
  import gin

  return gin.operative_config_str()


def _without_calls(error: Exception) -> str:
  return " ".join(_CALL.sub("", str(error)).split())


def _explain(error: Exception, folders: Sequence[str]) -> str:
  """What gin says, in one sentence with a suggestion where there is one."""
  text = str(error)
  if found := _UNKNOWN_FILE.search(text):
    return _no_file(found[1], folders)
  if found := _UNKNOWN_PARAMETER.search(text):
    names = _parameters(found[1])
    return f"{found[1]} has no parameter {found[2]}{_suggest(found[2], names)}."
  if found := _UNKNOWN_NAME.search(text):
    name = found[1].rpartition(".")[2]
    module = sys.modules.get(found[2])
    known = [key for key in dir(module) if not key.startswith("_")]
    return f"There is no {found[1]}{_suggest(name, known)}."
  if found := _UNKNOWN_SYMBOL.search(text):
    import gin

    known = [line.split()[-1] for line in _IMPORT.findall(gin.config_str())]
    return f"No gin file imports {found[1]}{_suggest(found[1], known)}."
  if "gin.REQUIRED" in text or text.startswith("No bindings specified"):
    if found := _REQUIRED.search(text):
      return _no_value(found[1], folders)
  return _without_calls(error)


def _no_value(macro: str, folders: Sequence[str]) -> str:
  binds = re.compile(rf"^{re.escape(macro)}\s*=(?!\s*%gin\.REQUIRED)", re.M)
  files = [
    name
    for name, path in sorted(_gin_files(folders).items())
    if binds.search(path.read_text("utf-8"))
  ]
  other = f", or add a --gin_file of {', '.join(files)}" if files else ""
  return f"{macro} has no value: give --gin.{macro}=VALUE{other}."


def _find(name: str, folders: Sequence[str]) -> str:
  """A gin file's path, for gin to open."""
  for candidate in (name, name.removeprefix("gin/")):
    for folder in folders:
      path = Path(folder, candidate)
      if path.is_file():
        return str(path.absolute())
  raise ValueError(_no_file(name, folders))


def _no_file(name: str, folders: Sequence[str]) -> str:
  known = _gin_files(folders)
  close = _suggest(name.removeprefix("gin/"), known)
  there = close or f"; there are {', '.join(sorted(known))}"
  return f"There is no gin file {name}{there}."


def _gin_files(folders: Sequence[str]) -> dict[str, Path]:
  """Gin files under some folders, by their paths from there."""
  return {
    path.relative_to(folder).as_posix(): path
    for folder in folders
    if folder
    for path in Path(folder).rglob("*.gin")
  }


def _parameters(configurable: str) -> list[str]:
  import gin

  function: Any = gin.get_configurable(configurable)
  if inspect.isclass(function):
    function = function.__mro__[1]  # What gin has made a class of its own of.
  return list(inspect.signature(function).parameters)


def _macros(text: str) -> set[str]:
  """Names that a configuration gives a value to, or asks one of."""
  return {name or reference for name, reference in _MACRO.findall(text)}


def _suggest(name: str, known: Iterable[str]) -> str:
  close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
  return f"; perhaps {close[0]} is meant" if close else ""
