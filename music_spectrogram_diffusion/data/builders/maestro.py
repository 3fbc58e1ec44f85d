"""MAESTRO v3: piano competitions, recorded with the keys that were struck.

See docs/datasets.md for what to download.
"""

from collections.abc import Iterator
import csv
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from music_spectrogram_diffusion.data.builders import base
from music_spectrogram_diffusion.data.builders.base import Problems, Song

_LIST = "maestro-v3*.csv"
_COLUMNS = ("split", "midi_filename", "audio_filename")
_SPLITS = ("train", "validation", "test")


def convert(song: Song, problems: Problems) -> Iterator[dict[str, Any]]:
  """The one example of a performance; the pedal is in its notes."""
  wav, midi = song.files
  audio = base.load_audio(wav, problems, song.name)
  notes = base.load_midi(midi, problems, song.name)
  duration_s = len(audio) / base.SAMPLE_RATE
  notes = base.clean_notes(notes, duration_s, problems, song.name)
  base.check_tail(notes, duration_s, problems, song.name)
  yield base.make_example(song.name, audio, notes)


class Maestro(base.SongBuilder):
  """The dataset as published: a csv that lists a wav and a midi a song."""

  VERSION = tfds.core.Version("3.0.0")
  DESCRIPTION = "Piano performances with aligned MIDI, about 199 hours."
  HOMEPAGE = "https://magenta.tensorflow.org/datasets/maestro"
  LICENSE = "CC BY-NC-SA 4.0"
  NUM_SONGS = 1276
  MANUAL_DOWNLOAD_INSTRUCTIONS = """
  Download maestro-v3.0.0.zip (not the one with midi in its name) from
  https://magenta.tensorflow.org/datasets/maestro#v300 and unpack it.
  """

  convert = staticmethod(convert)

  def find_songs(self, manual_dir: Path, problems: Problems) -> list[Song]:
    """Lists the rows of the csv; its `split` is MT3's, too."""
    root = base.find_root(manual_dir, [_LIST], "MAESTRO v3")
    path = sorted(root.glob(_LIST))[0]
    songs = []
    with path.open(encoding="utf-8", newline="") as file:
      rows = csv.DictReader(file)
      missing = set(_COLUMNS) - set(rows.fieldnames or ())
      if missing:
        raise ValueError(
          f"Expected columns {', '.join(_COLUMNS)} in {path}; found no"
          f" {', '.join(sorted(missing))}."
        )
      for row in rows:
        name = str(Path(row["audio_filename"]).with_suffix(""))
        if row["split"] not in _SPLITS:
          problems.add(base.rules.NO_SPLIT, f"{name}: {row['split']!r}")
          continue
        files = root / row["audio_filename"], root / row["midi_filename"]
        songs.append(Song(name, row["split"], files))
    return songs
