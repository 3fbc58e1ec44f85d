"""How renderings are measured against recordings: three kinds of measures.

Each turns audio into features first, which are kept for the recording, and then
compares those of both.
"""

import dataclasses
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float32
import numpy as np

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.evaluation import (
  distances,
  embeddings,
  frechet,
  transcribers,
  transcription,
)
from music_spectrogram_diffusion.evaluation.songs import Song

_CONFIG = audio.SpectrogramConfig()

STFT, LOG_MEL = "STFT distance", "log-mel distance"


def reconstruction(embedding_name: str) -> str:
  """What the reconstruction distance of an embedding is called in results."""
  return f"{embedding_name} reconstruction"


def frechet_name(embedding_name: str) -> str:
  """What the Fréchet distance of an embedding is called in results."""
  return f"{embedding_name} FAD"


def f1(granularity: str) -> str:
  """What an F1 of `transcription.scores` is called in results."""
  return f"F1 {granularity}"


@runtime_checkable
class Measure(Protocol):
  """Measures a rendering.

  Attributes:
    name: What errors call it.
  """

  @property
  def name(self) -> str: ...

  def features(
    self, samples: Float32[np.ndarray, " samples"], song_id: str
  ) -> Any:
    """What is to be compared, of the recording or a rendering."""
    ...

  def scores(self, song: Song, reference: Any, estimate: Any) -> dict[str, Any]:
    """Numbers by their names, from the features of both."""
    ...

  def statistics(self, features: Any) -> dict[str, frechet.GaussianStatistics]:
    """What is summed over songs, by the name of the distance made of it."""
    ...


@dataclasses.dataclass(frozen=True, eq=False)
class EmbeddingMeasure:
  """Reconstruction distance of an embedding, and statistics for Fréchet's.

  Attributes:
    embedding: The embedding.
  """

  embedding: embeddings.Embedding

  @property
  def name(self) -> str:
    """The embedding's."""
    return self.embedding.name

  def features(
    self, samples: Float32[np.ndarray, " samples"], song_id: str
  ) -> Float32[np.ndarray, "time dims"]:
    """The embeddings."""
    return self.embedding(samples)

  def scores(
    self,
    song: Song,
    reference: Float32[np.ndarray, "time dims"],
    estimate: Float32[np.ndarray, "time_estimate dims"],
  ) -> dict[str, Any]:
    """The distance, where there is a common part."""
    length = min(len(reference), len(estimate))
    if not length:
      return {}
    distance = distances.reconstruction_distance(
      reference[:length], estimate[:length]
    )
    return {reconstruction(self.name): distance}

  def statistics(
    self, features: Float32[np.ndarray, "time dims"]
  ) -> dict[str, frechet.GaussianStatistics]:
    """For the Fréchet distance of all songs."""
    return {frechet_name(self.name): frechet.GaussianStatistics.of(features)}


class Spectra(NamedTuple):
  """A waveform and its spectrogram."""

  samples: Float32[np.ndarray, " samples"]
  log_mel: Float32[np.ndarray, "frames mel_bins"]


@dataclasses.dataclass(frozen=True)
class SpectralMeasure:
  """Distances that need no embedding."""

  name: str = "spectra"

  def features(
    self, samples: Float32[np.ndarray, " samples"], song_id: str
  ) -> Spectra:
    """The audio and its log-mel spectrogram."""
    return Spectra(samples, audio.log_mel(samples, _CONFIG))

  def scores(
    self, song: Song, reference: Spectra, estimate: Spectra
  ) -> dict[str, float]:
    """Of the common part."""
    if estimate is reference:  # The recording's own row costs nothing.
      return {STFT: 0.0, LOG_MEL: 0.0}
    samples = min(len(reference.samples), len(estimate.samples))
    frames = min(len(reference.log_mel), len(estimate.log_mel))
    return {
      STFT: distances.multi_resolution_stft_distance(
        reference.samples[:samples], estimate.samples[:samples]
      ),
      LOG_MEL: distances.log_mel_distance(
        reference.log_mel[:frames], estimate.log_mel[:frames]
      ),
    }

  def statistics(self, features: Spectra) -> dict[str, Any]:
    """None."""
    return {}


@dataclasses.dataclass(frozen=True, eq=False)
class TranscriptionMeasure:
  """F1 of the notes that a transcriber hears, by the song's own notes.

  Both sides have the first programs of their Slakh classes.

  Attributes:
    transcriber: The transcriber.
  """

  transcriber: transcribers.Transcriber

  @property
  def name(self) -> str:
    """The transcriber's."""
    return self.transcriber.name

  def features(
    self, samples: Float32[np.ndarray, " samples"], song_id: str
  ) -> notes_lib.Notes:
    """The notes that are heard."""
    heard = self.transcriber(samples, song_id)
    return notes_lib.to_slakh_classes(heard)

  def scores(
    self, song: Song, reference: notes_lib.Notes, estimate: notes_lib.Notes
  ) -> dict[str, float]:
    """What of the song's notes is heard; nothing of a song without notes."""
    if not len(song.notes):
      return {}
    asked_for = notes_lib.to_slakh_classes(song.notes)
    found = transcription.scores(asked_for, estimate)
    return {f1(name): score for name, score in found.items()}

  def statistics(self, features: notes_lib.Notes) -> dict[str, Any]:
    """None."""
    return {}
