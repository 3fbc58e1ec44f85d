"""What is asked of the default model, and whether a row does it."""

import dataclasses

import families
import joins
import measures
import numpy as np

# Where the transcriber cannot hear a family even in the ground truth, a ratio
# to that says nothing.
_LEAST_F1 = 0.1


@dataclasses.dataclass(frozen=True)
class Target:
  """A number, and what it is to be.

  Attributes:
    name: What is asked.
    value: What was measured.
    bound: What it is to reach, or not to exceed.
    reached: Whether it does; None where nothing could be measured.
    note: Details.
  """

  name: str
  value: float
  bound: str
  reached: bool | None
  note: str = ""


def check(row: measures.Row, truth: measures.Row) -> list[Target]:
  """All targets of one row.

  Args:
    row: Of a model.
    truth: The soundfont's spectrograms through the same inverter.
  """
  return [
    _notes(row.measures, truth.measures),
    _families(row.measures, truth.measures),
    _drums(row.measures, truth.measures),
    _velocity(row.measures),
    *_joins(row.measures),
  ]


def judged_families(truth: measures.Measures) -> list[str]:
  """Families with enough notes, which the transcriber can hear at all."""
  return [
    family
    for family, counts in truth.solos.items()
    if counts.asked >= families.MIN_NOTES and counts.onset_f1 >= _LEAST_F1
  ]


def _at_least(name, value, bound, note=""):
  reached = None if np.isnan(value) else bool(value >= bound)
  return Target(name, value, f">= {bound}", reached, note)


def _ratio(row, truth, field, attribute):
  """Of the means of a figure over pieces."""
  values = [
    np.mean([getattr(score, attribute) for score in getattr(x, field).values()])
    if getattr(x, field)
    else np.nan
    for x in (row, truth)
  ]
  return float(values[0] / values[1]) if values[1] else np.nan


def _notes(row, truth):
  value = _ratio(row, truth, "pieces", "onset_f1")
  return _at_least("note F1, of ground truth's", value, 0.9)


def _families(row, truth):
  ratios = {
    family: row.solos[family].onset_f1 / truth.solos[family].onset_f1
    for family in judged_families(truth)
  }
  missed = [name for name, ratio in ratios.items() if ratio < 0.75]
  note = f"{len(ratios) - len(missed)} of {len(ratios)} families reach it"
  if missed:
    note += "; missed: " + ", ".join(
      f"{name} {ratios[name]:.2f}" for name in sorted(missed, key=ratios.get)
    )
  return _at_least(
    "note F1 of the worst family alone, of ground truth's",
    min(ratios.values(), default=np.nan),
    0.75,
    note,
  )


def _drums(row, truth):
  value = _ratio(row, truth, "drums", "f1")
  return _at_least("drum onset F1, of ground truth's", value, 0.8)


def _velocity(row):
  values = {name: x.with_velocity for name, x in row.dynamics.items()}
  low = sorted((n for n in values if values[n] < 0.8), key=values.get)
  note = f"{len(values) - len(low)} of {len(values)} instruments reach it"
  if low:
    note += f"; lowest: {low[0]} {values[low[0]]:.2f}"
  value = float(np.mean(list(values.values()))) if values else np.nan
  return _at_least(
    "velocity correlation, mean of instruments", value, 0.8, note
  )


def _joins(row):
  """Joins stand out no more than the soundfont's, but for chance."""
  pairs = np.array(row.joins), np.array(row.soundfont_joins)
  named = {
    "rank of joins over the soundfont's": pairs,
    f"joins over the {joins.HIGH:.0%} rank, share over the soundfont's": [
      x > joins.HIGH for x in pairs
    ],
  }
  for name, (values, reference) in named.items():
    mean, error = joins.excess(
      np.asarray(values, float), np.asarray(reference, float)
    )
    yield Target(
      name,
      mean,
      f"<= {2 * error:.3f}",
      bool(mean <= 2 * error) if len(values) else None,
      f"{len(values)} joins; the bound is two standard errors",
    )
