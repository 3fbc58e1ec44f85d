"""The table of a run, in Markdown."""

from collections.abc import Sequence

import measure
import numpy as np
import plan

from music_spectrogram_diffusion import evaluation


def name(setting: plan.Setting) -> str:
  """A setting in a few words."""
  low, high = setting.guidance_interval
  guided = f"guidance {setting.guidance_weight:g}"
  if (low, high) != (0.0, 1.0):
    guided += f" in {low:g} to {high:g}"
  return (
    f"{setting.sampler} {setting.spacing}, {setting.num_steps} steps to"
    f" {setting.end_time:g}, {guided}"
  )


def table(
  bench: measure.Bench,
  settings: Sequence[plan.Setting],
  base: plan.Setting,
  reference: np.ndarray | None,
) -> str:
  """A row for each setting, best note F1 first.

  Args:
    bench: What was measured.
    settings: Which were.
    base: The model's default, which is marked.
    reference: Spectrograms of the reference, of the first segments.
  """
  header = [
    "sampler",
    "spacing",
    "steps",
    "end",
    "guidance",
    "interval",
    "passes",
    "note F1",
    "from soundfont",
    "from 1000 steps",
    "diversity",
  ]
  rows = []
  for setting in settings:
    log_mels = bench.sample(setting)
    f1 = bench.note_f1(setting)
    mark = "**" if setting == base else ""
    low, high = setting.guidance_interval
    cells = [
      f"{mark}{setting.sampler}{mark}",
      setting.spacing,
      str(setting.num_steps),
      f"{setting.end_time:g}",
      f"{setting.guidance_weight:g}",
      f"{low:g} to {high:g}",
      str(setting.passes(bench.synthesizer.model)),
      "-" if f1 is None else f"{f1:.3f}",
      f"{measure.distance_to_soundfont(log_mels, bench.segments):.3f}",
      "-"
      if reference is None
      else f"{measure.distance_to_mean(log_mels, reference):.3f}",
      f"{measure.diversity(log_mels):.3f}" if bench.seeds > 1 else "-",
    ]
    rows.append((-(f1 or 0.0), cells))
  lines = [header, ["---"] * len(header)]
  lines += [cells for _, cells in sorted(rows, key=lambda row: row[0])]
  return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def about_reference(setting: plan.Setting, log_mels: np.ndarray) -> str:
  """A line on the reference: how far its own seeds are from each other."""
  return (
    f"\nReference: {name(setting)}, {log_mels.shape[1]} segments,"
    f" {log_mels.shape[0]} seeds; diversity {measure.diversity(log_mels):.3f},"
    " one seed from the mean of the others"
    f" {_one_from_the_others(log_mels):.3f}.\n"
  )


def _one_from_the_others(log_mels):
  """What the distance to the reference would be of one more of its seeds."""
  distances = [
    evaluation.log_mel_distance(
      np.delete(log_mels, index, axis=0).mean(0), log_mels[index]
    )
    for index in range(len(log_mels))
  ]
  return float(np.mean(distances))
