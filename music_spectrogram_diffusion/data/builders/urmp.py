"""URMP: chamber pieces whose parts were recorded one by one.

See docs/datasets.md for what to download.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from music_spectrogram_diffusion.data.builders import base
from music_spectrogram_diffusion.data.builders.base import (
  Problems,
  Song,
  SongError,
)
from music_spectrogram_diffusion.notes import Notes

PROGRAMS = {
  "vn": 40,
  "va": 41,
  "vc": 42,
  "db": 43,
  "tpt": 56,
  "tbn": 57,
  "tba": 58,
  "hn": 60,
  "sax": 64,
  "ob": 68,
  "bn": 70,
  "cl": 71,
  "fl": 73,
}
"""MIDI program of each instrument code in the names of folders and files."""

VALIDATION_PIECES = ("01", "02", "12", "13", "24", "25", "31", "38", "39")
"""MT3's; all others are for training, and there is no test split."""

CODES_DIFFER = base.Rule(
  "codes_differ",
  "songs kept",
  "a part's file has another instrument code than the folder, whose is taken",
)

_PIECES = "[0-9][0-9]_*"
_A4_PITCH = 69
_A4_HZ = 440.0


def convert(song: Song, problems: Problems) -> Iterator[dict[str, Any]]:
  """The one example of a piece: the mix, and the notes of all parts."""
  wav, *parts = song.files
  audio = base.load_audio(wav, problems, song.name)
  notes = Notes.concatenate(
    [
      read_part(path, PROGRAMS[code], problems, song.name)
      for path, code in zip(parts, song.details, strict=True)
    ]
  )
  duration_s = len(audio) / base.SAMPLE_RATE
  notes = base.clean_notes(notes, duration_s, problems, song.name)
  base.check_tail(notes, duration_s, problems, song.name)
  yield base.make_example(song.name, audio, notes)


def read_part(path: Path, program: int, problems: Problems, name: str) -> Notes:
  """Reads a part's notes: lines of onset in s, frequency in Hz, length in s.

  A frequency is that of the note as played; its pitch is the nearest one.

  Raises:
    SongError: A line has not three numbers.
  """
  rows = []
  text = path.read_text(encoding="utf-8", errors="replace")
  for number, line in enumerate(text.splitlines(), 1):
    if not line.strip():
      continue
    try:
      onset, frequency_hz, length = map(float, line.split())
    except ValueError as error:
      raise SongError(
        base.rules.UNREADABLE_NOTES,
        f"{path}, line {number}: expected onset, frequency and length, got"
        f" {line.strip()!r}",
      ) from error
    rows.append((onset, frequency_hz, length))
  onset, frequency_hz, length = np.array(rows).reshape(-1, 3).T
  with np.errstate(divide="ignore", invalid="ignore"):
    pitch = _A4_PITCH + 12 * np.log2(frequency_hz / _A4_HZ)
  return base.make_notes(
    onset,
    onset + length,
    np.rint(pitch),
    base.DEFAULT_VELOCITY,
    program,
    problems=problems,
    name=name,
  )


class Urmp(base.SongBuilder):
  """The dataset as published: a folder a piece, with its mix and its parts."""

  VERSION = tfds.core.Version("1.0.0")
  DESCRIPTION = "Chamber pieces mixed of parts with aligned notes, 1.3 hours."
  HOMEPAGE = "https://labsites.rochester.edu/air/projects/URMP.html"
  LICENSE = "CC0 1.0"
  NUM_SONGS = 44
  MANUAL_DOWNLOAD_INSTRUCTIONS = """
  Download Dataset.tar.gz from https://doi.org/10.5061/dryad.ng3r749 and unpack
  it.
  """

  convert = staticmethod(convert)

  def find_songs(self, manual_dir: Path, problems: Problems) -> list[Song]:
    """Lists the pieces' folders; their names tell number, title and parts."""
    root = base.find_root(manual_dir, [f"{_PIECES}/AuMix_*.wav"], "URMP")
    songs = []
    for folder in sorted(root.glob(_PIECES)):
      number, title, *codes = folder.name.split("_")
      unknown = set(codes) - PROGRAMS.keys()
      if unknown or not codes:
        problems.add(
          base.rules.UNKNOWN_INSTRUMENT,
          f"{folder.name}: {', '.join(sorted(unknown)) or 'none'}",
        )
        continue
      parts = []
      for part, code in enumerate(codes, 1):
        path = folder / f"Notes_{part}_{code}_{number}_{title}.txt"
        others = sorted(folder.glob(f"Notes_{part}_*_{number}_{title}.txt"))
        # So it is with the trombone of piece 15 as published: by its range it
        # is one, but its files call it a trumpet.
        if not path.is_file() and len(others) == 1:
          problems.add(CODES_DIFFER, f"{folder.name}: {others[0].name}")
          path = others[0]
        parts.append(path)
      split = "validation" if number in VALIDATION_PIECES else "train"
      files = folder / f"AuMix_{folder.name}.wav", *parts
      songs.append(Song(folder.name, split, files, tuple(codes)))
    return songs
