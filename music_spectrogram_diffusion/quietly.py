"""Imports of libraries that tell of themselves at length."""

from collections.abc import Iterator
import contextlib
import importlib
import os
import sys
import types


def import_tensorflow() -> types.ModuleType:
  """Imports TensorFlow and keeps its greetings on stderr back.

  They come from compiled code, and no setting stops all of them.

  Raises:
    ModuleNotFoundError: It is not installed.
  """
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  # It would take all of a GPU's memory.
  os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
  if module := sys.modules.get("tensorflow"):
    return module
  with _closed_stderr():
    tensorflow = importlib.import_module("tensorflow")
    # The search for GPUs, else the first operation's affair, speaks too.
    tensorflow.config.list_physical_devices("GPU")
  return tensorflow


@contextlib.contextmanager
def _closed_stderr() -> Iterator[None]:
  """Drops what the process writes to its file descriptor 2."""
  sys.stderr.flush()
  kept = os.dup(2)
  with open(os.devnull, "wb") as nothing:
    os.dup2(nothing.fileno(), 2)
  try:
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)
