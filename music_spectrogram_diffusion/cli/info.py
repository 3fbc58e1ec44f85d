"""The verb `info`: what is in MIDI files, a model directory or a task."""

import json
from pathlib import Path
import re
from typing import Annotated, Any

import typer

from music_spectrogram_diffusion.cli import console

_NUM_EXAMPLES = 4
_MODEL_FILES = ("config.json", "model.safetensors")


def info(
  what: Annotated[
    str,
    typer.Argument(metavar="MIDI|MODEL_DIR|FOLDER|TASK", show_default=False),
  ],
  output: Annotated[
    Path | None,
    typer.Option(
      "--output",
      "-o",
      help="Of a task or a folder: where to write pictures.",
      metavar="DIR",
    ),
  ] = None,
  split: Annotated[str, typer.Option(help="Of a task: the split.")] = "train",
  count: Annotated[
    int | None,
    typer.Option(
      "--n",
      min=1,
      help="How many examples of a task (4), or pieces of a folder (all).",
      show_default=False,
    ),
  ] = None,
  seconds: Annotated[
    float,
    typer.Option(min=0.1, help="Of whole songs, how much of each."),
  ] = 30.0,
  seed: Annotated[
    int, typer.Option(min=0, help="Another seed shows other examples.")
  ] = 0,
  data_dir: Annotated[
    Path | None,
    typer.Option(
      "--data_dir",
      help="Folder of prepared datasets.  [default: $SPEC_DIFF_DATA_DIR]",
    ),
  ] = None,
  cache_dir: Annotated[
    Path | None,
    typer.Option(
      "--cache_dir", help="Folder of what seqio_cache_tasks wrote, to read it."
    ),
  ] = None,
  module: Annotated[
    str, typer.Option(help="Module that registers tasks.")
  ] = "music_spectrogram_diffusion.tasks",
) -> None:
  """Describe MIDI files or a model directory, or show examples of a task.

  Of a folder of MIDI files or prepared songs, and of `generator`, whose pieces
  the default model is trained on: what is in all of them together, how dense
  they are, how long and how loud their notes; as a picture, too, with -o.

  Of a task such as maestro_with_context_train, each example becomes a picture
  of its notes over its spectrogram, audio, MIDI, and its tokens as text, in the
  folder that -o names: whether notes and sound lie together is seen at once.
  """
  path = Path(what)
  with console.warnings_as_lines(what):
    if _is_collection(what):
      from music_spectrogram_diffusion.cli import surveying

      surveying.survey(what, count=count, output=output)
    elif output is not None:
      _show_task(
        what,
        output,
        split=split,
        count=count or _NUM_EXAMPLES,
        max_s=seconds,
        seed=seed,
        data_dir=data_dir,
        cache_dir=cache_dir,
        module=module,
      )
    elif path.is_dir():
      _describe_model(path)
    elif path.exists() or _names_a_file(path):
      _describe_midi(path)
    else:
      raise ValueError(
        f"Expected a MIDI file or a model directory, found no {what}; to look"
        f" at a task, say where to write: `spec-diff info {what} -o DIR`."
      )


def _is_collection(what: str) -> bool:
  """Whether many pieces are meant: a folder that holds no model, or ours."""
  path = Path(what)
  if path.is_dir():
    return not any((path / name).exists() for name in _MODEL_FILES)
  return what == "generator" and not path.exists()


def _names_a_file(path: Path) -> bool:
  """Whether a path that is not there was meant to be a MIDI file."""
  from music_spectrogram_diffusion import notes

  return path.suffix.lower() in notes.MIDI_SUFFIXES


def _show_task(task: str, output: Path, **settings: Any) -> None:
  from music_spectrogram_diffusion.cli import looking

  if not looking.write_examples(task, output, **settings):
    raise ValueError(
      f"Expected examples of {task} in the split {settings['split']}; found"
      " none."
    )


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
