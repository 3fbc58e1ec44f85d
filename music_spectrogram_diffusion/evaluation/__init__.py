"""Measures of how close rendered audio is to what its notes ask for.

Depends on `notes` and mir_eval (extra `eval`).
"""

from music_spectrogram_diffusion.evaluation.distances import log_mel_distance
from music_spectrogram_diffusion.evaluation.transcription import (
  matched_notes,
  note_f1,
)

__all__ = ["log_mel_distance", "matched_notes", "note_f1"]
