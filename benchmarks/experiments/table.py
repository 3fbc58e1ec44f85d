"""The table of the experiments."""

from collections.abc import Mapping
from typing import Any

import variants

_COLUMNS = {
  "x0 0.95": (".95", "{:.4f}"),
  "x0 0.6": (".6", "{:.4f}"),
  "x0 0.2": (".2", "{:.4f}"),
  "mel one step": ("mel, 1 step", "{:.3f}"),
  "mel few steps": ("3 steps", "{:.3f}"),
  "mel all the way": ("8 steps", "{:.3f}"),
  "f1 one step": ("F1, 1 step", "{:.3f}"),
  "f1 few steps": ("3 steps", "{:.3f}"),
  "velocity": ("velocity", "{:.2f}"),
  "dynamics": ("dynamics", "{:.2f}"),
}
_RELATIVE = ("f1 one step", "f1 few steps")


def layout(results: Mapping[str, Mapping[str, Any]]) -> str:
  """Lays out results in Markdown, in the order of the variants' groups.

  Args:
    results: By name of the variant, as `run.py` keeps them.
  """
  groups = list(dict.fromkeys(v.group for v in variants.VARIANTS))
  ordered = sorted(variants.VARIANTS, key=lambda v: groups.index(v.group))
  header = ["variant", "of", "steps", "GFLOP a step", "CPU ms a step"]
  rows = [header + [title for title, _ in _COLUMNS.values()]]
  rows.append(["---"] * len(rows[0]))
  for variant in ordered:
    if variant.name not in results:
      continue
    found = results[variant.name]
    row = [
      variant.name,
      variant.group,
      str(found["steps"]),
      f"{found['gigaflops_a_step']:.1f}",
      f"{1000 * found['seconds_a_step']:.0f}",
    ]
    scores = found["scores"]
    for key, (_, form) in _COLUMNS.items():
      value = scores[key]
      if key in _RELATIVE:
        value /= scores["f1 of ground truth"]
      row.append(form.format(value))
    rows.append(row)
  return "".join(f"| {' | '.join(row)} |\n" for row in rows)
