"""What is measured of each rendering, and the means over the pieces."""

import collections
from collections.abc import Sequence
import dataclasses
import hashlib
import json
import pathlib
import subprocess
import sys

import families
import numpy as np
import renderings
import soundfile

from music_spectrogram_diffusion import audio, evaluation, notes

OFFSET_RATIO = 0.2
"""Share of a note's length by which its end may be wrong, as in MIREX."""

_UNISON_S = 0.05
_OCTAVE_START = 60


@dataclasses.dataclass(frozen=True)
class Score:
  """How one rendering of one piece compares with its notes and its soundfont.

  Attributes:
    onset_f1: Note F1 by pitch and onset (within 50 ms); drums are left out,
      and instruments in unison count as one note.
    offset_f1: The same where the offset must agree too (within 50 ms or 20 %
      of the note).
    mel_distance: Mean absolute difference, in nats, of the spectrogram given to
      the inverter and the soundfont's.
    audio_distance: The same for the spectrogram of the resulting audio.
    found: {family: notes found, by onset}.
    found_whole: {family: notes found, by onset and offset}.
    asked: {family: notes asked for}.
  """

  onset_f1: float
  offset_f1: float
  mel_distance: float
  audio_distance: float
  found: dict[str, int]
  found_whole: dict[str, int]
  asked: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Counts:
  """Notes of excerpts that one family plays alone, all together.

  Attributes:
    asked: Notes asked for; unisons count once.
    heard: Notes that the transcriber hears.
    found: Notes that are in both, by onset.
    found_whole: The same by onset and offset.
  """

  asked: int
  heard: int
  found: int
  found_whole: int

  @property
  def onset_f1(self) -> float:
    """Note F1 by onset."""
    return self._f1(self.found)

  @property
  def offset_f1(self) -> float:
    """Note F1 by onset and offset."""
    return self._f1(self.found_whole)

  def _f1(self, found):
    return 2 * found / max(1, self.asked + self.heard)


def transcribe(
  paths: list[pathlib.Path], *, python: pathlib.Path, cache: pathlib.Path
) -> list[notes.Notes]:
  """Writes down the notes of audio files, by basic-pitch.

  Args:
    paths: The files.
    python: Interpreter of the environment that setup_transcriber.sh made.
    cache: Where transcriptions are kept, under the hash of the audio.
  """
  results = [cache / f"{audio_hash(path)}.json" for path in paths]
  missing = {
    result: path
    for result, path in zip(results, paths, strict=True)
    if not result.exists()
  }
  if missing:
    if not python.exists():
      sys.exit(
        f"Expected the transcriber's Python at {python};"
        " run benchmarks/quality/setup_transcriber.sh, or give --transcriber."
      )
    print(f"transcribing {len(missing)} files", file=sys.stderr)
    subprocess.run(
      [python, pathlib.Path(__file__).with_name("transcribe.py")],
      input="".join(f"{path}\t{to}\n" for to, path in missing.items()),
      text=True,
      check=True,
    )
  return [_read_transcription(result) for result in results]


def score(
  piece: renderings.Piece,
  rendering: renderings.Rendering,
  heard: notes.Notes,
  config: audio.SpectrogramConfig,
) -> Score:
  """Measures one rendering of one piece."""
  asked = _without_unisons(piece.notes[~piece.notes.is_drum])
  found = evaluation.matched_notes(asked, heard)
  whole = evaluation.matched_notes(asked, heard, offset_ratio=OFFSET_RATIO)
  named = families.of_notes(asked)
  audio_mel = audio.log_mel(rendering.samples, config)[: len(piece.log_mel)]
  return Score(
    onset_f1=evaluation.note_f1(asked, heard),
    offset_f1=evaluation.note_f1(asked, heard, offset_ratio=OFFSET_RATIO),
    mel_distance=evaluation.log_mel_distance(piece.log_mel, rendering.log_mel),
    audio_distance=evaluation.log_mel_distance(piece.log_mel, audio_mel),
    found=dict(collections.Counter(named[found].tolist())),
    found_whole=dict(collections.Counter(named[whole].tolist())),
    asked=dict(collections.Counter(named.tolist())),
  )


def count(
  solos: Sequence[renderings.Piece],
  heard: Sequence[notes.Notes],
  *,
  folded: bool = False,
) -> Counts:
  """Counts the notes of solos, and which of them are heard.

  Args:
    solos: What was asked for.
    heard: The transcription of each.
    folded: Whether octaves are not told apart.
  """
  fold = _fold if folded else lambda piece: piece
  counts = []
  for solo, notes_heard in zip(solos, map(fold, heard), strict=True):
    asked = _without_unisons(fold(solo.notes))
    found = evaluation.matched_notes(asked, notes_heard)
    whole = evaluation.matched_notes(
      asked, notes_heard, offset_ratio=OFFSET_RATIO
    )
    counts.append((len(asked), len(notes_heard), found.sum(), whole.sum()))
  return Counts(*np.sum(counts, axis=0).tolist())


def audio_hash(path: pathlib.Path) -> str:
  """What tells audio from other audio; files hold the time of writing too."""
  samples, sample_rate = soundfile.read(path, dtype="float32")
  digest = hashlib.sha256(f"{sample_rate} {samples.shape}".encode())
  digest.update(samples.tobytes())
  return digest.hexdigest()


def write_audio(path: pathlib.Path, samples, config: audio.SpectrogramConfig):
  """Saves audio as it is: what is beyond [-1, 1] is not clipped."""
  path.parent.mkdir(parents=True, exist_ok=True)
  soundfile.write(path, samples, config.sample_rate, subtype="FLOAT")


def _fold(piece):
  """Puts all notes into one octave; those that start together become one."""
  folded = dataclasses.replace(piece, pitch=_OCTAVE_START + piece.pitch % 12)
  order = np.lexsort((-piece.offset, piece.onset, folded.pitch))
  folded = folded[order]
  apart = np.diff(folded.onset) > _UNISON_S
  apart |= np.diff(folded.pitch) != 0
  return folded[np.insert(apart, 0, True)] if len(folded) else folded


def _without_unisons(piece):
  """Keeps the longest of the notes that start together on one pitch."""
  step = np.rint(100 * piece.onset)
  order = np.lexsort((-piece.offset, piece.pitch, step))
  same = np.diff(step[order]) == 0
  same &= np.diff(piece.pitch[order]) == 0
  return piece[order[np.insert(~same, 0, True)]]


def _read_transcription(path):
  rows = np.array(json.loads(path.read_text()), np.float64).reshape(-1, 4)
  onset, offset, pitch, loudness = rows.T
  velocity = np.clip(np.rint(127 * loudness), 1, 127)
  return notes.Notes.from_columns(onset, offset, pitch, velocity)
