"""What every inverter is: log-mel spectrograms in, samples out, as a stream."""

from collections.abc import Iterable, Iterator
import math
from typing import Protocol, runtime_checkable

from jax import Array
from jaxtyping import Float, Float32
import numpy as np

from music_spectrogram_diffusion import audio, notes


@runtime_checkable
class Inverter(Protocol):
  """Makes audio from log-mel spectrograms, `hop_length` samples a frame.

  What a stream yields does not depend on how its frames were cut into chunks,
  and a whole spectrogram gives the same samples as a stream of it.
  """

  @property
  def config(self) -> audio.SpectrogramConfig:
    """The features that are inverted."""

  def __call__(
    self,
    log_mel: Float[np.ndarray | Array, "frames mel_bins"],
    played: notes.Notes | None = None,
  ) -> Float32[np.ndarray, " samples"]:
    """Inverts a whole spectrogram.

    Args:
      log_mel: Natural logarithm of mel magnitudes, as `audio.log_mel` gives.
      played: The notes that it is of, where they are known. Most inverters do
        not ask for them.

    Returns:
      `frames * hop_length` samples, nominally in [-1, 1] and not clipped.

    Raises:
      ValueError: The number of mel bins is not the config's, or a value is NaN.
    """

  def stream(
    self,
    chunks: Iterable[Float[np.ndarray | Array, "_ mel_bins"]],
    played: notes.Notes | None = None,
  ) -> Iterator[Float32[np.ndarray, "_"]]:
    """Inverts a spectrogram while it is made, in constant memory.

    Args:
      chunks: Consecutive frames, any number at a time.
      played: As for a whole spectrogram: those of the whole song.

    Yields:
      Consecutive samples, any number at a time; `hop_length` for each frame
      in total. They may lag behind by a segment.

    Raises:
      ValueError: As for a whole spectrogram, when the chunk's turn comes.
    """


def check_log_mel(
  log_mel: Float[np.ndarray | Array, "..."],
  config: audio.SpectrogramConfig,
) -> Float32[np.ndarray, "frames mel_bins"]:
  """Returns a spectrogram that can be inverted, limited to what audio reaches.

  Values below the floor of the features are raised to it, and values beyond
  what audio in [-1, 1] can reach are lowered to that.

  Args:
    log_mel: Whatever was given for a spectrogram [frames, mel_bins].
    config: What it should be.

  Raises:
    ValueError: It is no matrix, the number of mel bins is not the config's, or
      a value is NaN.
  """
  log_mel = np.asarray(log_mel, np.float32)
  if log_mel.ndim != 2:
    raise ValueError(
      "Expected a log-mel spectrogram [frames, mel_bins], got the shape"
      f" {list(log_mel.shape)}."
    )
  if log_mel.shape[1] != config.n_mels:
    raise ValueError(
      f"Expected a log-mel spectrogram of {config.n_mels} bins a frame,"
      f" got {log_mel.shape[1]}; was it made with another SpectrogramConfig?"
    )
  if np.isnan(log_mel).any():
    raise ValueError("Expected a log-mel spectrogram of numbers, got NaN.")
  largest = audio.window(config).sum() * audio.mel_matrix(config).sum(0).max()
  return log_mel.clip(config.mel_range[0], math.log(largest))


def cut_into_blocks(
  chunks: Iterable[Float32[np.ndarray, "_ mel_bins"]], block_frames: int
) -> Iterator[Float32[np.ndarray, "_ mel_bins"]]:
  """Cuts frames anew into blocks of one length; the last may be shorter."""
  rest = None
  for chunk in chunks:
    rest = chunk if rest is None else np.concatenate([rest, chunk])
    while len(rest) >= block_frames:
      yield rest[:block_frames]
      rest = rest[block_frames:]
  if rest is not None and len(rest):
    yield rest
