import pytest

from music_spectrogram_diffusion.evaluation import (
  evaluate,
  measures,
  pictures,
  report,
  results,
)


@pytest.fixture
def store(tone, a_system, tmp_path):
  """Songs whose renderings are the quieter, the later they come."""
  store = results.ResultStore(tmp_path, {})
  for place, id in enumerate("abcde"):
    system = a_system("m", lambda song, p=place: song.samples / (p + 1))
    evaluator = evaluate.Evaluator([system], [measures.SpectralMeasure()])
    store.add(evaluate.evaluate_song(tone(id), evaluator))
  return store


def test_a_panel_a_metric_and_a_bar_a_group_and_system(store):
  summary = report.summarize(store)
  figure = pictures.draw_metrics(summary.by_dataset, "title")
  assert [axes.get_ylabel().partition("\n")[0] for axes in figure.axes] == [
    "STFT distance",
    "log-mel distance",
  ]
  assert [len(axes.patches) for axes in figure.axes] == [2, 2]
  labels = [text.get_text() for text in figure.axes[-1].get_xticklabels()]
  assert labels == ["tones"]


def test_the_best_the_median_and_the_worst_song_are_shown(store):
  figure = pictures.draw_songs(store, "m")
  titles = [axes.get_title() for axes in figure.axes]
  shown = [title.partition("\n")[0] for title in titles if title]
  assert shown == ["best: tones/a", "median: tones/c", "worst: tones/e"]
  assert len(figure.axes) == 6
  assert all(len(axes.images) == 1 for axes in figure.axes)


def test_what_a_song_lacks_stays_empty(store, tone, a_system):
  silent = a_system("m", lambda song: song.samples[:0])
  evaluator = evaluate.Evaluator([silent], [measures.SpectralMeasure()])
  store.add(evaluate.evaluate_song(tone("f"), evaluator))
  assert len(pictures.draw_songs(store, "m").axes) == 6
  assert pictures.draw_songs(store, "other") is None


def test_no_songs_are_no_picture_and_no_error(tmp_path):
  assert pictures.draw_songs(results.ResultStore(tmp_path, {}), "m") is None
  assert pictures.draw_metrics({}, "nothing") is not None


def test_long_names_are_drawn(store):
  summary = report.summarize(store)
  groups = {"x" * 40: summary.systems, "$_$": summary.systems}
  figure = pictures.draw_metrics(groups, "title")
  figure.draw_without_rendering()
