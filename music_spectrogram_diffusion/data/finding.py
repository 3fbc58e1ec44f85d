"""Files of a kind in a folder, as a person would count them."""

from collections.abc import Sequence
from pathlib import Path


def find_files(
  directory: str | Path, suffixes: Sequence[str], kind: str
) -> list[Path]:
  """Lists files of a folder and its subfolders, in order, without hidden ones.

  Args:
    directory: The folder.
    suffixes: What their names end in, in lower case; theirs may be in any.
    kind: What messages call them, as "MIDI".

  Raises:
    ValueError: There is no such folder, or no such file in it.
  """
  directory = Path(directory)
  if not directory.is_dir():
    raise ValueError(
      f"Expected a folder of {kind} files, found no folder {directory}."
    )
  files = [
    path
    for path in sorted(directory.rglob("*"))
    if path.suffix.lower() in suffixes
    and not any(p.startswith(".") for p in path.relative_to(directory).parts)
    and path.is_file()
  ]
  if not files:
    raise ValueError(
      f"Expected {kind} files ({', '.join(suffixes)}) in {directory} or its"
      " subfolders; found none."
    )
  return files
