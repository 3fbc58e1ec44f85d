"""Whether joins of segments are heard: they are to be as anywhere else."""

import dataclasses

from jaxtyping import Float, Float64, Int
import numpy as np

from music_spectrogram_diffusion import audio

# Frames around a join in which it may show: the windows of the features reach
# from one to the next.
REACH = 1

# Natural logarithm of magnitudes below which a change is not heard.
_FLOOR = -6.0

HIGH = 0.95
"""Ranks from here on stand out: a twentieth of them, by chance."""


@dataclasses.dataclass(frozen=True)
class Places:
  """Where segments of a piece are joined.

  Attributes:
    segment_frames: Frames of a segment.
    overlap: Frames of it over which the next one is faded in.
  """

  segment_frames: int
  overlap: int = 0

  @property
  def reach(self) -> int:
    """Frames on both sides of a join's middle in which it may show."""
    return REACH + self.overlap // 2

  def middles(self, num_frames: int) -> Int[np.ndarray, " joins"]:
    """The frame in the middle of each join of so many frames."""
    hop = self.segment_frames - self.overlap
    first = hop + self.overlap // 2
    return np.arange(first, num_frames - self.reach, hop)


def ranks(
  samples: Float[np.ndarray, " samples"],
  places: Places,
  config: audio.SpectrogramConfig,
) -> Float64[np.ndarray, " joins"]:
  """Where the change at each join ranks among the changes elsewhere.

  Args:
    samples: A piece.
    places: Where its joins are, or would be.
    config: The features in which change is measured.

  Returns:
    The share of all places far from joins where less changes than at the join,
    half of those that are equal included: 0.5 on average where joins are like
    anywhere else.
  """
  change = energy(audio.log_mel(samples, config), places.reach)
  frames = np.arange(len(change))
  joins = places.middles(len(change))
  distance = np.abs(frames[:, None] - joins).min(axis=1, initial=len(change))
  elsewhere = np.sort(change[distance > 2 * places.reach + 1])
  if len(joins) and not len(elsewhere):
    raise ValueError(
      f"Expected an overlap that leaves places without joins; got {places}."
    )
  below, not_above = (
    np.searchsorted(elsewhere, change[joins], side)
    for side in ("left", "right")
  )
  return (below + not_above) / (2 * max(1, len(elsewhere)))


def energy(
  log_mel: Float[np.ndarray, "frames mel_bins"], reach: int = REACH
) -> Float64[np.ndarray, " frames"]:
  """Change of a spectrogram around each frame: the largest near it.

  Energy of the second difference in time, of levels above what can be heard:
  steady sound and steady decay have none, a seam has.

  Args:
    log_mel: The spectrogram.
    reach: How many frames before and after count as near.
  """
  level = np.maximum(log_mel.astype(np.float64), _FLOOR)
  padded = np.pad(level, ((1, 1), (0, 0)), mode="edge")
  bend = np.square(np.diff(padded, 2, axis=0)).mean(axis=1)
  windows = np.lib.stride_tricks.sliding_window_view(
    np.pad(bend, reach), 2 * reach + 1
  )
  return windows.max(axis=1)


def excess(
  values: Float[np.ndarray, " joins"], reference: Float[np.ndarray, " joins"]
) -> tuple[float, float]:
  """Mean of the paired differences, and its standard error.

  Notes begin at joins too, in the reference as well: only what exceeds it is
  the joins' own.
  """
  difference = np.asarray(values, np.float64) - reference
  if len(difference) < 2:
    return float(difference.mean()) if len(difference) else 0.0, 0.0
  error = difference.std(ddof=1) / np.sqrt(len(difference))
  return float(difference.mean()), float(error)
