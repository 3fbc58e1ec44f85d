"""Where the program keeps what it can fetch or make again."""

import os
from pathlib import Path

CACHE_VARIABLE = "SPEC_DIFF_CACHE"


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
