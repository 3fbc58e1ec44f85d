"""Whether joins of segments are heard: they are to be as anywhere else."""

from jaxtyping import Float, Float64
import numpy as np

from music_spectrogram_diffusion import audio

# Frames around a join in which it may show: the windows of the features reach
# from one to the next.
_REACH = 1

# Natural logarithm of magnitudes below which a change is not heard.
_FLOOR = -6.0

HIGH = 0.95
"""Ranks from here on stand out: a twentieth of them, by chance."""


def ranks(
  samples: Float[np.ndarray, " samples"],
  segment_frames: int,
  config: audio.SpectrogramConfig,
) -> Float64[np.ndarray, " joins"]:
  """Where the change at each join ranks among the changes elsewhere.

  Args:
    samples: A piece.
    segment_frames: Frames from one join to the next.
    config: The features in which change is measured.

  Returns:
    The share of all places far from joins where less changes than at the join,
    half of those that are equal included: 0.5 on average where joins are like
    anywhere else.
  """
  change = energy(audio.log_mel(samples, config))
  places = np.arange(len(change))
  joins = np.arange(segment_frames, len(change) - _REACH, segment_frames)
  distance = np.abs(places[:, None] - joins).min(axis=1, initial=len(change))
  elsewhere = np.sort(change[distance > 2 * _REACH + 1])
  below, not_above = (
    np.searchsorted(elsewhere, change[joins], side)
    for side in ("left", "right")
  )
  return (below + not_above) / (2 * max(1, len(elsewhere)))


def energy(
  log_mel: Float[np.ndarray, "frames mel_bins"],
) -> Float64[np.ndarray, " frames"]:
  """Change of a spectrogram around each frame: the largest near it.

  Energy of the second difference in time, of levels above what can be heard:
  steady sound and steady decay have none, a seam has.
  """
  level = np.maximum(log_mel.astype(np.float64), _FLOOR)
  padded = np.pad(level, ((1, 1), (0, 0)), mode="edge")
  bend = np.square(np.diff(padded, 2, axis=0)).mean(axis=1)
  windows = np.lib.stride_tricks.sliding_window_view(
    np.pad(bend, _REACH), 2 * _REACH + 1
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
