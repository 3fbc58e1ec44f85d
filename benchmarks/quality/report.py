"""The table, the JSON and the pictures of a run."""

from collections.abc import Sequence
import dataclasses
import json
import pathlib

from matplotlib.figure import Figure
import numpy as np
import renderings
import scores

from music_spectrogram_diffusion import audio


def table(
  rows: dict[str, dict[str, scores.Score]], config: audio.SpectrogramConfig
) -> str:
  """Lays out the scores in Markdown: means, then pieces, then families.

  Args:
    rows: {row: {piece: score}}; the row "ground truth" is what others are
      compared with.
    config: Gives the unit of the models' scale.
  """
  low, high = config.mel_range
  to_scale = 2.0 / (high - low)
  truth = _mean(rows["ground truth"], "onset_f1")
  means = []
  for name, row in rows.items():
    onset_f1 = _mean(row, "onset_f1")
    mel, sound = _mean(row, "mel_distance"), _mean(row, "audio_distance")
    means.append(
      [
        name,
        f"{onset_f1:.3f}",
        f"{onset_f1 / truth:.2f}" if truth else "-",
        f"{_mean(row, 'offset_f1'):.3f}",
        f"{mel:.3f}",
        f"{to_scale * mel:.4f}",
        f"{sound:.3f}",
      ]
    )
  by_piece = [
    [piece, str(sum(score.asked.values()))]
    + [f"{row[piece].onset_f1:.3f}" for row in rows.values()]
    + [f"{row[piece].mel_distance:.2f}" for row in _models(rows).values()]
    for piece, score in rows["ground truth"].items()
  ]
  asked = _total(rows["ground truth"], "asked")
  by_family = [
    [family, str(asked[family])]
    + [
      f"{_total(row, 'found').get(family, 0) / asked[family]:.3f}"
      for row in rows.values()
    ]
    for family in sorted(asked, key=asked.get, reverse=True)
  ]
  return "\n".join(
    [
      *_markdown(
        [
          "mean over pieces",
          "note F1",
          "of ground truth",
          "with offsets",
          "mel distance, nats",
          "on the model's scale",
          "of the audio, nats",
        ],
        means,
      ),
      "",
      *_markdown(
        ["note F1", "notes", *rows]
        + [f"mel distance of {name}" for name in _models(rows)],
        by_piece,
      ),
      "",
      *_markdown(["notes found, by family", "notes", *rows], by_family),
      "",
    ]
  )


def write_json(
  path: pathlib.Path, rows: dict[str, dict[str, scores.Score]], about: dict
):
  """Saves every score of a run, with what the run was."""
  result = {
    "about": about,
    "rows": {
      name: {piece: dataclasses.asdict(score) for piece, score in row.items()}
      for name, row in rows.items()
    },
  }
  path.write_text(json.dumps(result, indent=1) + "\n")


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
    played: {row: {piece: rendering}}.
    config: Gives the axes.
  """
  folder.mkdir(parents=True, exist_ok=True)
  for piece in pieces:
    log_mels = {"soundfont": piece.log_mel}
    for name, row in _models(played).items():
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


def _markdown(header, body):
  """Lines of a table."""
  rule = "|" + "---|" * len(header)
  lines = [f"| {' | '.join(cells)} |" for cells in [header, *body]]
  return [lines[0], rule, *lines[1:]]


def _models(rows):
  """The rows that come from a model."""
  references = ("soundfont", "ground truth")
  return {name: row for name, row in rows.items() if name not in references}


def _mean(row, field):
  return float(np.mean([getattr(score, field) for score in row.values()]))


def _total(row, field):
  """Sums {family: notes} over pieces."""
  total = {}
  for score in row.values():
    for family, count in getattr(score, field).items():
      total[family] = total.get(family, 0) + count
  return total
