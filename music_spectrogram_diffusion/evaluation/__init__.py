"""Measures of how close rendered audio is to what its notes ask for.

Depends on `notes` and mir_eval (extra `eval`).
"""

from music_spectrogram_diffusion.evaluation.distances import log_mel_distance
from music_spectrogram_diffusion.evaluation.transcribers import (
  Transcriber,
  TranscriptionError,
  find_transcriber,
)
from music_spectrogram_diffusion.evaluation.transcription import (
  matched_notes,
  note_f1,
  scores,
)

__all__ = [
  "Transcriber",
  "TranscriptionError",
  "find_transcriber",
  "log_mel_distance",
  "matched_notes",
  "note_f1",
  "scores",
]
