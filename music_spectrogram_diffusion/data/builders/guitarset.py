"""GuitarSet: acoustic guitar, annotated string by string.

Xi et al. 2018, https://guitarset.weebly.com. Annotations are JAMS files, which
are JSON: https://jams.readthedocs.io.
"""

from collections.abc import Iterator, Mapping, Sequence
import json
from pathlib import Path
import re
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from music_spectrogram_diffusion.data.builders import base
from music_spectrogram_diffusion.notes import Notes

PROGRAM = 24  # Acoustic Guitar.
NUM_EXCERPTS = 360

# Player, style, progression, tempo, key and version: 00_BN1-129-Eb_comp.
_EXCERPT = re.compile(r"\d+_[A-Za-z]+([123])-\d+-[A-G][b#]?_(comp|solo)")
_SPLITS = {"1": "train", "2": "train", "3": "validation"}
_NAMESPACES = ("note_midi", "pitch_midi")

# Late by 0.41 and 0.31 s: https://github.com/marl/GuitarSet/issues/5. Gardner
# et al. 2022 count one excerpt less in either split, too.
LATE_EXCERPTS = ("04_BN3-154-E_comp", "04_Jazz1-200-B_comp")

LATE = base.Rule(
  "late_annotation", "songs dropped", "their annotation is known to be late"
)
NO_ANNOTATION = base.Rule(
  "no_annotation", "songs dropped", "a recording has no annotation"
)


def read_jams(path: Path, problems: base.Problems, name: str) -> Notes:
  """Reads the notes of all strings from a JAMS file.

  Pitches, which are measured, are rounded to whole ones. Rows of an annotation
  may be a list of observations or columns of equal lengths.

  Raises:
    SongError: The file cannot be read, or has no annotation of notes.
  """
  try:
    annotations = json.loads(path.read_text(encoding="utf-8"))["annotations"]
    strings = [
      _columns(annotation["data"])
      for annotation in annotations
      if annotation["namespace"] in _NAMESPACES
    ]
    if not strings:
      raise ValueError(f"no annotation of namespace {_NAMESPACES[0]}")
    time, duration, value = np.concatenate(strings, axis=1)
  except (OSError, ValueError, LookupError, TypeError) as error:
    raise base.SongError(
      base.rules.UNREADABLE_NOTES, f"{path} is no JAMS file with notes: {error}"
    ) from error
  return base.make_notes(
    time,
    time + duration,
    np.rint(value),
    base.DEFAULT_VELOCITY,
    PROGRAM,
    problems=problems,
    name=name,
  )


def _columns(data: Sequence[Mapping[str, Any]] | Mapping[str, Sequence]):
  """Time, duration and value of observations: float64 [3, notes]."""
  names = ("time", "duration", "value")
  if isinstance(data, Mapping):
    columns = [data[name] for name in names]
  else:
    columns = [[row[name] for row in data] for name in names]
  return np.array(columns, np.float64).reshape(3, -1)


def convert(
  song: base.Song, problems: base.Problems
) -> Iterator[dict[str, Any]]:
  """Yields the example of a recording."""
  jams_path, audio_path = song.files
  samples = base.load_audio(audio_path, problems, song.name)
  notes = read_jams(jams_path, problems, song.name)
  duration_s = len(samples) / base.SAMPLE_RATE
  notes = base.clean_notes(notes, duration_s, problems, song.name)
  yield base.make_example(song.name, samples, notes)


class GuitarSet(base.SongBuilder):
  """GuitarSet by the microphone: 239 excerpts for training and 119.

  Attributes:
    RECORDINGS: Folder of each recording of an excerpt, and what its file's name
      ends with.
  """

  name = "guitarset"  # Not guitar_set.
  RECORDINGS: Mapping[str, str] = {"audio_mono-mic": "mic"}
  VERSION = tfds.core.Version("1.0.0")
  NUM_SONGS = NUM_EXCERPTS - len(LATE_EXCERPTS)
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    "Unpack from https://zenodo.org/records/3371780 annotation.zip into"
    " annotation/ in this folder, audio_mono-mic.zip into audio_mono-mic/, and"
    " for guitarset_pickup audio_mono-pickup_mix.zip into"
    " audio_mono-pickup_mix/."
  )
  DESCRIPTION = "GuitarSet: excerpts of 30 s, played on an acoustic guitar."
  HOMEPAGE = "https://guitarset.weebly.com"
  LICENSE = "Creative Commons Attribution 4.0 International"

  convert = staticmethod(convert)

  def find_songs(
    self, manual_dir: Path, problems: base.Problems
  ) -> Sequence[base.Song]:
    """The recordings of all excerpts; the third progression validates."""
    patterns = [
      "annotation/*.jams",
      *(f"{folder}/*" for folder in self.RECORDINGS),
    ]
    root = base.find_root(manual_dir, patterns, "GuitarSet")
    annotations = sorted(root.glob("annotation/*.jams"))
    excerpts = {path.stem: path for path in annotations}
    songs = []
    for folder, ending in self.RECORDINGS.items():
      for name, path in excerpts.items():
        audio_path = root / folder / f"{name}_{ending}.wav"
        songs += _find_song(name, (path, audio_path), problems)
      for audio_path in sorted((root / folder).glob("*.wav")):
        if audio_path.stem.removesuffix(f"_{ending}") not in excerpts:
          problems.add(NO_ANNOTATION, audio_path.name)
    return songs


class GuitarSetPickup(GuitarSet):
  """By microphone and pickup: 478 recordings for training and 238, as MT3."""

  name = "guitarset_pickup"
  RECORDINGS = GuitarSet.RECORDINGS | {"audio_mono-pickup_mix": "mix"}
  VERSION = tfds.core.Version("1.0.0")
  NUM_SONGS = 2 * GuitarSet.NUM_SONGS


def _find_song(
  excerpt: str, files: tuple[Path, Path], problems: base.Problems
) -> list[base.Song]:
  """The recording of an excerpt; none, and a problem, if it is left out."""
  match = _EXCERPT.fullmatch(excerpt)
  if excerpt in LATE_EXCERPTS:
    problems.add(LATE, excerpt)
  elif not match:
    problems.add(base.rules.NO_SPLIT, excerpt)
  else:
    return [base.Song(files[1].stem, _SPLITS[match[1]], files)]
  return []
