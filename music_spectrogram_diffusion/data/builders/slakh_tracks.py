"""Slakh2100 as it is published: its tracks, their stems, and mixes of these."""

from collections.abc import Iterable, Iterator, Sequence
import contextlib
import dataclasses
from pathlib import Path
import re
from typing import Any

from jaxtyping import Float32
import numpy as np
import yaml

from music_spectrogram_diffusion.data.builders import loading
from music_spectrogram_diffusion.data.builders import problems as rules
from music_spectrogram_diffusion.data.builders.converting import Song
from music_spectrogram_diffusion.data.builders.problems import (
  Problems,
  Rule,
  SongError,
)
from music_spectrogram_diffusion.notes import SLAKH_CLASSES, Notes

SPLITS = ("train", "validation", "test")
OMITTED = "omitted"

LAST_TRAIN_TRACK = 1500
LAST_VALIDATION_TRACK = 1875
"""Last track numbers of the first two splits, as first published."""

SAME_SONG = Rule(
  "same_song", "songs dropped", "an earlier track was made from the same MIDI"
)
STEM_UNKNOWN = Rule(
  "stem_unknown", "stems left out", "their instrument is of no Slakh class"
)
STEM_BROKEN = Rule("stem_broken", "stems left out", "their metadata are broken")
STEM_MISSING = Rule(
  "stem_missing", "stems left out", "their audio or MIDI file is missing"
)
STEM_NOTES = Rule(
  "stem_notes", "stems left out", "their MIDI file has no readable notes"
)
STEM_AUDIO = Rule(
  "stem_audio",
  "stems left out",
  "their audio is unreadable, silent, or ends before their notes",
)
STEM_LENGTH = Rule(
  "stem_length", "stems mended", "shorter than another, silence appended"
)
MIX_SUMMED = Rule(
  "mix_summed", "songs mended", "the mix is unreadable, its stems are summed"
)
RULES = (
  SAME_SONG,
  STEM_UNKNOWN,
  STEM_BROKEN,
  STEM_MISSING,
  STEM_NOTES,
  STEM_AUDIO,
  STEM_LENGTH,
  MIX_SUMMED,
)

# Programs that Slakh's classes do not list below the next class's first one:
# github.com/ethman/slakh-generation, instr_defs_metadata/komplete_strict.json.
_OTHER_CLASSES = {
  2: "Electric Piano",
  6: "Acoustic Piano",
  31: "Clean Electric Guitar",
  44: "String Ensemble",
  45: "String Ensemble",
  59: "Trumpet",
}
_LAST_CLASSIFIED_PROGRAM = 95  # Effects, ethnic and percussive ones follow.
_DRUMS = 128  # What metadata give as the program of drums.
_AUDIO_SUFFIXES = (".flac", ".wav")
_TRACK_NAME = re.compile(r"Track(\d+)")
_UUID = re.compile(r"^UUID:\s*(\S+)", re.MULTILINE)
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclasses.dataclass(frozen=True)
class Track:
  """A song: a folder TrackNNNNN.

  Attributes:
    path: The folder.
    number: NNNNN.
    split: One of `SPLITS`.
  """

  path: Path
  number: int
  split: str

  @property
  def track_id(self) -> str:
    """TrackNNNNN."""
    return self.path.name


@dataclasses.dataclass(frozen=True)
class Stem:
  """One instrument of a track.

  Attributes:
    name: S00, S01, ...
    midi_program: Program that the metadata give; 0 for drums.
    notes: What is played, its program the first of the stem's Slakh class.
    audio_path: Its recording.
  """

  name: str
  midi_program: int
  notes: Notes
  audio_path: Path

  @property
  def is_drum(self) -> bool:
    """Whether this is the drum kit."""
    return bool(self.notes.is_drum[0])


def find_tracks(
  directory: str | Path, problems: Problems, *, with_duplicates: bool
) -> list[Track]:
  """Finds the tracks of all splits.

  Reads folders train, validation, test and omitted with tracks in them, and
  tracks without such folders. These and omitted ones belong to the split that
  the first release gave to their numbers.

  Args:
    directory: The folder with these, or the one above it.
    problems: Counts the tracks that are passed over.
    with_duplicates: Whether all tracks are taken ("orig"), or only the first
      of those that were made from one MIDI file ("redux").

  Returns:
    Tracks in order of their numbers.

  Raises:
    ValueError: There are none.
  """
  tracks = {}
  for path, folder in _track_folders(Path(directory)):
    number = int(_TRACK_NAME.fullmatch(path.name)[1])
    if folder == OMITTED and not with_duplicates:
      continue
    if number in tracks:
      problems.add(rules.DUPLICATE_ID, str(path))
      continue
    split = folder if folder in SPLITS else split_of(number)
    tracks[number] = Track(path, number, split)
  in_order = [tracks[number] for number in sorted(tracks)]
  if with_duplicates:
    return in_order
  return list(_first_of_each_song(in_order, problems))


def _track_folders(directory: Path) -> list[tuple[Path, str]]:
  """Folders of tracks, each with the name of the folder it lies in."""
  if not directory.is_dir():
    raise ValueError(f"Expected the folder of Slakh2100, found no {directory}.")
  below = [path for path in sorted(directory.iterdir()) if path.is_dir()]
  for root in (directory, *below):
    found = [
      (path, folder)
      for folder in (*SPLITS, OMITTED, "")
      for path in sorted((root / folder).glob("Track*"))
      if path.is_dir() and _TRACK_NAME.fullmatch(path.name)
    ]
    if found:
      return found
  raise ValueError(
    f"Expected folders like train/Track00001 or Track00001 in {directory}, the"
    " layout of slakh2100_flac_redux; found none."
  )


def split_of(number: int) -> str:
  """The split of a track in the first release."""
  if number <= LAST_TRAIN_TRACK:
    return "train"
  return "validation" if number <= LAST_VALIDATION_TRACK else "test"


def _first_of_each_song(
  tracks: Iterable[Track], problems: Problems
) -> Iterator[Track]:
  """Passes over tracks whose MIDI file an earlier track was made from.

  Over the whole data set this leaves the 1710 tracks of Slakh2100-redux.
  """
  seen = set()
  for track in tracks:
    try:
      metadata = (track.path / "metadata.yaml").read_text(errors="replace")
    except OSError:
      metadata = ""  # Told of when the track is converted.
    match = _UUID.search(metadata)
    if match and match[1] in seen:
      problems.add(SAME_SONG, track.track_id)
      continue
    if match:
      seen.add(match[1])
    yield track


def read_stems(track: Track, problems: Problems) -> list[Stem]:
  """Reads the stems that have an audio file, notes and a known instrument.

  Raises:
    SongError: The track has no readable metadata, or no such stem.
  """
  stems = []
  for name, entry in sorted(_read_metadata(track).items()):
    item = f"{track.track_id}/{name}"
    if not isinstance(entry, dict):
      problems.add(STEM_BROKEN, item)
    elif entry.get("audio_rendered", True):
      try:
        stems.append(_read_stem(track, name, entry, problems))
      except SongError as error:
        problems.add(error.rule, item)
  if not stems:
    raise SongError(rules.NO_NOTES, f"{track.path} has no stem with notes")
  return stems


def _read_metadata(track: Track) -> dict[str, Any]:
  """The entry of each stem in metadata.yaml."""
  path = track.path / "metadata.yaml"
  if not path.is_file():
    raise SongError(rules.MISSING_FILE, f"{path} is missing")
  try:
    with path.open("rb") as file:
      stems = yaml.load(file, _YamlLoader)["stems"]
      return {str(name): entry for name, entry in stems.items()}
  except (OSError, yaml.YAMLError, LookupError, TypeError, AttributeError) as e:
    raise SongError(
      rules.UNREADABLE_NOTES, f"{path} has no readable mapping `stems`"
    ) from e


def _read_stem(
  track: Track, name: str, entry: dict[str, Any], problems: Problems
) -> Stem:
  """Reads a stem's notes; SongError with a rule of stems if it is no use."""
  item = f"{track.track_id}/{name}"
  midi_program = entry.get("program_num")
  is_drum = entry.get("is_drum") is True or midi_program == _DRUMS
  program = 0 if is_drum else class_program(midi_program)
  if program is None:
    raise SongError(STEM_UNKNOWN, f"{item} has the program {midi_program}")
  audio_path = _audio_path(track, f"stems/{name}")
  midi_path = track.path / "MIDI" / f"{name}.mid"
  if audio_path is None or not midi_path.is_file():
    raise SongError(STEM_MISSING, f"{item} lacks a file")
  try:
    notes = loading.load_midi(midi_path, problems, item)
  except SongError as error:
    raise SongError(STEM_NOTES, str(error)) from error
  if not len(notes):
    raise SongError(STEM_NOTES, f"{item} has no notes")
  notes = _played_by(notes, program, is_drum)
  return Stem(name, 0 if is_drum else midi_program, notes, audio_path)


def _audio_path(track: Track, name: str) -> Path | None:
  """The audio file of this name; wav where flac was decoded."""
  paths = (track.path / f"{name}{suffix}" for suffix in _AUDIO_SUFFIXES)
  return next((path for path in paths if path.is_file()), None)


def class_program(midi_program: Any) -> int | None:
  """First program of the Slakh class of a program; None if it has no class."""
  if not isinstance(midi_program, int):
    return None
  if not 0 <= midi_program <= _LAST_CLASSIFIED_PROGRAM:
    return None
  if midi_program in _OTHER_CLASSES:
    return SLAKH_CLASSES[_OTHER_CLASSES[midi_program]]
  return max(p for p in SLAKH_CLASSES.values() if p <= midi_program)


def with_program(stem: Stem, program: int) -> Stem:
  """The same stem, standing for another program."""
  return dataclasses.replace(
    stem, notes=_played_by(stem.notes, program, stem.is_drum)
  )


def _played_by(notes: Notes, program: int, is_drum: bool) -> Notes:
  return dataclasses.replace(
    notes,
    program=np.full_like(notes.program, program),
    is_drum=np.full_like(notes.is_drum, is_drum),
  )


def load_samples(
  stems: Sequence[Stem], track: Track, problems: Problems
) -> dict[str, tuple[Stem, Float32[np.ndarray, " samples"]]]:
  """Loads the audio of stems, as long as the longest of them.

  Args:
    stems: Some stems of a track.
    track: The track.
    problems: Counts the stems that are left out, because their audio is broken
      or ends before many of their notes, and what was mended.

  Returns:
    By name, the stems that are left, with the notes that their audio holds,
    and their samples: silent at the end where another stem is longer.

  Raises:
    SongError: None is left.
  """
  loaded = {}
  for stem in stems:
    item = f"{track.track_id}/{stem.name}"
    try:
      samples = loading.load_audio(stem.audio_path, problems, item)
      duration_s = len(samples) / loading.SAMPLE_RATE
      notes = loading.clean_notes(stem.notes, duration_s, problems, item)
    except SongError:
      problems.add(STEM_AUDIO, item)
    else:
      loaded[stem.name] = dataclasses.replace(stem, notes=notes), samples
  if not loaded:
    raise SongError(rules.UNREADABLE_AUDIO, f"{track.path} has no usable stem")
  longest = max(len(samples) for _, samples in loaded.values())
  for name, (stem, samples) in loaded.items():
    if missing := longest - len(samples):
      problems.add(STEM_LENGTH, f"{track.track_id}/{name}")
      loaded[name] = stem, np.pad(samples, (0, missing))
  return loaded


def load_mix(
  track: Track, problems: Problems
) -> Float32[np.ndarray, " samples"]:
  """Loads the published sum of all stems.

  Raises:
    SongError: It is missing or broken.
  """
  path = _audio_path(track, "mix")
  if path is None:
    raise SongError(rules.MISSING_FILE, f"{track.path} has no mix")
  return loading.load_audio(path, problems, track.track_id)


def has_all_stems(track: Track, stems: Sequence[Stem]) -> bool:
  """Whether the published mix is the sum of these stems, and of no other."""
  names = {
    path.stem
    for path in (track.path / "stems").iterdir()
    if path.suffix in _AUDIO_SUFFIXES
  }
  return names == {stem.name for stem in stems}


def mix_stems(
  loaded: Sequence[tuple[Stem, Float32[np.ndarray, " samples"]]],
  track: Track,
  problems: Problems,
  *,
  id: str,
) -> dict[str, Any]:
  """The example of a sum of stems, the way that the published mixes are."""
  mixed = np.zeros_like(loaded[0][1])
  for _, samples in loaded:
    mixed += samples
  mixed = loading.limit_peak(mixed, problems, id)
  stems = [stem for stem, _ in loaded]
  return make_example(stems, mixed, track, problems, id=id)


def make_example(
  stems: Sequence[Stem],
  samples: Float32[np.ndarray, " samples"],
  track: Track,
  problems: Problems,
  *,
  id: str,
) -> dict[str, Any]:
  """An example of a mix of stems; `base.FEATURES` and `track_id`."""
  notes = Notes.concatenate([stem.notes for stem in stems])
  duration_s = len(samples) / loading.SAMPLE_RATE
  notes = loading.clean_notes(notes, duration_s, problems, id)
  return loading.make_example(id, samples, notes, track_id=track.track_id)


def mix_id(track: Track, stems: Sequence[Stem]) -> str:
  """Names a mix of some stems, as Track00001_S00-S02-S03-S07."""
  return f"{track.track_id}_{'-'.join(stem.name for stem in stems)}"


def to_song(track: Track) -> Song:
  """The track as what is converted, with all its files that there are."""
  found = [
    path
    for pattern in ("stems/*", "MIDI/*.mid", "mix.*")
    for path in sorted(track.path.glob(pattern))
    if path.is_file()
  ]
  files = (track.path / "metadata.yaml", *found)
  return Song(track.track_id, track.split, files, track)


@contextlib.contextmanager
def counted_once(problems: Problems, name: str) -> Iterator[Problems]:
  """Gives problems to fill, and adds them to others at the end.

  What befell several stems or mixes of a song counts as one song's fault.
  """
  found = Problems()
  try:
    yield found
  finally:
    rows = found.to_json()
    for row in rows:
      if row["effect"].startswith("songs"):
        row |= {"count": 1, "examples": [name]}
    problems.merge(Problems.from_json(rows))
