"""The table, the JSON and the picture of a run."""

import dataclasses
import json
import pathlib

from matplotlib.figure import Figure
import numpy as np
import quality
from quality import renderings
import served
import speed

_COLUMNS = (
  "",
  "parameters",
  "STFT distance",
  "log-mel distance, nats",
  "note F1",
  "of the original's",
  "x realtime",
  "a CPU second",
  "of the peer's speed",
  "peak memory",
  "over imports",
  f"first {1000 * served.FIRST_S:.0f} ms",
  "the first time",
  "frames needed",
)
_NONE = "-"
_EXCERPT_S = 5.0
_RANGE_DB = (-110.0, -30.0)


@dataclasses.dataclass(frozen=True)
class Row:
  """What is known of one inverter.

  Attributes:
    scores: {piece: figures}; None where the weights are random.
    timing: None for the original audio.
  """

  scores: dict[str, quality.Quality] | None = None
  timing: speed.Speed | None = None


def table(rows: dict[str, Row], peer: speed.Speed | None) -> str:
  """Lays out the figures in Markdown, a row for each inverter.

  Args:
    rows: In order; the first is the original audio.
    peer: What speeds are compared with, if it is there.
  """
  original = next(iter(rows.values()))
  lines = [_COLUMNS, ["---"] * len(_COLUMNS)]
  for name, row in rows.items():
    figures = _quality_cells(row.scores, original.scores)
    num_parameters, *others = _speed_cells(row.timing, peer)
    lines.append([name, num_parameters, *figures, *others])
  return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def targets(fast: Row, baseline: Row, rows: dict[str, Row], peer) -> str:
  """What was asked for, and what came of it, a line each.

  Args:
    fast: The inverter that is to reach them.
    baseline: Griffin-Lim.
    rows: All; the first is the original audio.
    peer: What speeds are compared with, if it is there.
  """
  original = next(iter(rows.values())).scores
  f1 = quality.mean(fast.scores, "note_f1")
  original_f1 = quality.mean(original, "note_f1")
  mel, other_mel = (
    quality.mean(row.scores, "log_mel_distance") for row in (fast, baseline)
  )
  reached = {
    "x realtime, at least 100": (fast.timing.realtime_factor, 100, 1),
    "note F1 of the original's, at least 0.97": (f1 / original_f1, 0.97, 1),
    "log-mel distance of Griffin-Lim's, at most 0.5": (
      mel / other_mel,
      0.5,
      -1,
    ),
  }
  if peer is not None:
    name = "of the peer's speed, at least 1"
    reached[name] = (fast.timing.ratio(peer), 1, 1)
  return "".join(
    f"- {name}: {value:.2f}"
    f" ({'reached' if sign * value >= sign * wanted else 'missed'})\n"
    for name, (value, wanted, sign) in reached.items()
  )


def write_json(path: pathlib.Path, rows: dict[str, Row], about: dict) -> None:
  """Saves every figure of a run, with what the run was."""
  result = {
    "about": about,
    "rows": {name: dataclasses.asdict(row) for name, row in rows.items()},
  }
  path.write_text(json.dumps(result, indent=1) + "\n")


def draw(
  path: pathlib.Path,
  piece: renderings.Piece,
  played: dict[str, dict[str, np.ndarray]],
  config,
) -> None:
  """Draws spectrograms of some seconds from the middle of a piece.

  Args:
    path: Where the picture goes.
    piece: Which it is.
    played: {row: {piece: samples}}.
    config: Gives the transform.
  """
  length = round(_EXCERPT_S * config.sample_rate)
  start = max(0, (len(piece.samples) - length) // 2)
  figure = Figure(figsize=(12, 3 * len(played)), layout="constrained")
  axes = figure.subplots(len(played), sharex=True, squeeze=False)[:, 0]
  for axis, (name, of_row) in zip(axes, played.items(), strict=True):
    with np.errstate(divide="ignore"):  # Silence has no decibels.
      axis.specgram(
        of_row[piece.name][start : start + length],
        NFFT=config.n_fft,
        Fs=config.sample_rate,
        noverlap=config.n_fft * 7 // 8,
        vmin=_RANGE_DB[0],
        vmax=_RANGE_DB[1],
        cmap="magma",
      )
    axis.set(title=f"{piece.name}: {name}", ylabel="Hz")
  axes[-1].set(xlabel="seconds")
  figure.savefig(path, dpi=100)


def _quality_cells(row, original):
  if row is None:
    return [_NONE] * 4
  f1 = quality.mean(row, "note_f1")
  original_f1 = quality.mean(original, "note_f1")
  return [
    f"{quality.mean(row, 'stft_distance'):.3f}",
    f"{quality.mean(row, 'log_mel_distance'):.4f}",
    f"{f1:.3f}",
    f"{f1 / original_f1:.3f}" if original_f1 else _NONE,
  ]


def _speed_cells(row, peer):
  if row is None:
    return [_NONE] * 9
  return [
    f"{row.num_parameters / 1e6:.2f} M" if row.num_parameters else _NONE,
    f"{row.realtime_factor:.1f}",
    f"{row.cpu_factor:.1f} s",
    f"{row.ratio(peer):.2f}" if peer else _NONE,
    f"{row.peak_mb:.0f} MB",
    f"{row.increase_mb:.0f} MB",
    f"{1000 * row.first_s:.0f} ms",
    f"{row.cold_s:.1f} s",
    str(row.frames_needed),
  ]
