"""Measures of how close rendered audio is to what its notes ask for.

Depends on the rooms below and mir_eval (extra `eval`); seqio, TensorFlow and
Beam are loaded where they are asked for.
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
from music_spectrogram_diffusion.evaluation.evaluate import (
  Evaluator,
  evaluate_song,
)
from music_spectrogram_diffusion.evaluation.frechet import (
  GaussianStatistics,
  Interval,
  bootstrap,
  frechet_distance,
)
from music_spectrogram_diffusion.evaluation.measures import Measure
from music_spectrogram_diffusion.evaluation.pictures import (
  draw_metrics,
  draw_songs,
)
from music_spectrogram_diffusion.evaluation.plan import (
  DEFAULT_EMBEDDINGS,
  Plan,
  run,
)
from music_spectrogram_diffusion.evaluation.report import (
  Summary,
  Table,
  markdown,
  summarize,
  tables,
)
from music_spectrogram_diffusion.evaluation.results import (
  ResultStore,
  SongResult,
)
from music_spectrogram_diffusion.evaluation.songs import Song
from music_spectrogram_diffusion.evaluation.systems import Rendering, System
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
  "DEFAULT_EMBEDDINGS",
  "EMBEDDINGS",
  "Embedding",
  "Evaluator",
  "GaussianStatistics",
  "Interval",
  "Measure",
  "Plan",
  "Rendering",
  "ResultStore",
  "Song",
  "SongResult",
  "Summary",
  "System",
  "Table",
  "Transcriber",
  "TranscriptionError",
  "bootstrap",
  "draw_metrics",
  "draw_songs",
  "evaluate_song",
  "find_embedding",
  "find_transcriber",
  "frechet_distance",
  "log_mel_distance",
  "markdown",
  "matched_notes",
  "multi_resolution_stft_distance",
  "note_f1",
  "reconstruction_distance",
  "run",
  "scores",
  "summarize",
  "tables",
]
