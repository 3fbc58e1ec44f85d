"""Where the program keeps what it can fetch or make again."""

import contextlib
import os
from pathlib import Path

CACHE_VARIABLE = "SPEC_DIFF_CACHE"

# Programs take JAX a few milliseconds to read. Those that are compiled faster
# are not worth a file; by default, JAX keeps none that takes less than 1 s.
_SHORTEST_COMPILATION_S = 0.02


def cache_directory() -> Path:
  """`$SPEC_DIFF_CACHE`, or a folder among the user's caches.

  The latter lies where the XDG Base Directory Specification says. It need not
  exist.
  """
  if given := os.environ.get(CACHE_VARIABLE):
    return Path(given).expanduser().absolute()
  caches = os.environ.get("XDG_CACHE_HOME", "")
  # By that specification, a relative path counts as none.
  parent = Path(caches) if os.path.isabs(caches) else Path.home() / ".cache"
  return parent / "music-spectrogram-diffusion"


def keep_compiled_programs() -> None:
  """Has JAX keep what it compiles in the cache directory, if that can be.

  Call it before JAX is imported. What the user has chosen stays.
  """
  with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: no home.
    path = cache_directory() / "compiled"
    there = next(part for part in (path, *path.parents) if part.exists())
    if there.is_dir() and os.access(there, os.W_OK):
      os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(path))
      os.environ.setdefault(
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
        str(_SHORTEST_COMPILATION_S),
      )
