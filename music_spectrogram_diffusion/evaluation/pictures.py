"""Pictures of an evaluation: metrics side by side, and songs to look at."""

from collections.abc import Mapping

from matplotlib import figure as mpl_figure
import numpy as np

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.evaluation import report, results
from music_spectrogram_diffusion.evaluation.systems import GROUND_TRUTH

_CONFIG = audio.SpectrogramConfig()
_TITLES = ("best", "median", "worst")


def draw_metrics(
  groups: Mapping[str, report.Scores], title: str
) -> mpl_figure.Figure:
  """Bars of each metric, by group and system.

  Args:
    groups: Scores by dataset, or by instrument.
    title: Line on top.
  """
  metrics = list(
    dict.fromkeys(
      metric
      for systems in groups.values()
      for cells in systems.values()
      for metric in cells
    )
  )
  systems = list(dict.fromkeys(s for group in groups.values() for s in group))
  width = 3.0 + 0.25 * len(groups) * max(len(systems), 2)
  figure = mpl_figure.Figure(
    figsize=(max(width, 7.0), 1.0 + 2.2 * max(len(metrics), 1)),
    layout="constrained",
  )
  panels = figure.subplots(max(len(metrics), 1), squeeze=False, sharex=True)
  bar = 0.8 / max(len(systems), 1)
  for metric, axes in zip(metrics, panels[:, 0], strict=False):
    for place, system in enumerate(systems):
      cells = [group.get(system, {}).get(metric) for group in groups.values()]
      heights = [np.nan if cell is None else cell.value for cell in cells]
      position = np.arange(len(groups)) + (place + 0.5) * bar - 0.4
      axes.bar(position, heights, bar, label=_plain(system))
    arrow = "lower" if report.is_distance(metric) else "higher"
    label = f"{_plain(metric)}\n({arrow} is better)"
    axes.set_ylabel(label, fontsize="small")
    axes.grid(axis="y", alpha=0.3)
  last = panels[-1, 0]
  labels = [_plain(name) for name in groups]
  last.set_xticks(np.arange(len(groups)), labels, rotation=30, ha="right")
  handles, labels = panels[0, 0].get_legend_handles_labels()
  if handles:
    figure.legend(handles, labels, loc="outside lower center", fontsize="small")
  figure.suptitle(title)
  return figure


def draw_songs(
  store: results.ResultStore, system: str
) -> mpl_figure.Figure | None:
  """Spectrograms of a system's best, median and worst song.

  The songs are columns; the recording and all systems are rows.

  Returns:
    A figure, or None where no song has a distance.
  """
  ranked = _ranked(store, system)
  if not ranked:
    return None
  metric, songs = ranked
  picked = [songs[0], songs[len(songs) // 2], songs[-1]]
  systems = list(picked[0][2])
  figure = mpl_figure.Figure(
    figsize=(15.0, 1.0 + 2.2 * len(systems)), layout="constrained"
  )
  panels = figure.subplots(len(systems), len(picked), squeeze=False)
  for column, title, (value, key, names) in zip(
    panels.T, _TITLES, picked, strict=True
  ):
    arrays = store.arrays(key)
    for axes, name in zip(column, systems, strict=True):
      excerpt = arrays.excerpt(name) if name in names else None
      if excerpt is None:
        axes.set_axis_off()
        continue
      axes.imshow(
        excerpt.T,
        aspect="auto",
        origin="lower",
        cmap="magma",
        vmin=0,
        vmax=255,
        extent=(0.0, len(excerpt) / _CONFIG.frame_rate, 0, _CONFIG.n_mels),
      )
    column[0].set_title(
      f"{title}: {_plain(key)}\n{_plain(metric)} {value:.2f}",
      fontsize="small",
    )
    column[-1].set_xlabel("time from the first note (s)")
  for axes, name in zip(panels[:, 0], systems, strict=True):
    axes.set_ylabel(f"{_plain(name)}\nmel bin", fontsize="small")
  figure.suptitle(f"Songs of {_plain(system)}")
  return figure


def _plain(text: str) -> str:
  """Text in which a dollar sign is one, and no formula begins."""
  return text.replace("$", r"\$")


def _ranked(
  store: results.ResultStore, system: str
) -> tuple[str, list[tuple[float, str, list[str]]]] | None:
  """The metric, and (value, key, systems) of songs, the best one first."""
  metric = None
  songs = []
  for record in store.records():
    scores = record["systems"].get(system, {"scores": {}})["scores"]
    metric = metric or report.ranking_metric(scores)
    if metric in scores:
      others = [name for name in record["systems"] if name != GROUND_TRUTH]
      songs.append((scores[metric], record["key"], [GROUND_TRUTH, *others]))
  return (metric, sorted(songs)) if songs else None
