"""Files of a kind in a folder, as a person would count them."""

from collections.abc import Sequence
from pathlib import Path

from music_spectrogram_diffusion.data.builders.problems import Problems, Rule

BAD_NAME = Rule("bad_name", "files left out", "their names are not UTF-8")


def find_files(
  directory: str | Path,
  suffixes: Sequence[str],
  kind: str,
  problems: Problems,
) -> list[Path]:
  """Lists files of a folder and its subfolders, in order, without hidden ones.

  Args:
    directory: The folder.
    suffixes: What their names end in, in lower case; theirs may be in any.
    kind: What messages call them, as "MIDI".
    problems: Counts files that no song can be called after.

  Raises:
    ValueError: There is no such folder, or no such file in it.
  """
  directory = Path(directory)
  if not directory.is_dir():
    raise ValueError(
      f"Expected a folder of {kind} files, found no folder {directory}."
    )
  files = []
  for path in sorted(directory.rglob("*")):
    below = path.relative_to(directory)
    hidden = any(part.startswith(".") for part in below.parts)
    if hidden or path.suffix.lower() not in suffixes or not path.is_file():
      continue
    try:
      str(below).encode()
    except UnicodeEncodeError:
      problems.add(BAD_NAME, repr(str(below)))
    else:
      files.append(path)
  if not files:
    raise ValueError(
      f"Expected {kind} files ({', '.join(suffixes)}) in {directory} or its"
      " subfolders; found none."
    )
  return files
