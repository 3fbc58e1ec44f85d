"""MIDI files, notes and note tokens: knows music, but no devices.

Imports NumPy and mido, and no other room.
"""

from music_spectrogram_diffusion.notes.cleaning import trim_overlaps
from music_spectrogram_diffusion.notes.decoding import detokenize_segments
from music_spectrogram_diffusion.notes.encoding import (
  SegmentOverflowError,
  num_covering,
  tokenize_segments,
)
from music_spectrogram_diffusion.notes.instruments import (
  PROGRAM_NAMES,
  SLAKH_CLASSES,
  to_slakh_classes,
)
from music_spectrogram_diffusion.notes.midi import (
  MIDI_SUFFIXES,
  MidiError,
  parse_midi,
  read_midi,
  write_midi,
)
from music_spectrogram_diffusion.notes.note_sequence import from_note_sequence
from music_spectrogram_diffusion.notes.notes import Notes
from music_spectrogram_diffusion.notes.transcripts import read_transcript
from music_spectrogram_diffusion.notes.vocabulary import (
  EOS,
  PAD,
  UNK,
  Vocabulary,
)

__all__ = [
  "EOS",
  "MIDI_SUFFIXES",
  "PAD",
  "PROGRAM_NAMES",
  "SLAKH_CLASSES",
  "UNK",
  "MidiError",
  "Notes",
  "SegmentOverflowError",
  "Vocabulary",
  "detokenize_segments",
  "from_note_sequence",
  "num_covering",
  "parse_midi",
  "read_midi",
  "read_transcript",
  "to_slakh_classes",
  "tokenize_segments",
  "trim_overlaps",
  "write_midi",
]
