"""Reads the values that a gin file binds, and runs nothing.

No import or include is followed and no configurable is called: the file of a
downloaded checkpoint may name anything.
"""

import ast
from collections.abc import Iterator
import io
from pathlib import Path
import tokenize
from typing import Any

from music_spectrogram_diffusion.checkpoints import directory

_LAYOUT = (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING)


class Reference(str):
  """What is no literal: a macro `%NAME`, or a configurable `@name`."""


class Bindings:
  """The bindings of a gin file, found by the end of their names.

  A parameter is named by its configurable without the modules in front,
  `Config.emb_dim`, with or without the scope, `train/Config.emb_dim`; a macro
  by its name.
  """

  def __init__(self, path: Path):
    """Reads the file at `path`.

    Raises:
      CheckpointError: It is missing, or not written in gin's syntax.
    """
    self._values: dict[str, Any] = {}
    try:
      text = path.read_text(encoding="utf-8")
      for scope, name, value in _statements(text):
        self._values[scope + name] = value
    except (OSError, ValueError, SyntaxError, tokenize.TokenError) as error:
      raise directory.CheckpointError(f"Cannot read {path}: {error}") from error

  def get(self, name: str, default: Any = None) -> Any:
    """The value bound to a parameter or a macro, itself looked up if a macro.

    Args:
      name: The parameter; one bound without a scope is found in every scope.
      default: What there is where nothing is bound.

    Returns:
      A literal, or a `Reference` to what is not in the file.
    """
    missing = object()
    value = self._values.get(name, missing)
    if value is missing:
      value = self._values.get(name.rpartition("/")[2], default)
    followed = set()
    while (
      isinstance(value, Reference)
      and value[1:] in self._values
      and value not in followed
    ):
      followed.add(value)
      value = self._values[value[1:]]
    return value

  def scopes(self, name: str) -> list[str]:
    """The full names under which a parameter is bound, with their scopes."""
    return [key for key in self._values if key.rpartition("/")[2] == name]


def _statements(text: str) -> Iterator[tuple[str, str, Any]]:
  """Yields the scope, the name and the value of each binding.

  Those of a block, `Config:` and indented lines, are named by its head.
  """
  head, words = "", []
  for token in tokenize.generate_tokens(io.StringIO(text).readline):
    if token.type == tokenize.DEDENT:
      head = ""
    elif token.type == tokenize.NEWLINE:
      if "=" in words:
        middle = words.index("=")
        path = head + "".join(words[:middle])
        scope, slash, dotted = path.rpartition("/")
        name = ".".join(dotted.split(".")[-2:])
        yield scope + slash, name, _value(words[middle + 1 :])
      elif words and words[-1] == ":":
        head = "".join(words[:-1]) + "."
      words = []
    elif token.type != tokenize.INDENT and token.type not in _LAYOUT:
      words.append(token.string)


def _value(words: list[str]) -> Any:
  try:
    return ast.literal_eval(" ".join(words))
  except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
    return Reference("".join(words))
