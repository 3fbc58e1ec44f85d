"""What turns audio into embeddings, found by a short specification."""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float32
import numpy as np

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.evaluation import (
  clap_embedding,
  log_mel_statistics,
  saved_model_embeddings,
)

_CONFIG = audio.SpectrogramConfig()


@runtime_checkable
class Embedding(Protocol):
  """Vectors that stand for stretches of audio; alike where it sounds alike.

  Attributes:
    name: For tables and files: `vggish`, `trill`, `clap:FILE`, or the name of
      one that needs no download.
  """

  name: str

  def __call__(
    self, samples: Float32[np.ndarray, " samples"]
  ) -> Float32[np.ndarray, "time dims"]:
    """Embeds mono audio in [-1, 1] at the rate of `audio.SpectrogramConfig`.

    Only the first ten minutes count.

    Returns:
      One embedding a stretch of time, none for audio shorter than one.

    Raises:
      ValueError: Samples are not finite.
    """
    ...


EMBEDDINGS: Mapping[
  str, Callable[[str, audio.SpectrogramConfig], Embedding]
] = {
  log_mel_statistics.NAME: lambda location, config: (
    log_mel_statistics.LogMelStatistics(config)
  ),
  "vggish": saved_model_embeddings.load_vggish,
  "trill": saved_model_embeddings.load_trill,
  "clap": clap_embedding.load_clap,
}
"""What loads an embedding of each name, from where it is."""


def find_embedding(
  spec: str, config: audio.SpectrogramConfig = _CONFIG
) -> Embedding:
  """Finds an embedding by what is written on the command line.

  Args:
    spec: `log-mel-statistics`, which needs no download; or `vggish=DIR`,
      `trill=DIR` (a SavedModel, or its handle on TensorFlow Hub), or
      `clap=FILE.onnx`.
    config: Gives the sample rate of the audio to embed.

  Raises:
    ValueError: There is none of the name, or it cannot be loaded; says how to
      get it.
  """
  name, _, location = spec.partition("=")
  if name not in EMBEDDINGS:
    raise ValueError(
      f"Expected an embedding among {', '.join(EMBEDDINGS)}; got {spec!r}."
    )
  return EMBEDDINGS[name](location, config)
