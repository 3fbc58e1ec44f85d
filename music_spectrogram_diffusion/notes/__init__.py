"""MIDI files, notes and note tokens: knows music, but no devices.

Imports NumPy and mido, and no other room.
"""

from music_spectrogram_diffusion.notes.encoding import (
  SegmentOverflowError,
  tokenize_segments,
)
from music_spectrogram_diffusion.notes.notes import Notes
from music_spectrogram_diffusion.notes.vocabulary import (
  EOS,
  PAD,
  UNK,
  Vocabulary,
)

__all__ = [
  "EOS",
  "PAD",
  "UNK",
  "Notes",
  "SegmentOverflowError",
  "Vocabulary",
  "tokenize_segments",
]
