"""What is measured of each rendering, and the means over the pieces."""

import collections
import dataclasses
import hashlib
import json
import pathlib
import subprocess
import sys

import numpy as np
import renderings
import soundfile

from music_spectrogram_diffusion import audio, evaluation, notes

# General MIDI's families: eight programs each.
_FAMILIES = (
  "piano",
  "chromatic percussion",
  "organ",
  "guitar",
  "bass",
  "strings",
  "ensemble",
  "brass",
  "reed",
  "pipe",
  "synth lead",
  "synth pad",
  "synth effects",
  "ethnic",
  "percussive",
  "sound effects",
)


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
    asked: {family: notes asked for}.
  """

  onset_f1: float
  offset_f1: float
  mel_distance: float
  audio_distance: float
  found: dict[str, int]
  asked: dict[str, int]


def transcribe(
  paths: list[pathlib.Path], *, python: pathlib.Path, cache: pathlib.Path
) -> list[notes.Notes]:
  """Writes down the notes of audio files, by basic-pitch.

  Args:
    paths: The files.
    python: Interpreter of the environment that setup_transcriber.sh made.
    cache: Where transcriptions are kept, under the hash of the audio.
  """
  hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
  results = [cache / f"{key}.json" for key in hashes]
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
  families = np.array(_FAMILIES)[asked.program // 8]
  audio_mel = audio.log_mel(rendering.samples, config)[: len(piece.log_mel)]
  return Score(
    onset_f1=evaluation.note_f1(asked, heard),
    offset_f1=evaluation.note_f1(asked, heard, offset_ratio=0.2),
    mel_distance=evaluation.log_mel_distance(piece.log_mel, rendering.log_mel),
    audio_distance=evaluation.log_mel_distance(piece.log_mel, audio_mel),
    found=dict(collections.Counter(families[found].tolist())),
    asked=dict(collections.Counter(families.tolist())),
  )


def write_audio(path: pathlib.Path, samples, config: audio.SpectrogramConfig):
  """Saves audio as it is: what is beyond [-1, 1] is not clipped."""
  path.parent.mkdir(parents=True, exist_ok=True)
  soundfile.write(path, samples, config.sample_rate, subtype="FLOAT")


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
