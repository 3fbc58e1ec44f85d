"""What turns audio into embeddings, found by a short specification."""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float32
import numpy as np


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


def find_embedding(spec: str) -> Embedding:
  """Finds an embedding by what is written on the command line.

  Args:
    spec: `log-mel-statistics`, which needs no download; or `vggish=DIR`,
      `trill=DIR` (a SavedModel, or its handle on TensorFlow Hub), or
      `clap=FILE.onnx`.

  Raises:
    ValueError: There is none of the name, or it cannot be loaded; says how to
      get it.
  """
  name, _, location = spec.partition("=")
  if name not in EMBEDDINGS:
    raise ValueError(
      f"Expected an embedding among {', '.join(EMBEDDINGS)}; got {spec!r}."
    )
  return EMBEDDINGS[name](location)


EMBEDDINGS: Mapping[str, Callable[[str], Embedding]] = {}
"""What makes an embedding of each name, from where it is."""
