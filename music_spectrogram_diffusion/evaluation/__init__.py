"""Measures of how close rendered audio is to what its notes ask for.

Depends on `notes`, `audio` and mir_eval (extra `eval`).
"""

from music_spectrogram_diffusion.evaluation.distances import (
  log_mel_distance,
  multi_resolution_stft_distance,
  reconstruction_distance,
)
from music_spectrogram_diffusion.evaluation.embeddings import (
  EMBEDDINGS,
  Embedding,
  find_embedding,
)
from music_spectrogram_diffusion.evaluation.frechet import (
  GaussianStatistics,
  Interval,
  bootstrap,
  frechet_distance,
)
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
  "EMBEDDINGS",
  "Embedding",
  "GaussianStatistics",
  "Interval",
  "Transcriber",
  "TranscriptionError",
  "bootstrap",
  "find_embedding",
  "find_transcriber",
  "frechet_distance",
  "log_mel_distance",
  "matched_notes",
  "multi_resolution_stft_distance",
  "note_f1",
  "reconstruction_distance",
  "scores",
]
