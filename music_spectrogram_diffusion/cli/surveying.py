"""What `info` says of many pieces at once: the generator's, or a folder's."""

import itertools
from pathlib import Path

from matplotlib import colors
from matplotlib import figure as mpl_figure
import numpy as np
import rich.box
import rich.table

from music_spectrogram_diffusion import data, notes
from music_spectrogram_diffusion.cli import console, outputs, plotting

GENERATOR = "generator"
"""What names the pieces of the project's generator."""

_GENERATED = 200  # Pieces, unless told otherwise.
_PICTURE = "coverage.png"
_KIT = range(35, 82)
_COLOR = "#44618f"


def survey(
  what: str, *, count: int | None = None, output: Path | None = None
) -> None:
  """Prints what pieces hold, and draws it.

  Args:
    what: A folder of MIDI files or of prepared songs, or `GENERATOR`.
    count: How many pieces; by default all, or 200 of the generator.
    output: Folder for the picture; no picture without.

  Raises:
    ValueError: There are no pieces.
  """
  if what == GENERATOR:
    pieces = data.generated_pieces(count or _GENERATED)
  else:
    pieces = itertools.islice(data.pieces_of(what), count)
  coverage = data.cover(pieces)
  table = rich.table.Table(box=rich.box.SIMPLE, show_header=False)
  for name, value in coverage.facts():
    table.add_row(name, value)
  console.show(table)
  if output is not None:
    output.mkdir(parents=True, exist_ok=True)
    picture = plotting.png(draw_coverage(coverage, title=Path(what).name))
    outputs.write_whole(output / _PICTURE, picture)
    print(f"{output / _PICTURE}: written")


def draw_coverage(
  coverage: data.Coverage, *, title: str = ""
) -> mpl_figure.Figure:
  """Six pictures: pitches by program, drums, density, and so on."""
  figure = mpl_figure.Figure(figsize=(11.0, 8.5), layout="constrained")
  grid = figure.add_gridspec(3, 3, width_ratios=(1.5, 1.0, 1.0))
  _draw_pitches(figure, figure.add_subplot(grid[:, 0]), coverage)
  panels = (
    _draw_drums,
    _draw_density,
    _draw_tokens,
    _draw_at_once,
    _draw_lengths,
    _draw_velocities,
  )
  for draw, (row, column) in zip(
    panels, itertools.product(range(3), (1, 2)), strict=True
  ):
    draw(figure.add_subplot(grid[row, column]), coverage)
  figure.suptitle(
    f"{title}: {coverage.num_pieces} pieces,"
    f" {coverage.duration_s / 3600:.1f} h",
    parse_math=False,
  )
  return figure


def _draw_pitches(figure, axes, coverage: data.Coverage) -> None:
  classes = notes.SLAKH_CLASSES
  counts = coverage.pitches[list(classes.values())]
  image = axes.imshow(
    np.ma.masked_equal(counts, 0),
    aspect="auto",
    cmap="viridis",
    norm=colors.LogNorm(1, max(int(counts.max()), 2)),
    interpolation="nearest",
  )
  axes.set_facecolor("0.92")
  axes.set_yticks(range(len(classes)), labels=list(classes), fontsize="x-small")
  axes.set_xlim(12, 115)
  axes.set_xlabel("pitch")
  figure.colorbar(
    image, ax=axes, location="bottom", label="notes", aspect=40, pad=0.01
  )


def _draw_drums(axes, coverage: data.Coverage) -> None:
  axes.bar(_KIT, coverage.drums[_KIT.start : _KIT.stop], color=_COLOR)
  axes.set_xlabel("drum")
  axes.set_ylabel("hits")


def _draw_density(axes, coverage: data.Coverage) -> None:
  _draw_shares(axes, _binned(coverage.segment_notes, 5), 5)
  axes.set_xlabel("notes that begin in a segment")
  axes.set_ylabel("% of segments")


def _draw_tokens(axes, coverage: data.Coverage) -> None:
  _draw_shares(axes, _binned(coverage.segment_tokens, 25), 25)
  axes.set_xlabel("tokens of a segment")
  axes.set_ylabel("% of segments")


def _draw_at_once(axes, coverage: data.Coverage) -> None:
  _draw_shares(axes, coverage.at_once_s, 1)
  axes.set_xlabel("notes at once, without drums")
  axes.set_ylabel("% of the time")


def _draw_lengths(axes, coverage: data.Coverage) -> None:
  edges = coverage.length_edges_s
  shares = 100 * coverage.lengths / max(coverage.lengths.sum(), 1)
  axes.stairs(shares, edges, fill=True, color=_COLOR)
  axes.set_xscale("log")
  axes.set_xlim(0.02, 30)
  axes.set_xlabel("length of a note (s)")
  axes.set_ylabel("% of notes")


def _draw_velocities(axes, coverage: data.Coverage) -> None:
  _draw_shares(axes, _binned(coverage.velocities, 4), 4)
  axes.set_xlabel("velocity")
  axes.set_ylabel("% of notes and hits")


def _draw_shares(axes, counts, width: int) -> None:
  """Bars from 0 to the last that holds anything to speak of."""
  shares = 100 * counts / max(counts.sum(), 1e-9)
  edges = width * np.arange(len(counts) + 1) - (0.5 if width == 1 else 0.0)
  axes.stairs(shares, edges, fill=True, color=_COLOR)
  seen = np.flatnonzero(shares > 0.02)
  axes.set_xlim(edges[0], edges[seen[-1] + 1] if len(seen) else 1)


def _binned(counts, width: int):
  """Sums of so many neighbouring counts."""
  padded = np.pad(counts, (0, -len(counts) % width))
  return padded.reshape(-1, width).sum(axis=1)
