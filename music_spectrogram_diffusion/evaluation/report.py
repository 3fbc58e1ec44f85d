"""From results to tables: the paper's columns, its published rows, and more."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
from typing import Any
import warnings

from music_spectrogram_diffusion.evaluation import frechet, realtime, results
from music_spectrogram_diffusion.evaluation import measures as names
from music_spectrogram_diffusion.evaluation.systems import GROUND_TRUTH

REALTIME = "realtime factor"

PAPER_COLUMNS = {
  names.reconstruction("vggish"): "VGGish recon",
  names.frechet_name("vggish"): "VGGish FAD",
  names.reconstruction("trill"): "TRILL recon",
  names.frechet_name("trill"): "TRILL FAD",
  names.f1("full"): "F1 full",
  REALTIME: REALTIME,
}
"""The columns of table 1 of the paper, by what they are called in results."""

PUBLISHED = {
  "small autoregressive": (3.70, 1.03, 7.27, 0.39, 0.31, 10.55),
  "small without context": (3.49, 1.07, 6.16, 0.46, 0.31, 2.82),
  "small with context": (3.56, 1.10, 6.40, 0.53, 0.25, 3.07),
  "base with context": (3.13, 1.00, 2.74, 0.27, 0.36, 1.05),
  "ground truth through the inverter": (2.14, 0.51, 1.54, 0.05, 0.36, 12.25),
  "ground truth": (0.0, 0.0, 0.0, 0.0, 0.63, None),
}
"""Its rows. Hawthorne et al. 2022, https://arxiv.org/abs/2206.05408."""

SPEED_COLUMNS = ("mel alone", "inversion alone", REALTIME, "first segment (s)")
"""Realtime factors, and the seconds until the first audio is there."""

_RESAMPLES = 200
_MOST_EXAMPLES = 3


@dataclasses.dataclass(frozen=True)
class Cell:
  """A number of a table.

  Attributes:
    value: The number.
    interval: Where it would be with other songs, if that is known.
  """

  value: float
  interval: frechet.Interval | None = None

  def __str__(self) -> str:
    if self.interval is None:
      return _rounded(self.value)
    ends = self.interval.low, self.interval.high
    return f"{_rounded(self.value)} [{', '.join(map(_rounded, ends))}]"


def _rounded(value: float) -> str:
  """Two decimals, as in the paper, and three digits of what is larger."""
  decimals = 2 if value < 10 else 1 if value < 100 else 0
  return f"{value:.{decimals}f}"


Scores = dict[str, dict[str, Cell]]
"""Cells by system and by metric."""


@dataclasses.dataclass(frozen=True)
class Summary:
  """What all songs say together.

  Attributes:
    num_songs: How many were evaluated.
    duration_s: Their length.
    systems: Means over songs, Fréchet distances and realtime factors.
    by_dataset: Means and Fréchet distances of each dataset's songs.
    by_instrument: Means over songs by the share of their notes that an
      instrument has.
    problems: A line for each kind.
    overhead: Seconds of measuring a second of rendering; None without any.
  """

  num_songs: int
  duration_s: float
  systems: Scores
  by_dataset: dict[str, Scores]
  by_instrument: dict[str, Scores]
  problems: list[str]
  overhead: float | None


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows of text under headings, the first column being names."""

  title: str
  header: list[str]
  rows: list[list[str]]

  def markdown(self) -> str:
    """The table with its title above it."""
    rule = ["---"] + ["--:"] * (len(self.header) - 1)
    lines = [self.header, rule, *self.rows]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"## {self.title}\n\n{body}\n"


def summarize(store: results.ResultStore) -> Summary:
  """Reads all results once, and their statistics a few times, song by song.

  Results are taken in the order of their keys, so that it does not matter in
  which order they came.
  """
  records = sorted(store.records(), key=lambda record: record["key"])
  rendered = [record for record in records if record["systems"]]
  problems = _problem_lines(records)
  systems = _means(rendered, lambda record: 1.0)
  for system, factors in _realtime_factors(rendered).items():
    systems.setdefault(system, {}).update(factors)
  _add_frechet(systems, store, rendered, problems, _RESAMPLES)
  by_dataset = {}
  for name in sorted({record["dataset"] for record in rendered}):
    records = [record for record in rendered if record["dataset"] == name]
    by_dataset[name] = _means(records, lambda record: 1.0)
    # What is wrong with them is told of all together.
    _add_frechet(by_dataset[name], store, records, [], 0)
  instruments = {name for r in rendered for name in r["instruments"]}
  return Summary(
    num_songs=len(rendered),
    duration_s=float(sum(record["duration_s"] for record in rendered)),
    systems=systems,
    by_dataset=by_dataset,
    by_instrument={
      name: _means(rendered, lambda r, name=name: r["instruments"].get(name, 0))
      for name in sorted(instruments)
    },
    problems=problems,
    overhead=_overhead(rendered),
  )


def tables(summary: Summary) -> list[Table]:
  """The paper's table with our rows in it; what it lacks; and by dataset."""
  ours = _rows(summary.systems, PAPER_COLUMNS)
  published = [
    [f"{name} (published)", *("-" if v is None else f"{v:.2f}" for v in values)]
    for name, values in PUBLISHED.items()
  ]
  minutes = summary.duration_s / 60
  found = [
    Table(
      f"Table 1 of the paper: {summary.num_songs} songs, {minutes:.1f} min",
      ["", *PAPER_COLUMNS.values()],
      ours + published,
    )
  ]
  others = _metrics(summary.systems, (*PAPER_COLUMNS, *SPEED_COLUMNS))
  rendered = {
    name: row for name, row in summary.systems.items() if REALTIME in row
  }
  if others:
    found.append(_table("Further metrics", summary.systems, others))
  if rendered:
    found.append(_table("Seconds of audio a second", rendered, SPEED_COLUMNS))
  if len(summary.by_dataset) > 1:
    for dataset, systems in summary.by_dataset.items():
      title = f"Songs of {dataset}"
      found.append(_table(title, systems, _metrics(systems, ())))
  return found


def markdown(summary: Summary, facts: Mapping[str, Any]) -> str:
  """The report: tables, what was evaluated, and what went wrong.

  Args:
    summary: The results.
    facts: What was evaluated; a line each.
  """
  parts = ["# Evaluation\n"]
  parts += [table.markdown() for table in tables(summary)]
  parts.append(
    "Published rows are those of the paper, on its datasets and one TPU v4."
    " Intervals hold 95 % of resamplings of the songs. Lower is better, but for"
    " F1 and realtime factors.\n"
  )
  lines = [f"* {name}: {_in_words(value)}" for name, value in facts.items()]
  if summary.overhead is not None:
    lines.append(f"* measuring took {summary.overhead:.1%} of rendering")
  parts.append("## What was evaluated\n\n" + "\n".join(lines) + "\n")
  if summary.problems:
    lines = [f"* {line}" for line in summary.problems]
    parts.append("## Problems\n\n" + "\n".join(lines) + "\n")
  return "\n".join(parts)


def _in_words(value: Any) -> str:
  """A value of `Plan.facts` as a person would write it."""
  if isinstance(value, Mapping):
    value = [f"{name} {part}" for name, part in value.items()]
  if isinstance(value, list | tuple):
    return ", ".join(map(str, value)) or "-"
  return "-" if value is None else str(value)


def ranking_metric(scores: Iterable[str]) -> str | None:
  """By which metric songs are the best or worst: the first distance.

  Args:
    scores: The metrics that there are, in their order.
  """
  lower = [name for name in scores if is_distance(name)]
  return lower[0] if lower else None


def is_distance(metric: str) -> bool:
  """Whether less is better, as it is of all but F1."""
  return not metric.startswith(names.f1(""))


def _means(
  records: Sequence[Mapping[str, Any]],
  weight: Callable[[Mapping[str, Any]], float],
) -> Scores:
  """Weighted means over songs, of what each system has scores of."""
  sums: dict[str, dict[str, list[float]]] = {}
  for record in records:
    share = weight(record)
    for system, entry in record["systems"].items():
      row = sums.setdefault(system, {})
      for metric, value in entry["scores"].items():
        total = row.setdefault(metric, [0.0, 0.0])
        total[0] += share * value
        total[1] += share
  return {
    system: {
      metric: Cell(total / share)
      for metric, (total, share) in row.items()
      if share
    }
    for system, row in sums.items()
  }


def _realtime_factors(records) -> Scores:
  """Seconds of audio a second, of each system over all songs."""
  timings: dict[str, realtime.Timing] = {}
  for record in records:
    for system, entry in record["systems"].items():
      if "timing" in entry:
        timing = realtime.Timing(**entry["timing"])
        timings[system] = timings.get(system, realtime.Timing()) + timing
  found: Scores = {}
  for system, timing in timings.items():
    factors = timing.factors()
    speeds = [factors.get(name) for name in ("mel", "inversion", "realtime")]
    cells = zip(SPEED_COLUMNS, [*speeds, timing.first_s], strict=True)
    found[system] = {k: Cell(v) for k, v in cells if v is not None}
  return found


def _add_frechet(
  scores: Scores, store, records, problems: list[str], num_resamples: int
) -> None:
  """Adds the Fréchet distances of each system, and what is wrong with them."""
  kinds: dict[tuple[str, str], list[str]] = {}
  for record in records:
    for system, entry in record["systems"].items():
      for distance in entry.get("distances", ()):
        kinds.setdefault((system, distance), []).append(record["key"])
  for (system, distance), keys in kinds.items():
    if system == GROUND_TRUTH:
      scores.setdefault(system, {})[distance] = Cell(0.0)
      continue
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter("always", UserWarning)
      try:
        cell = _frechet_cell(store, keys, system, distance, num_resamples)
        scores.setdefault(system, {})[distance] = cell
      except ValueError as error:
        problems.append(f"{system}: no {distance}: {error}")
    if caught:  # Of the system and the recordings; one will do.
      problems.append(f"{system}, {distance}: {caught[0].message}")


def _frechet_cell(store, keys, system, distance, num_resamples) -> Cell:
  """The distance of a system's songs from their recordings."""

  def pairs():
    for key in keys:
      arrays = store.arrays(key)
      pair = tuple(
        arrays.statistics(distance, name) for name in (GROUND_TRUTH, system)
      )
      if None not in pair:
        yield pair

  total, num_songs = None, 0
  for pair in pairs():
    total = pair if total is None else _merged(total, pair)
    num_songs += 1
  if total is None:
    raise ValueError("the files of its songs are gone.")
  value = frechet.frechet_distance(*total)
  if num_songs < 2 or not num_resamples:
    return Cell(value)
  try:
    interval = frechet.bootstrap(
      pairs(), num_songs=num_songs, num_resamples=num_resamples
    )
  except ValueError:  # Songs of so few embeddings that a draw may have one.
    interval = None
  return Cell(value, interval)


def _merged(total, pair):
  return tuple(a.merge(b) for a, b in zip(total, pair, strict=True))


def _overhead(records) -> float | None:
  """Seconds of measuring a second of rendering, of all systems but recordings.

  Features of a recording are made once, and are counted with the measuring.
  """
  entries = [entry for r in records for entry in r["systems"].values()]
  render_s = sum(entry.get("render_s", 0.0) for entry in entries)
  measure_s = sum(entry["measure_s"] for entry in entries)
  return measure_s / render_s if render_s else None


def _metrics(systems: Scores, known: Iterable[str]) -> list[str]:
  """Metrics that a system has and that are not known, by their names."""
  found = {name for row in systems.values() for name in row} - set(known)
  return sorted(found)


def _table(title: str, systems: Scores, metrics: Sequence[str]) -> Table:
  """Metrics as rows and systems as columns: there may be many metrics."""
  order, *columns = zip(*_rows(systems, metrics), strict=True)
  rows = [[name, *cells] for name, cells in zip(metrics, columns, strict=True)]
  return Table(title, ["", *order], rows)


def _rows(systems: Scores, metrics: Iterable[str]) -> list[list[str]]:
  """A row a system, with a dash where it has no number; the recordings last."""
  order = sorted(systems, key=_place)
  metrics = list(metrics)
  return [
    [system, *(str(systems[system].get(name, "-")) for name in metrics)]
    for system in order
  ]


def _place(system: str) -> int:
  """Models before inverters before the recordings, as in the paper."""
  return 2 if system == GROUND_TRUTH else int(system.startswith(GROUND_TRUTH))


def _problem_lines(records) -> list[str]:
  """A line for each kind of problem: how many songs, and the first of them."""
  kinds: dict[tuple[str, str], list[str]] = {}
  for record in records:
    told = [("", record["problems"])]
    told += [(s, e["problems"]) for s, e in record["systems"].items()]
    for system, problems in told:
      for what, detail in problems:
        songs = kinds.setdefault((system, what), [])
        songs.append(f"{record['key']}: {detail}" if detail else record["key"])
  lines = []
  for (system, what), songs in kinds.items():
    examples = "; ".join(songs[:_MOST_EXAMPLES])
    more = "; ..." if len(songs) > _MOST_EXAMPLES else ""
    count = f"{len(songs)} song{'s' * (len(songs) > 1)}"
    start = f"{system}: " if system else ""
    lines.append(f"{start}{count}: {what} ({examples}{more})")
  return lines
