"""Families of instruments, in which figures by instrument are told apart."""

from jaxtyping import Bool
import numpy as np

from music_spectrogram_diffusion import notes

MIN_NOTES = 30
"""Notes that a family needs for a row of its own: fewer say too little."""

FOLDED = ("bass",)
"""Families so low that the transcriber takes their overtones for the notes.

Where they are alone, octaves are not told apart.
"""

# The programs of the models' 34 classes; General MIDI's families, but guitars
# and pianos that sound nothing alike have rows of their own.
_PROGRAMS = {
  "piano": (0,),
  "electric piano": (4,),
  "chromatic percussion": (8,),
  "organ": (16,),
  "acoustic guitar": (24,),
  "clean guitar": (26,),
  "distorted guitar": (29,),
  "bass": (32, 33),
  "strings": (40, 41, 42, 43),
  "harp": (46,),
  "timpani": (47,),
  "string ensemble": (48, 50),
  "choir and hits": (52, 55),
  "brass": (56, 57, 58, 60, 61),
  "reed": (64, 66, 67, 68, 69, 70, 71),
  "pipe": (73,),
  "synth lead": (80,),
  "synth pad": (88,),
}

FAMILIES = tuple(_PROGRAMS)
"""Names of the families; drums are none."""


def of_notes(piece: notes.Notes) -> np.ndarray:
  """Names of the families that pitched notes of the models' classes are of."""
  names = {program: name for name, of in _PROGRAMS.items() for program in of}
  return np.array([names[program] for program in piece.program.tolist()], "U32")


def mask(piece: notes.Notes, family: str) -> Bool[np.ndarray, " notes"]:
  """The notes of a piece that one family plays."""
  return np.isin(piece.program, _PROGRAMS[family]) & ~piece.is_drum
