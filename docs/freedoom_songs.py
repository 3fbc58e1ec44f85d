"""Takes the songs of Freedoom out of its WAD files, those for training alone.

  python docs/freedoom_songs.py songs                # Debian's package freedoom
  python docs/freedoom_songs.py songs --wads freedoom1.wad freedoom2.wad

Every fourth song by WAD and name is left out: some of these are among the
pieces of benchmarks/quality. Songs that come twice count once.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
import struct
import sys

_DEBIAN = Path("/usr/share/games/doom")
_HELD_OUT_EVERY = 4


def songs_of(wad: Path) -> Iterator[tuple[str, bytes]]:
  """The songs of a WAD file: lumps whose names begin with D_.

  Args:
    wad: A header of 12 bytes that says where the directory is, which has 16
      bytes for each lump: where it is, how long, and its name.

  Yields:
    The name without D_, and a MIDI file.

  Raises:
    ValueError: The file is no WAD, or it is cut short.
  """
  content = wad.read_bytes()
  if content[:4] not in (b"IWAD", b"PWAD") or len(content) < 12:
    raise ValueError(f"Expected a WAD file, got {wad}, which has no header.")
  count, directory = struct.unpack_from("<ii", content, 4)
  if directory + 16 * count > len(content):
    raise ValueError(
      f"Expected a directory of {count} lumps in {wad}, which ends before."
    )
  for index in range(count):
    start, size, raw = struct.unpack_from(
      "<ii8s", content, directory + 16 * index
    )
    name = raw.rstrip(b"\0").decode("ascii", "replace")
    if name.startswith("D_") and content[start : start + 4] == b"MThd":
      if start + size > len(content):
        raise ValueError(
          f"Expected {size} bytes of {name} in {wad}, which ends before."
        )
      yield name.removeprefix("D_"), content[start : start + size]


def for_training(wads: Sequence[Path]) -> dict[str, bytes]:
  """{file name: MIDI file} of the songs that are not held out."""
  found = {
    f"{wad.stem}-{name}.mid": song
    for wad in sorted(wads)
    for name, song in sorted(songs_of(wad))
  }
  once = {song: name for name, song in reversed(found.items())}
  kept = sorted(once.values())
  held_out = set(kept[::_HELD_OUT_EVERY])
  return {name: found[name] for name in kept if name not in held_out}


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("folder", type=Path, help="where the songs go")
  parser.add_argument(
    "--wads",
    type=Path,
    nargs="+",
    default=[_DEBIAN / f"freedoom{number}.wad" for number in (1, 2)],
  )
  arguments = parser.parse_args()
  try:
    songs = for_training(arguments.wads)
  except (OSError, ValueError) as error:
    sys.exit(str(error))
  arguments.folder.mkdir(parents=True, exist_ok=True)
  for name, song in songs.items():
    (arguments.folder / name).write_bytes(song)
  print(f"{len(songs)} songs in {arguments.folder}")


if __name__ == "__main__":
  main()
