"""MusicNet: chamber music, with labels aligned to recordings.

See docs/datasets.md for what to download. `Musicnet` takes the labels of the
dataset, which MT3 and the paper used; `MusicnetEm` those that Maman and Bermano
2022, https://arxiv.org/abs/2204.13668, aligned more closely.
"""

from collections.abc import Iterator
import csv
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

LABEL_RATE = 44100
"""The labels' times are samples at this rate, in Hz."""

# MT3's; all others are for training. They cut across the published folders.
VALIDATION_IDS = (1733, 1765, 1790, 1818, 2160, 2198, 2289, 2300)
VALIDATION_IDS += (2308, 2315, 2336, 2466, 2477, 2504, 2611)
TEST_IDS = (1729, 1776, 1813, 1893, 2118, 2186, 2296, 2431)
TEST_IDS += (2432, 2487, 2497, 2501, 2507, 2537, 2621)

_SPLITS = dict.fromkeys(map(str, VALIDATION_IDS), "validation")
_SPLITS |= dict.fromkeys(map(str, TEST_IDS), "test")

# Folders of the archive, which are no splits here.
_FOLDERS = ("train", "test")
_COLUMNS = ("start_time", "end_time", "note", "instrument")


def convert(song: Song, problems: Problems) -> Iterator[dict[str, Any]]:
  """The one example of a recording, with its csv or MIDI labels."""
  wav, labels = song.files
  audio = base.load_audio(wav, problems, song.name)
  if labels.suffix == ".csv":
    notes = read_labels(labels, problems, song.name)
  else:
    notes = base.load_midi(labels, problems, song.name)
  duration_s = len(audio) / base.SAMPLE_RATE
  notes = base.clean_notes(notes, duration_s, problems, song.name)
  base.check_tail(notes, duration_s, problems, song.name)
  yield base.make_example(song.name, audio, notes)


def read_labels(path: Path, problems: Problems, name: str) -> Notes:
  """Reads a csv of labels; its instruments count from 1.

  Raises:
    SongError: A column is missing, or the file is no text.
  """
  try:
    with path.open(encoding="utf-8", newline="") as file:
      rows = csv.DictReader(file)
      missing = set(_COLUMNS) - set(rows.fieldnames or ())
      if missing:
        raise SongError(
          base.rules.UNREADABLE_NOTES,
          f"{path} has no column {', '.join(sorted(missing))}",
        )
      table = [[_number(row[column]) for column in _COLUMNS] for row in rows]
  except (UnicodeDecodeError, csv.Error) as error:
    raise SongError(base.rules.UNREADABLE_NOTES, f"{path}: {error}") from error
  start, end, pitch, instrument = np.array(table).reshape(-1, len(_COLUMNS)).T
  return base.make_notes(
    start / LABEL_RATE,
    end / LABEL_RATE,
    pitch,
    base.DEFAULT_VELOCITY,
    instrument - 1,
    problems=problems,
    name=name,
  )


class Musicnet(base.SongBuilder):
  """The dataset as published: a wav and a csv of labels a recording."""

  VERSION = tfds.core.Version("1.0.0")
  DESCRIPTION = "Recordings of chamber music with aligned notes, 34 hours."
  HOMEPAGE = "https://zenodo.org/records/5120004"
  LICENSE = "CC BY 4.0; each recording is free under terms of its own"
  NUM_SONGS = 330
  MANUAL_DOWNLOAD_INSTRUCTIONS = """
  Download musicnet.tar.gz from https://zenodo.org/records/5120004 and unpack
  it.
  """

  convert = staticmethod(convert)

  def find_songs(self, manual_dir: Path, problems: Problems) -> list[Song]:
    """Lists recordings that have audio, labels or both, by their ids."""
    root = base.find_root(
      manual_dir, [f"{folder}_data" for folder in _FOLDERS], "MusicNet"
    )
    labels = self.find_labels(manual_dir, root)
    wavs = {
      path.stem: path
      for folder in _FOLDERS
      for path in sorted(root.glob(f"{folder}_data/*.wav"))
    }
    songs = []
    for id in sorted(wavs.keys() | labels.keys()):
      wav = wavs.get(id, root / f"train_data/{id}.wav")
      files = wav, labels.get(id, self.expected_label(wav))
      songs.append(Song(id, _SPLITS.get(id, "train"), files))
    return songs

  def find_labels(self, manual_dir: Path, root: Path) -> dict[str, Path]:
    """The file of labels of each id."""
    del manual_dir
    return {
      path.stem: path
      for folder in _FOLDERS
      for path in sorted(root.glob(f"{folder}_labels/*.csv"))
    }

  def expected_label(self, wav: Path) -> Path:
    """Where the labels of a recording were looked for."""
    folder = wav.parent.name.replace("_data", "_labels")
    return wav.parents[1] / folder / f"{wav.stem}.csv"


class MusicnetEm(Musicnet):
  """MusicNet's recordings with the labels of MusicNetEM: MIDI files.

  Seven recordings have none and are left out.
  """

  VERSION = tfds.core.Version("1.0.0")
  DESCRIPTION = "MusicNet with the labels of MusicNetEM."
  HOMEPAGE = "https://github.com/benadar293/benadar293.github.io"
  LICENSE = "CC BY-NC-SA 4.0 (labels); the recordings as MusicNet"
  MANUAL_DOWNLOAD_INSTRUCTIONS = """
  Unpack musicnet.tar.gz of https://zenodo.org/records/5120004, and beside it
  musicnet_em.zip of https://github.com/benadar293/benadar293.github.io.
  """

  def find_labels(self, manual_dir: Path, root: Path) -> dict[str, Path]:
    """The MIDI file of each id."""
    em = base.find_root(manual_dir, ["musicnet_em/*.mid"], "MusicNetEM")
    return {path.stem: path for path in em.glob("musicnet_em/*.mid")}

  def expected_label(self, wav: Path) -> Path:
    """Where the labels of a recording were looked for."""
    return Path("musicnet_em") / f"{wav.stem}.mid"


def _number(text: str | None) -> float:
  """The number in a field; NaN, which is dropped later, where there is none."""
  try:
    return float(text or "nan")
  except ValueError:
    return float("nan")
