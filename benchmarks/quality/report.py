"""The tables and the JSON of a run."""

from collections.abc import Sequence
import dataclasses
import json
import math
import pathlib

import families
import joins
import measures
import numpy as np
import targets

from music_spectrogram_diffusion import audio


def table(rows: Sequence[measures.Row], config: audio.SpectrogramConfig) -> str:
  """Lays out a run in Markdown: overall, by family, the rest, the targets.

  Args:
    rows: The first one is the soundfont's audio; each row's truth is there.
    config: Gives the unit of the models' scale.
  """
  sections = [
    _overall(rows, config),
    _in_the_mix(rows),
    _alone(rows),
    _the_rest(rows),
    *[_targets(row, rows) for row in rows if row.is_model],
  ]
  return "\n\n".join(map("\n".join, filter(None, sections))) + "\n"


def piece_table(rows: Sequence[measures.Row]) -> str:
  """Lays out, in Markdown, each piece's note F1 and mel distance."""
  models = [row for row in rows if row.is_model]
  body = [
    [name, str(sum(score.asked.values()))]
    + [f"{row.measures.pieces[name].onset_f1:.3f}" for row in rows]
    + [f"{row.measures.pieces[name].mel_distance:.2f}" for row in models]
    for name, score in rows[0].measures.pieces.items()
  ]
  header = ["note F1", "notes", *(row.name for row in rows)]
  header += [f"mel distance of {row.name}" for row in models]
  return "\n".join(_markdown(header, body)) + "\n"


def write_json(path: pathlib.Path, rows: Sequence[measures.Row], about: dict):
  """Saves everything that was measured in a run, with what the run was."""
  result = {"about": about, "rows": [dataclasses.asdict(row) for row in rows]}
  text = json.dumps(_without_nan(result), indent=1, allow_nan=False)
  path.write_text(text + "\n")


def _without_nan(value):
  """Null is in the place of what there is nothing to measure of."""
  if isinstance(value, dict):
    return {key: _without_nan(inner) for key, inner in value.items()}
  if isinstance(value, (list, tuple)):
    return [_without_nan(inner) for inner in value]
  is_nan = isinstance(value, float) and math.isnan(value)
  return None if is_nan else value


def _overall(rows, config):
  low, high = config.mel_range
  body = []
  for row in rows:
    truth = _find(rows, row.truth)
    onset, offset = (
      _mean(row, "pieces", field) for field in ("onset_f1", "offset_f1")
    )
    mel = _mean(row, "pieces", "mel_distance")
    body.append(
      [
        f"**{row.name}**" if row.is_model else row.name,
        f"{onset:.3f}",
        _ratio(onset, _mean(truth, "pieces", "onset_f1")),
        f"{offset:.3f}",
        _ratio(offset, _mean(truth, "pieces", "offset_f1")),
        f"{mel:.3f}",
        f"{2 * mel / (high - low):.4f}",
        f"{_mean(row, 'pieces', 'audio_distance'):.3f}",
        f"{row.measures.fad:.3f}",
      ]
    )
  header = [
    f"mean of {len(rows[0].measures.pieces)} pieces",
    "note F1",
    "of ground truth's",
    "with offsets",
    "of ground truth's",
    "mel distance, nats",
    "on the model's scale",
    "of the audio, nats",
    "FAD",
  ]
  return _markdown(header, body)


def _in_the_mix(rows):
  """Shares of the notes of each family that are found in the pieces."""
  asked, *_ = (_total(rows[0], field) for field in ["asked"])
  body = []
  for family in sorted(asked, key=asked.get, reverse=True):
    if asked[family] < families.MIN_NOTES:
      continue
    shares = [
      [
        _total(row, field).get(family, 0) / asked[family]
        for field in ("found", "found_whole")
      ]
      for row in rows
    ]
    body.append([family, str(asked[family]), *map(_pair, shares)])
  names = [row.name for row in rows]
  header = ["found in the mix: by onset / with offset", "notes", *names]
  return _markdown(header, body) if body else []


def _alone(rows):
  """Note F1 of each family where it plays alone."""
  judged = {
    row.truth: targets.judged_families(_find(rows, row.truth).measures)
    for row in rows
  }
  models = [row for row in rows if row.is_model]
  body = []
  for family, counts in rows[0].measures.solos.items():
    if counts.asked < families.MIN_NOTES:
      continue
    cells = [
      _pair([solo.onset_f1, solo.offset_f1])
      for solo in (row.measures.solos[family] for row in rows)
    ]
    for row in models:
      truth = _find(rows, row.truth).measures.solos[family]
      ratio = _ratio(row.measures.solos[family].onset_f1, truth.onset_f1)
      cells.append(ratio if family in judged[row.truth] else f"({ratio})")
    body.append([family, str(counts.asked), *cells])
  header = ["alone, note F1: by onset / with offset", "notes"]
  header += [row.name for row in rows]
  header += [f"{row.name}, of ground truth's" for row in models]
  return _markdown(header, body) if body else []


def _the_rest(rows):
  """Drums, dynamics, loudness and joins."""
  body = []
  for row in rows:
    truth = _find(rows, row.truth)
    ranks = np.array(row.measures.joins)
    drums = _mean(row, "drums", "f1")
    step = _mean(row, "held", "step_db")
    body.append(
      [
        f"**{row.name}**" if row.is_model else row.name,
        f"{drums:.3f}",
        _ratio(drums, _mean(truth, "drums", "f1")),
        f"{_mean(row, 'dynamics', 'with_velocity'):.2f}",
        f"{_mean(row, 'dynamics', 'with_soundfont'):.2f}",
        f"{_mean(row, 'dynamics', 'slope'):.2f}",
        _differences(row, "dynamics"),
        _differences(row, "levels"),
        f"{_mean(row, 'held', 'error_db'):.1f}",
        "-" if np.isnan(step) else f"{step:.1f}",
        f"{_mean(row, 'levels', 'envelope'):.2f}",
        f"{ranks.mean():.2f}" if len(ranks) else "-",
        f"{(ranks > joins.HIGH).mean():.0%}" if len(ranks) else "-",
      ]
    )
  header = [
    "",
    "drum onset F1",
    "of ground truth's",
    "velocity correlation",
    "with the soundfont's levels",
    "contrast",
    "loudness of single notes, dB",
    "of pieces, dB",
    "held notes off by, dB",
    "step at their joins, dB",
    "envelope",
    "rank of joins",
    f"over {joins.HIGH:.0%}",
  ]
  return _markdown(header, body)


def _targets(row, rows):
  results = targets.check(row, _find(rows, row.truth))
  words = {True: "reached", False: "**missed**", None: "not measured"}
  body = [
    [
      target.name,
      "-" if np.isnan(target.value) else f"{target.value:.3f}",
      target.bound,
      words[target.reached],
      target.note,
    ]
    for target in results
  ]
  return _markdown([f"targets: {row.name}", "", "asked", "", ""], body)


def _markdown(header, body):
  """Lines of a table."""
  rule = "|" + "---|" * len(header)
  lines = [f"| {' | '.join(cells)} |" for cells in [header, *body]]
  return [lines[0], rule, *lines[1:]]


def _find(rows, name):
  return next(row for row in rows if row.name == name)


def _mean(row, part, field):
  """Of one figure over pieces or instruments; NaN without any."""
  values = [getattr(x, field) for x in getattr(row.measures, part).values()]
  return float(np.mean(values)) if values else np.nan


def _differences(row, part):
  """Mean and deviation of the levels over the soundfont's."""
  values = [x.difference_db for x in getattr(row.measures, part).values()]
  return f"{np.mean(values):+.1f} ± {np.std(values):.1f}" if values else "-"


def _ratio(value, truth):
  return f"{value / truth:.2f}" if truth else "-"


def _pair(values):
  return " / ".join(f"{value:.2f}" for value in values)


def _total(row, field):
  """Sums {family: notes} over pieces."""
  total = {}
  for score in row.measures.pieces.values():
    for family, count in getattr(score, field).items():
      total[family] = total.get(family, 0) + count
  return total
