"""The verb `info`: what is in a MIDI file or a model directory."""

import json
from pathlib import Path
import re
from typing import Annotated

import typer

from music_spectrogram_diffusion.cli import console


def info(
  path: Annotated[
    Path, typer.Argument(metavar="MIDI|MODEL_DIR", show_default=False)
  ],
) -> None:
  """Describe a MIDI file or a model directory."""
  with console.warnings_as_lines(path):
    if path.is_dir():
      _describe_model(path)
    else:
      _describe_midi(path)


def _describe_midi(path: Path) -> None:
  import numpy as np
  import rich.box
  import rich.table

  from music_spectrogram_diffusion import notes

  piece = notes.read_midi(path)
  table = rich.table.Table(box=rich.box.SIMPLE)
  table.add_column("program")
  for heading in ("notes", "pitches", "velocities", "from-to (s)", "at once"):
    table.add_column(heading, justify="right")
  parts = [
    (f"{program} {notes.PROGRAM_NAMES[program]}", piece[rows])
    for program in np.unique(piece.program[~piece.is_drum]).tolist()
    for rows in [~piece.is_drum & (piece.program == program)]
  ]
  if piece.is_drum.any():
    parts.append(("Drums", piece[piece.is_drum]))
  for name, part in parts:
    table.add_row(
      name,
      str(len(part)),
      f"{part.pitch.min()}-{part.pitch.max()}",
      f"{part.velocity.min()}-{part.velocity.max()}",
      f"{part.onset.min():.1f}-{part.offset.max():.1f}",
      str(max_polyphony(part)),
    )
  console.show(table)

  segments = notes.tokenize_segments(
    notes.to_slakh_classes(piece),
    vocabulary=notes.Vocabulary(),
  )
  lengths = [len(tokens) for tokens in segments]
  print(f"duration         {piece.duration_s:.1f} s")
  print(f"notes            {len(piece)}")
  print(f"notes at once    {max_polyphony(piece)} at most")
  print(f"segments         {len(lengths)}")
  print(
    f"tokens/segment   {np.median(lengths):.0f} median, {max(lengths)} at most"
  )


def max_polyphony(piece) -> int:
  """Most notes of a `notes.Notes` that sound at the same moment."""
  import numpy as np

  times = np.concatenate([piece.offset, piece.onset])
  changes = np.repeat([-1, 1], len(piece))
  # Stable, so that a note that ends where another starts counts once.
  order = np.argsort(times, kind="stable")
  return int(np.cumsum(changes[order]).max(initial=0))


def _describe_model(path: Path) -> None:
  import jax

  from music_spectrogram_diffusion import checkpoints

  config, parameters = checkpoints.load_model_directory(path)
  leaves = jax.tree.leaves(parameters)
  text = json.dumps(config, indent=2)
  # An array to a line; JSON would take a line for each of its numbers.
  print(re.sub(r"\[[^\[{]*?\]", lambda m: " ".join(m[0].split()), text))
  print(f"parameters       {sum(leaf.size for leaf in leaves):,}")
  print(f"SHA-256          {checkpoints.weights_hash(path)}")
