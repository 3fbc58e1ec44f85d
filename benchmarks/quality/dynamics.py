"""Whether soft is soft and loud is loud: levels of notes and of pieces."""

from collections.abc import Sequence
import dataclasses

from jaxtyping import Float, Float64
import numpy as np

_FRAME_S = 0.04
_HOP_S = 0.01

# Quieter than this below the loudest frame counts as this quiet.
_RANGE_DB = 60.0

# How long a level is measured beside a join.
_BESIDE_S = 0.4

_SILENCE = 1e-10  # Power of what is silent: -100 dB of full scale.


@dataclasses.dataclass(frozen=True)
class Dynamics:
  """How the levels of a figure's notes follow their velocities.

  Attributes:
    levels_db: Level of each note, in order of time.
    with_velocity: Correlation of the levels with the velocities.
    with_soundfont: Correlation of the levels with the soundfont's.
    slope: Least-squares slope of the levels over the soundfont's: 1 is as much
      contrast as the soundfont's, 0 none.
    difference_db: Mean of the levels over the soundfont's.
  """

  levels_db: list[float]
  with_velocity: float
  with_soundfont: float
  slope: float
  difference_db: float


@dataclasses.dataclass(frozen=True)
class Level:
  """How loud a piece is, beside the soundfont.

  Attributes:
    difference_db: Level of the whole piece over the soundfont's.
    envelope: Correlation of the levels of its frames with the soundfont's.
  """

  difference_db: float
  envelope: float


@dataclasses.dataclass(frozen=True)
class Held:
  """How loud a note is that is held over joins, beside the soundfont.

  Attributes:
    error_db: Mean absolute difference of the levels of its frames.
    step_db: By how much it rises or falls from before a join to after it, more
      than the soundfont's does; mean over joins.
  """

  error_db: float
  step_db: float


def measure_figure(
  onset: Float64[np.ndarray, " notes"],
  velocity: Sequence[int],
  samples: Float[np.ndarray, " samples"],
  reference: Float[np.ndarray, " samples"],
  sample_rate: int,
) -> Dynamics:
  """Compares a figure with its velocities and with the soundfont's.

  Args:
    onset: Onsets of its notes in seconds, ascending; each note is measured up
      to the next one, the last one to the end.
    velocity: Their velocities.
    samples: How it is played.
    reference: How the soundfont plays it.
    sample_rate: Of both.
  """
  levels = note_levels_db(onset, samples, sample_rate)
  soundfont = note_levels_db(onset, reference, sample_rate)
  spread = soundfont - soundfont.mean()
  return Dynamics(
    levels_db=levels.tolist(),
    with_velocity=correlation(levels, np.asarray(velocity)),
    with_soundfont=correlation(levels, soundfont),
    slope=float(levels @ spread / max(spread @ spread, _SILENCE)),
    difference_db=float((levels - soundfont).mean()),
  )


def measure_level(
  samples: Float[np.ndarray, " samples"],
  reference: Float[np.ndarray, " samples"],
  sample_rate: int,
) -> Level:
  """Compares the loudness of a piece with the soundfont's."""
  powers = [
    np.mean(np.square(x, dtype=np.float64)) for x in (samples, reference)
  ]
  levels = [frame_levels_db(x, sample_rate) for x in (samples, reference)]
  num_frames = min(map(len, levels))
  return Level(
    difference_db=float(np.diff(_to_db(np.array(powers[::-1])))[0]),
    envelope=correlation(*(level[:num_frames] for level in levels)),
  )


def measure_held(
  samples: Float[np.ndarray, " samples"],
  reference: Float[np.ndarray, " samples"],
  sample_rate: int,
  *,
  duration_s: float,
  joins_s: Sequence[float],
  reach_s: float,
) -> Held:
  """Compares a held note with the soundfont's, frame by frame.

  Args:
    samples: How it is played.
    reference: How the soundfont plays it.
    sample_rate: Of both.
    duration_s: How long it is held, from the beginning.
    joins_s: Where segments are joined, in seconds.
    reach_s: How far a join reaches to both sides, in seconds.
  """
  levels = [frame_levels_db(x, sample_rate) for x in (samples, reference)]
  num_frames = min(round(duration_s / _HOP_S), *map(len, levels))
  over = np.subtract(*(x[:num_frames] for x in levels))
  per_frame, beside = round(_FRAME_S / _HOP_S), round(_BESIDE_S / _HOP_S)
  steps = []
  for join in joins_s:
    before = round((join - reach_s) / _HOP_S) - per_frame
    after = round((join + reach_s) / _HOP_S)
    if before >= beside and after + beside <= len(over):
      level_before = over[before - beside : before].mean()
      steps.append(over[after : after + beside].mean() - level_before)
  return Held(
    error_db=float(np.abs(over).mean()),
    step_db=float(np.abs(steps).mean()) if steps else float("nan"),
  )


def note_levels_db(
  onset: Float64[np.ndarray, " notes"],
  samples: Float[np.ndarray, " samples"],
  sample_rate: int,
) -> Float64[np.ndarray, " notes"]:
  """The loudest 40 ms of each note, in dB of full scale."""
  levels = frame_levels_db(samples, sample_rate)
  starts = np.rint(onset / _HOP_S).astype(int)
  ends = np.append(starts[1:], len(levels)) - round(_FRAME_S / _HOP_S)
  return np.array(
    [
      levels[start : max(end, start + 1)].max(initial=levels.min())
      for start, end in zip(starts, ends, strict=True)
    ]
  )


def frame_levels_db(
  samples: Float[np.ndarray, " samples"], sample_rate: int
) -> Float64[np.ndarray, " frames"]:
  """Levels of 40 ms from every 10 ms on, in dB; within 60 dB of the loudest."""
  hop, per_frame = round(_HOP_S * sample_rate), round(_FRAME_S / _HOP_S)
  num_hops = max(per_frame, len(samples) // hop)
  padded = np.zeros(num_hops * hop)
  kept = samples[: len(padded)]
  padded[: len(kept)] = kept
  power = np.square(padded).reshape(num_hops, hop).mean(axis=1)
  windows = np.lib.stride_tricks.sliding_window_view(power, per_frame)
  levels = _to_db(windows.mean(axis=1))
  return np.maximum(levels, levels.max() - _RANGE_DB)


def correlation(
  a: Float[np.ndarray, " values"], b: Float[np.ndarray, " values"]
) -> float:
  """Pearson's correlation; 0 where one of the two does not vary at all."""
  a, b = a - a.mean(), b - b.mean()
  norm = np.sqrt((a @ a) * (b @ b))
  return float(a @ b / norm) if norm > _SILENCE else 0.0


def _to_db(power):
  return 10.0 * np.log10(np.maximum(power, _SILENCE))
