"""Pictures of a run: spectrograms by piece, levels by velocity, joins."""

from collections.abc import Sequence
import pathlib

import joins
import material
from matplotlib.figure import Figure
import measures
import numpy as np
import renderings

from music_spectrogram_diffusion import audio

_COLUMNS = 8  # Of small pictures, side by side.


def draw_all(
  folder: pathlib.Path,
  pieces: Sequence[renderings.Piece],
  played: dict[str, dict[str, renderings.Rendering]],
  config: audio.SpectrogramConfig,
):
  """Draws each piece: its notes, the soundfont's spectrogram, the models'.

  Args:
    folder: Where PIECE.png goes.
    pieces: What to draw.
    played: {row of a model: {piece: rendering}}.
    config: Gives the axes.
  """
  folder.mkdir(parents=True, exist_ok=True)
  for piece in pieces:
    log_mels = {"soundfont": piece.log_mel}
    for name, row in played.items():
      log_mels[name] = row[piece.name].log_mel
    draw(folder / f"{piece.name}.png", piece, log_mels, config)


def draw(
  path: pathlib.Path,
  piece: renderings.Piece,
  log_mels: dict[str, np.ndarray],
  config: audio.SpectrogramConfig,
):
  """Draws a piano roll and, below it, spectrograms on one scale of time."""
  figure = Figure(figsize=(12, 2.2 * (1 + len(log_mels))), layout="constrained")
  axes = figure.subplots(1 + len(log_mels), sharex=True)
  duration_s = len(piece.log_mel) / config.frame_rate
  _draw_notes(axes[0], piece)
  axes[0].set_title(piece.name, loc="left")
  for axis, (name, log_mel) in zip(axes[1:], log_mels.items(), strict=True):
    axis.imshow(
      log_mel.T,
      origin="lower",
      aspect="auto",
      extent=(0, duration_s, 0, config.n_mels),
      vmin=-8,
      vmax=config.log_max,
      cmap="magma",
      interpolation="nearest",
    )
    axis.set(title=name, ylabel="mel bin")
  axes[-1].set(xlabel="seconds", xlim=(0, duration_s))
  figure.savefig(path, dpi=100)


def _draw_notes(axis, piece):
  """Bars of pitched notes, one colour a program; dots of drums."""
  pitched = piece.notes[~piece.notes.is_drum]
  for index, program in enumerate(np.unique(pitched.program)):
    part = pitched[pitched.program == program]
    axis.hlines(
      part.pitch, part.onset, part.offset, lw=2, color=f"C{index % 10}"
    )
  drums = piece.notes[piece.notes.is_drum]
  axis.plot(drums.onset, drums.pitch, "k.", ms=2)
  axis.set_ylabel("pitch")


def draw_dynamics(path: pathlib.Path, rows: Sequence[measures.Row]):
  """Draws the levels of each figure's notes over their velocities."""
  instruments = list(rows[0].measures.dynamics)
  num_lines = -(-len(instruments) // _COLUMNS)
  figure = Figure(figsize=(2 * _COLUMNS, 1.7 * num_lines), layout="constrained")
  axes = figure.subplots(
    num_lines, _COLUMNS, sharex=True, sharey=True, squeeze=False
  )
  order = np.argsort(material.VELOCITIES)
  velocities = np.array(material.VELOCITIES)[order]
  for axis, instrument in zip(axes.flat, instruments, strict=False):
    axis.set_title(instrument, fontsize=8)
    for row in rows:
      levels = np.array(row.measures.dynamics[instrument].levels_db)
      axis.plot(velocities, levels[order], lw=1, label=row.name)
  for axis in axes.flat[len(instruments) :]:
    axis.axis("off")
  axes[0, 0].set_ylabel("dB")
  handles, labels = axes[0, 0].get_legend_handles_labels()
  figure.legend(handles, labels, loc="outside right upper")
  figure.supxlabel("velocity")
  figure.savefig(path, dpi=100)


def draw_joins(path: pathlib.Path, rows: Sequence[measures.Row]):
  """Draws how many joins lie below each rank: a diagonal, if they are like
  anywhere else."""
  figure = Figure(figsize=(5, 4), layout="constrained")
  axis = figure.subplots()
  for row in rows:
    ranks = np.sort(row.measures.joins)
    axis.step(ranks, np.linspace(0, 1, len(ranks)), label=row.name)
  axis.plot([0, 1], [0, 1], "k:", lw=1)
  axis.axvline(joins.HIGH, color="k", lw=0.5)
  axis.set(xlabel="rank of the change at a join", ylabel="share of joins")
  axis.legend(fontsize=7)
  figure.savefig(path, dpi=100)
