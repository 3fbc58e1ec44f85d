"""The folder of a run: room in it, and who may write there."""

import errno
import pathlib
import shutil
from typing import IO, Any

import jax

from music_spectrogram_diffusion.training import checkpoint_contents as contents

try:
  import fcntl
except ImportError:  # On Windows.
  fcntl = None

LOCK = ".lock"
"""A file that the process that trains in a folder holds a lock of."""


def check_room(directory: pathlib.Path, state: Any) -> None:
  """Raises OSError where a state does not fit on the disk.

  It is written compressed, by about a twentieth; what is between is found when
  it is written.
  """
  needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
  if shutil.disk_usage(directory).free < 0.9 * needed:
    raise OSError(errno.ENOSPC, f"{needed / 1e6:.1f} MB are needed")


def reason_of_failure(error: Exception, directory: pathlib.Path) -> str:
  """One line of why a save failed; a full disk is named as such."""
  text = contents.in_one_line(error)
  if "No space left" in text or getattr(error, "errno", 0) == errno.ENOSPC:
    free_mb = shutil.disk_usage(directory).free / 1e6
    needed = f", {error.strerror}" if isinstance(error, OSError) else ""
    return f"no space left on the disk: {free_mb:.1f} MB are free{needed}"
  return text


def lock(directory: pathlib.Path) -> IO[str] | None:
  """Claims a directory until this process ends, however it ends.

  A lock of the kind that children of the process do not hold: they may outlive
  it when it is killed.

  Args:
    directory: The folder.

  Returns:
    What holds the lock until it is closed; None where that is for others to do.

  Raises:
    ValueError: Another process has claimed it.
  """
  if jax.process_index() > 0 or fcntl is None:
    return None
  file = (directory / LOCK).open("a")
  try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
    if error.errno in (errno.EACCES, errno.EAGAIN):
      file.close()
      raise ValueError(
        f"Expected no other process to train in {directory}; one does. Wait for"
        " it to end, or choose another directory."
      ) from error
    # A file system without locks has to do without.
  return file
