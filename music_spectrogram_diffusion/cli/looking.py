"""What `info TASK` writes: pictures, sounds and tokens of a few examples."""

from collections.abc import Iterator
from pathlib import Path
import re
from typing import Any

import numpy as np

from music_spectrogram_diffusion import audio, data, inverter, notes
from music_spectrogram_diffusion.cli import outputs, plotting

_PITCH_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_MAX_NAME = 60


def write_examples(task: str, directory: Path, **settings: Any) -> int:
  """Writes the examples of a task, and prints a line on each.

  Args:
    task: Name of the task.
    directory: Where to write; made if missing. What lies there under the same
      names is replaced.
    settings: Arguments of `data.read_task_examples`.

  Returns:
    How many there were.
  """
  directory.mkdir(parents=True, exist_ok=True)
  invert = None
  count = 0
  for count, example in enumerate(data.read_task_examples(task, **settings), 1):
    invert = invert or inverter.GriffinLim(example.config)
    name = f"{count:02d}_{_file_name(example.id)}".rstrip("_")
    _write(directory / name, example, invert)
    print(f"{directory / name}: {_summary(example)}", flush=True)
  return count


def _write(stem: Path, example: data.TaskExample, invert) -> None:
  """Writes the files of an example, whose names begin with `stem`."""
  config = example.config
  outputs.write_whole(_with(stem, ".png"), _picture(stem.name, example))
  text = "\n".join([*_facts(example), "", *describe_tokens(example)]) + "\n"
  outputs.write_whole(_with(stem, ".txt"), text.encode())
  notes.write_midi(example.notes, _with(stem, ".mid"))
  sounds = {".inverted.wav": invert(example.targets)}
  if len(example.context):
    sounds[".context.wav"] = invert(example.context)
  if example.audio is not None:
    sounds[".original.wav"] = example.audio
  for ending, samples in sounds.items():
    path = _with(stem, ending)
    with audio.AudioWriter(path, config.sample_rate, overwrite=True) as writer:
      writer.write(samples)


def _with(stem: Path, ending: str) -> Path:
  return stem.with_name(stem.name + ending)


def _file_name(id: str) -> str:
  """An id as part of a file's name."""
  return re.sub(r"[^\w.-]+", "_", id)[-_MAX_NAME:].strip("._")


def _summary(example: data.TaskExample) -> str:
  """One line: lengths, and whether notes and spectrogram lie together."""
  rate = example.config.frame_rate
  num_tokens = sum(len(tokens) for tokens in example.tokens)
  return (
    f"{len(example.targets) / rate:.2f} s after"
    f" {len(example.context) / rate:.2f} s of context, {len(example.notes)}"
    f" notes, {num_tokens} tokens; {_lag(example)}"
  )


def _lag(example: data.TaskExample) -> str:
  """Whether sound comes with its notes."""
  lag_s = round(example.found.lag_s, 2) + 0.0  # Not -0.00.
  return f"sound {lag_s:+.2f} s after notes, score {example.found.score:.2f}"


def _facts(example: data.TaskExample) -> Iterator[str]:
  """The head of the text file."""
  config = example.config
  start_s = example.first_frame / config.frame_rate
  yield f"id            {example.id}"
  yield f"first frame   {example.first_frame} ({start_s:.2f} s)"
  for name in ("targets", "context"):
    log_mel = getattr(example, name)
    seconds = len(log_mel) / config.frame_rate
    line = f"{name:<13} {len(log_mel)} frames ({seconds:.2f} s)"
    if len(log_mel):
      line += f", log-mel from {log_mel.min():.2f} to {log_mel.max():.2f}"
    yield line
  yield f"notes         {len(example.notes)}"
  yield f"onsets        {_lag(example)}"


def describe_tokens(example: data.TaskExample) -> Iterator[str]:
  """A line for each token: its place, its id, and what it says."""
  for index, tokens in enumerate(example.tokens):
    if index:
      yield ""
    yield f"segment {index}: {len(tokens)} tokens"
    for place, token in enumerate(tokens.tolist()):
      meaning = _meaning(token, example.vocabulary)
      yield f"{place:5d} {token:5d}  {meaning}"


def _meaning(token: int, vocabulary: notes.Vocabulary) -> str:
  """What a token says, times and pitches with their names."""
  special = {
    notes.PAD: "padding",
    notes.EOS: "end",
    notes.UNK: "unknown",
    vocabulary.tie: "tie: what is above was held from before",
  }
  if token in special:
    return special[token]
  kinds = {
    "shift": lambda value: f"at {value / 100:.2f} s",
    "pitch": lambda value: f"pitch {value} ({_pitch_name(value)})",
    "velocity": lambda value: f"velocity {value}" if value else "velocity off",
    "program": lambda value: f"program {value} ({notes.PROGRAM_NAMES[value]})",
    "drum": lambda value: f"drum {value}",
  }
  for kind, describe in kinds.items():
    ids = getattr(vocabulary, kind)
    if token in ids:
      return describe(ids.index(token))
  return "of no meaning"


def _pitch_name(pitch: int) -> str:
  """As C4 for 60."""
  return f"{_PITCH_NAMES[pitch % 12]}{pitch // 12 - 1}"


def _picture(title: str, example: data.TaskExample) -> bytes:
  """Piano roll over spectrogram, the context first, as a PNG."""
  context_s = len(example.context) / example.config.frame_rate
  start_s = example.first_frame / example.config.frame_rate
  moved = example.notes
  shifted = notes.Notes.from_columns(
    moved.onset + context_s,
    moved.offset + context_s,
    moved.pitch,
    moved.velocity,
    moved.program,
    moved.is_drum,
  )
  log_mel = np.concatenate([example.context, example.targets])
  figure = plotting.draw_rendering(
    shifted,
    log_mel,
    config=example.config,
    title=f"{title}, from {start_s:.2f} s: {_lag(example)}",
  )
  if context_s:
    for axes in figure.axes[:2]:
      axes.axvline(context_s, color="0.5", linestyle="--", linewidth=1)
  return plotting.png(figure)
