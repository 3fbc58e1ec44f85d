"""Anyone's own recordings: a folder of audio and one of MIDI files.

Files are paired by name, and a pair is looked at before it is believed: does
the audio play these notes, at these times?
"""

from collections.abc import Iterator, Mapping, Sequence
import csv
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any
import unicodedata

from etils import epath
from jaxtyping import Float32
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
from music_spectrogram_diffusion.data.builders.loading import (
  MAX_NOTES_AFTER_END,
)
from music_spectrogram_diffusion.notes import MIDI_SUFFIXES, Notes

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
UNRELATED = Rule(
  "unrelated", "songs dropped", "the audio does not play the notes"
)
SHIFTED = Rule(
  "shifted", "songs dropped", "the audio comes before or after its notes"
)
DRIFTING = Rule(
  "drifting", "songs dropped", "audio and notes run at different speeds"
)
LONGER_AUDIO = Rule(
  "longer_audio", "songs dropped", "the audio goes on after the last note"
)
KEPT_ANYWAY = Rule("kept_anyway", "songs kept", "they do not fit, as asked for")
RULES = (
  NO_MIDI,
  NO_AUDIO,
  AMBIGUOUS,
  UNRELATED,
  SHIFTED,
  DRIFTING,
  LONGER_AUDIO,
  KEPT_ANYWAY,
)

_QUIET = 0.03  # Of the peak, -30 dB: what follows a piece's end is softer.
_FITS, _UNREADABLE = "fits", "unreadable"


@dataclasses.dataclass(frozen=True)
class FitRules:
  """When a recording and its notes are believed to belong together.

  Attributes:
    min_score: Least `score` of an `alignment.Alignment`.
    max_lag_s: Most seconds by which the audio may come early or late.
    max_drift_s: Most seconds by which its halves may differ in that.
    max_extra_s: Most seconds for which loud audio may follow the last note.
    keep: Whether pairs that do not fit are kept, and only counted.
  """

  min_score: float = 0.04
  max_lag_s: float = 0.1
  max_drift_s: float = 0.1
  max_extra_s: float = 10.0
  keep: bool = False

  def broken_by(
    self,
    found: alignment.Alignment,
    samples: Float32[np.ndarray, " samples"],
    notes: Notes,
  ) -> tuple[Rule, str] | None:
    """The first rule that a pair breaks, and what was found; None if it fits.

    Args:
      found: How the two lie to each other.
      samples: The audio, at `base.SAMPLE_RATE`.
      notes: At least one.
    """
    loud = np.abs(samples) > _QUIET * np.abs(samples).max()
    end_s = (np.flatnonzero(loud)[-1] + 1) / base.SAMPLE_RATE
    late = np.count_nonzero(notes.onset >= len(samples) / base.SAMPLE_RATE)
    if late > MAX_NOTES_AFTER_END * len(notes):
      return (
        base.rules.LENGTHS_DIFFER,
        f"{late} of {len(notes)} notes begin after its end",
      )
    if found.score < self.min_score:
      return UNRELATED, f"score {found.score:.3f}, expected {self.min_score}"
    if abs(found.drift_s) > self.max_drift_s:
      return DRIFTING, f"by {found.drift_s:+.2f} s from half to half"
    if abs(found.lag_s) > self.max_lag_s:
      return SHIFTED, f"by {found.lag_s:+.2f} s (score {found.score:.3f})"
    if end_s - notes.duration_s > self.max_extra_s:
      return (
        LONGER_AUDIO,
        f"{end_s:.1f} s of audio, {notes.duration_s:.1f} s of notes",
      )
    return None


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
  audio = files_by_key(audio_dir, AUDIO_SUFFIXES, "audio")
  midi = files_by_key(Path(midi_dir), MIDI_SUFFIXES, "MIDI")
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


def files_by_key(
  directory: Path, suffixes: Sequence[str], kind: str
) -> dict[str, list[Path]]:
  """Files by what their paths have in common with those of their partners."""
  if not directory.is_dir():
    raise ValueError(
      f"Expected a folder of {kind} files, found no folder {directory}."
    )
  files = {}
  for path in sorted(directory.rglob("*")):
    below = path.relative_to(directory)
    hidden = any(part.startswith(".") for part in below.parts)
    if path.suffix.lower() in suffixes and path.is_file() and not hidden:
      key = unicodedata.normalize("NFC", below.with_suffix("").as_posix())
      files.setdefault(key.casefold(), []).append(path)
  if not files:
    raise ValueError(
      f"Expected {kind} files ({', '.join(suffixes)}) in {directory} or its"
      " subfolders; found none."
    )
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
  digest = hashlib.sha256(name.encode()).digest()
  position = int.from_bytes(digest[:8], "big") / 2**64
  return VALIDATION if position < validation_share else TRAIN


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
  MANUAL_DOWNLOAD_INSTRUCTIONS = "A folder of audio files."
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
