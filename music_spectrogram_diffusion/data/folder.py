"""Anyone's own recordings: a folder of audio and one of MIDI files.

Files are paired by name, and a pair is looked at before it is believed: does
the audio play these notes, at these times?
"""

from collections.abc import Iterator, Mapping, Sequence
import csv
import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any
import unicodedata

from etils import epath
import numpy as np
import tensorflow_datasets as tfds

from music_spectrogram_diffusion.audio import SpectrogramConfig
from music_spectrogram_diffusion.data import alignment
from music_spectrogram_diffusion.data.builders import base
from music_spectrogram_diffusion.data.builders.base import (
  Problems,
  Rule,
  Song,
  SongError,
)
from music_spectrogram_diffusion.data.builders.converting import Converted
from music_spectrogram_diffusion.data.finding import find_files
from music_spectrogram_diffusion.data.fit_rules import FitRules
from music_spectrogram_diffusion.notes import MIDI_SUFFIXES

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")

PAIRS = "pairs.csv"
"""Name of the table of all pairs that lies beside prepared data."""

TRAIN, VALIDATION = "train", "validation"

NO_MIDI = Rule(
  "no_midi", "audio files left out", "there is no MIDI file of their name"
)
NO_AUDIO = Rule(
  "no_audio", "MIDI files left out", "there is no audio file of their name"
)
AMBIGUOUS = Rule(
  "ambiguous", "names left out", "several files may be meant by them"
)
KEPT_ANYWAY = Rule("kept_anyway", "songs kept", "they do not fit, as asked for")
EMPTY_SPLIT = Rule("empty_split", "splits empty", "no song's name falls to it")
RULES = (EMPTY_SPLIT, NO_MIDI, NO_AUDIO, AMBIGUOUS, KEPT_ANYWAY)

_FITS, _UNREADABLE = "fits", "unreadable"


@dataclasses.dataclass(frozen=True)
class _PairDetails:
  """What converting a pair depends on; see `converting.Song`."""

  fit: FitRules
  rows: Path


def find_pairs(
  audio_dir: str | Path, midi_dir: str | Path, problems: Problems
) -> dict[str, tuple[Path, Path]]:
  """Pairs the audio and MIDI files of two folders, which may be one.

  Files belong together when their paths below the folders are equal but for
  the suffix; of the rest, when their names are, in whatever subfolders. Case
  and the way accents are encoded make no difference. Hidden files are passed
  over.

  Args:
    audio_dir: Searched with its subfolders, for `AUDIO_SUFFIXES`.
    midi_dir: Searched with its subfolders, for `notes.MIDI_SUFFIXES`.
    problems: Counts files that no pair is made of.

  Returns:
    Audio and MIDI file by the song's name: the audio file's path below its
    folder, without suffix, with slashes.

  Raises:
    ValueError: A folder is missing, or holds no such file.
  """
  audio_dir = Path(audio_dir)
  audio = _files_by_key(audio_dir, AUDIO_SUFFIXES, "audio", problems)
  midi = _files_by_key(Path(midi_dir), MIDI_SUFFIXES, "MIDI", problems)
  pairs = _pair(audio, midi, problems)
  audio, midi = _by_file_name(audio), _by_file_name(midi)
  pairs += _pair(audio, midi, problems)
  for left, rule in ((audio, NO_MIDI), (midi, NO_AUDIO)):
    for path in (path for paths in left.values() for path in paths):
      problems.add(rule, str(path))
  named = {
    pair[0].relative_to(audio_dir).with_suffix("").as_posix(): pair
    for pair in pairs
  }
  return dict(sorted(named.items()))


def _files_by_key(
  directory: Path, suffixes: Sequence[str], kind: str, problems: Problems
) -> dict[str, list[Path]]:
  """Files by what their paths have in common with those of their partners."""
  files = {}
  for path in find_files(directory, suffixes, kind, problems):
    key = path.relative_to(directory).with_suffix("").as_posix()
    key = unicodedata.normalize("NFC", key).casefold()
    files.setdefault(key, []).append(path)
  return files


def _by_file_name(files: Mapping[str, list[Path]]) -> dict[str, list[Path]]:
  """The same files, by their keys without folders."""
  named = {}
  for key, paths in files.items():
    named.setdefault(key.rsplit("/", 1)[-1], []).extend(paths)
  return named


def _pair(
  audio: dict[str, list[Path]],
  midi: dict[str, list[Path]],
  problems: Problems,
) -> list[tuple[Path, Path]]:
  """Takes the keys that both have out of them; returns what is one to one."""
  pairs = []
  for key in sorted(audio.keys() & midi.keys()):
    found = audio.pop(key), midi.pop(key)
    if all(len(paths) == 1 for paths in found):
      pairs.append((found[0][0], found[1][0]))
    else:
      files = ", ".join(str(path) for paths in found for path in paths)
      problems.add(AMBIGUOUS, f"{key}: {files}")
  return pairs


def split_of(name: str, validation_share: float) -> str:
  """The split of a song: a matter of its name, whatever other songs there are.

  Args:
    name: The song.
    validation_share: Share of the names that go to validation.
  """
  return VALIDATION if _position(name) < validation_share else TRAIN


def check_splits(
  songs: Sequence[Song], validation_share: float, problems: Problems
) -> None:
  """Counts a split to which no song has come, and says what would help."""
  splits = {song.split for song in songs}
  if validation_share and VALIDATION not in splits:
    # Rounded up to two digits, so that the song of the least name is in.
    share = math.floor(100 * min(_position(song.name) for song in songs)) + 1
    problems.add(
      EMPTY_SPLIT, f"{VALIDATION}: --validation {share / 100:.2f} fills it"
    )


def _position(name: str) -> float:
  """A number from 0 to 1 that is drawn by a name."""
  digest = hashlib.sha256(name.encode()).digest()
  return int.from_bytes(digest[:8], "big") / 2**64


class Folder(base.SongBuilder):
  """A folder of audio files, and one of MIDI files of the same names.

  The audio's folder is TFDS's `manual_dir`. `pairs.csv` beside the data tells
  of each pair how audio and notes lie to each other, and whether it was used.

  Attributes:
    midi_dir: The MIDI files; needed to prepare.
    fit: Which pairs are believed.
    validation_share: Share of the songs for validation.
  """

  VERSION = tfds.core.Version("1.0.0")
  MANUAL_DOWNLOAD_INSTRUCTIONS = f"Audio files ({', '.join(AUDIO_SUFFIXES)})."
  DESCRIPTION = "Recordings and MIDI files of one's own."

  def __init__(
    self,
    *,
    midi_dir: str | Path | None = None,
    fit: FitRules | None = None,
    validation_share: float = 0.1,
    **kwargs: Any,
  ):
    super().__init__(**kwargs)
    self.midi_dir = midi_dir
    self.fit = fit or FitRules()
    self.validation_share = validation_share

  def find_songs(self, manual_dir: Path, problems: Problems) -> Sequence[Song]:
    """Pairs the files; see `find_pairs`."""
    if self.midi_dir is None:
      raise ValueError("Expected a folder of MIDI files, midi_dir; got none.")
    pairs = find_pairs(manual_dir, self.midi_dir, problems)
    if not pairs:
      found = "; ".join(problems.lines())
      raise ValueError(
        f"Expected audio files in {manual_dir} and MIDI files of the same names"
        f" in {self.midi_dir}; found no pair: {found}."
      )
    rows = self._work_dir() / "pairs"
    rows.mkdir(parents=True, exist_ok=True)
    self._songs = [
      Song(
        name,
        split_of(name, self.validation_share),
        files,
        _PairDetails(self.fit, rows),
      )
      for name, files in pairs.items()
    ]
    check_splits(self._songs, self.validation_share, problems)
    return self._songs

  @staticmethod
  def convert(song: Song, problems: Problems) -> Iterator[dict[str, Any]]:
    """Makes the example of a pair that fits, and writes its row."""
    fit = song.details.fit
    found = broken = None
    try:
      samples = base.load_audio(song.files[0], problems, song.name)
      notes = base.load_midi(song.files[1], problems, song.name)
      if not len(notes):
        raise SongError(base.rules.NO_NOTES, f"{song.files[1]} has no notes")
      found = alignment.measure_alignment(
        samples, notes, config=SpectrogramConfig()
      )
      broken = fit.broken_by(found, samples, notes)
      duration_s = len(samples) / base.SAMPLE_RATE
      if broken and not fit.keep:
        raise SongError(broken[0], f"{song.files[0]}: {broken[1]}")
      if broken:
        problems.add(KEPT_ANYWAY, f"{song.name} ({broken[0].name} {broken[1]})")
        inside = notes.onset < duration_s
        late = np.count_nonzero(~inside)
        problems.add(base.rules.NOTE_AFTER_END, song.name, late)
        notes = notes[inside]
      notes = base.clean_notes(notes, duration_s, problems, song.name)
    except SongError as error:
      _write_row(song, found, error.rule.name)
      raise
    _write_row(song, found, broken[0].name if broken else _FITS)
    yield base.make_example(song.name, samples, notes)

  def _write_report(self, converted: Converted) -> None:
    """Writes the table of pairs beside the report."""
    super()._write_report(converted)
    path = epath.Path(self.data_dir) / PAIRS
    with path.open("w") as file:
      table = csv.DictWriter(file, ["name", "split", *_ROW_FIELDS])
      table.writeheader()
      for song in self._songs:
        row = {"name": song.name, "split": song.split}
        table.writerow(row | _read_row(song))


_ROW_FIELDS = ("verdict", "score", "lag_s", "drift_s", "audio", "midi")


def _row_path(song: Song) -> Path:
  digest = hashlib.sha256(song.name.encode()).hexdigest()
  return song.details.rows / f"{digest}.json"


def _write_row(
  song: Song, found: alignment.Alignment | None, verdict: str
) -> None:
  """Keeps what was found of a pair, for the table."""
  row = {"verdict": verdict}
  if found is not None:
    row |= {
      "score": f"{found.score:.3f}",
      "lag_s": f"{found.lag_s:+.3f}",
      "drift_s": f"{found.drift_s:+.3f}",
    }
  _row_path(song).write_text(json.dumps(row), encoding="utf-8")


def _read_row(song: Song) -> dict[str, str]:
  """A pair's row; where its files could not be read at all, a short one."""
  row = {"audio": str(song.files[0]), "midi": str(song.files[1])}
  try:
    return row | json.loads(_row_path(song).read_text(encoding="utf-8"))
  except OSError:
    return row | {"verdict": _UNREADABLE}
