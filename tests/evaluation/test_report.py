import dataclasses

import numpy as np
import pytest

from music_spectrogram_diffusion.evaluation import frechet, report, results

TIMING = {
  "first_s": 9.0,
  "mel_s": 1.0,
  "mel_audio_s": 4.0,
  "inversion_s": 1.0,
  "inverted_audio_s": 4.0,
}


@dataclasses.dataclass
class Songs:
  """Fills a store with made-up results of a system "m"."""

  store: results.ResultStore
  embedded: dict = dataclasses.field(default_factory=dict)

  def add(
    self,
    id,
    distance,
    *,
    dataset="d",
    instruments=None,
    embeddings=None,
    problems=(),
    render_s=10.0,
  ):
    arrays, distances = {}, []
    if embeddings is not None:
      self.embedded[id] = embeddings
      distances = ["vggish FAD"]
      for system, values in zip(("ground truth", "m"), embeddings, strict=True):
        statistics = frechet.GaussianStatistics.of(values)
        arrays |= results.statistics_arrays(system, {"vggish FAD": statistics})
    scores = {"vggish reconstruction": distance, "F1 full": distance / 10}
    zero = {"vggish reconstruction": 0.0, "F1 full": 0.9}
    entry = {"problems": [], "measure_s": 1.0, "distances": distances}
    record = {
      "key": f"{dataset}/{id}",
      "dataset": dataset,
      "id": id,
      "duration_s": 60.0,
      "instruments": instruments or {},
      "problems": [],
      "systems": {
        "ground truth": entry | {"scores": zero},
        "m": entry
        | {"scores": scores, "problems": list(problems)}
        | {"render_s": render_s, "timing": TIMING},
      },
    }
    self.store.add(results.SongResult(record, arrays, {}))


@pytest.fixture
def songs(tmp_path):
  return Songs(results.ResultStore(tmp_path, {}))


def value(scores, metric, system="m"):
  return scores[system][metric].value


def test_songs_count_alike_whatever_their_dataset(songs):
  songs.add("a", 1.0, dataset="one")
  songs.add("b", 2.0, dataset="one")
  songs.add("c", 6.0, dataset="two")
  summary = report.summarize(songs.store)
  assert (summary.num_songs, summary.duration_s) == (3, 180.0)
  assert value(summary.systems, "vggish reconstruction") == 3.0
  assert value(summary.systems, "F1 full", "ground truth") == 0.9
  by_dataset = {
    name: value(systems, "vggish reconstruction")
    for name, systems in summary.by_dataset.items()
  }
  assert by_dataset == {"one": 1.5, "two": 6.0}


def test_an_instrument_weighs_songs_by_its_share_of_their_notes(songs):
  songs.add("a", 1.0, instruments={"Violin": 1.0})
  songs.add("b", 4.0, instruments={"Violin": 0.5, "Drums": 0.5})
  summary = report.summarize(songs.store)
  found = {
    name: value(systems, "vggish reconstruction")
    for name, systems in summary.by_instrument.items()
  }
  assert found == {"Drums": 4.0, "Violin": pytest.approx((1 + 2) / 1.5)}


def test_the_frechet_distance_is_that_of_all_songs_together(songs):
  rng = np.random.default_rng(0)
  pairs = [
    (rng.normal(size=(20, 2)), rng.normal(loc=1.0, size=(20, 2)))
    for _ in range(6)
  ]
  for index, pair in enumerate(pairs):
    songs.add(str(index), 1.0, embeddings=pair)
  summary = report.summarize(songs.store)
  cell = summary.systems["m"]["vggish FAD"]
  reference, estimate = (
    frechet.GaussianStatistics.of(np.concatenate(values))
    for values in zip(*pairs, strict=True)
  )
  expected = frechet.frechet_distance(reference, estimate)
  assert cell.value == pytest.approx(expected)
  assert cell.interval.low < cell.value < cell.interval.high
  assert value(summary.systems, "vggish FAD", "ground truth") == 0.0
  assert summary.problems == []


def test_each_dataset_has_a_frechet_distance_of_its_own(songs):
  rng = np.random.default_rng(0)
  for dataset, shift in (("near", 0.0), ("far", 5.0)):
    for id in "abc":
      pair = rng.normal(size=(20, 2)), rng.normal(loc=shift, size=(20, 2))
      songs.add(id, 1.0, dataset=dataset, embeddings=pair)
  by_dataset = report.summarize(songs.store).by_dataset
  assert value(by_dataset["near"], "vggish FAD") < 1
  assert value(by_dataset["far"], "vggish FAD") == pytest.approx(50, rel=0.1)


def test_fewer_than_two_embeddings_are_one_line_and_the_rest_is_there(songs):
  songs.add("a", 1.0, embeddings=(np.zeros((1, 2)), np.ones((1, 2))))
  summary = report.summarize(songs.store)
  [line] = summary.problems
  assert line.startswith("m: no vggish FAD: Expected at least two embeddings")
  assert "vggish FAD" not in summary.systems["m"]
  assert value(summary.systems, "vggish reconstruction") == 1.0


def test_few_embeddings_are_told_of_once(songs):
  rng = np.random.default_rng(0)
  songs.add("a", 1.0, embeddings=tuple(rng.normal(size=(2, 3, 4))))
  [line] = report.summarize(songs.store).problems
  assert line.startswith("m, vggish FAD: The")
  assert "3 embeddings of 4 dimensions" in line


def test_realtime_factors_and_overhead_are_of_all_songs_together(songs):
  songs.add("a", 1.0)
  songs.add("b", 1.0, render_s=30.0)
  summary = report.summarize(songs.store)
  row = {name: cell.value for name, cell in summary.systems["m"].items()}
  assert row["mel alone"] == row["inversion alone"] == 4.0
  assert row["realtime factor"] == 2.0
  assert row["first segment (s)"] == 9.0
  # Two systems of two songs were measured for a second each.
  assert summary.overhead == pytest.approx(4 / 40)


def test_problems_of_a_kind_are_one_line(songs):
  for id in "abcd":
    songs.add(id, 1.0, problems=[["the rendering is shorter", f"{id} s"]])
  [line] = report.summarize(songs.store).problems
  assert line == (
    "m: 4 songs: the rendering is shorter (d/a: a s; d/b: b s; d/c: c s; ...)"
  )


def test_songs_that_were_left_out_count_nowhere_but_in_the_problems(songs):
  songs.add("a", 2.0)
  record = {
    "key": "d/x",
    "dataset": "d",
    "id": "x",
    "problems": [["left out", "broken"]],
    "systems": {},
  }
  songs.store.add(results.SongResult(record, {}, {}))
  summary = report.summarize(songs.store)
  assert summary.num_songs == 1
  assert summary.problems == ["1 song: left out (d/x: broken)"]


def test_our_rows_stand_over_the_published_ones_in_the_paper_s_columns(songs):
  songs.add("a", 1.0)
  first, *others = report.tables(report.summarize(songs.store))
  assert first.header[1:] == [
    *("VGGish recon", "VGGish FAD", "TRILL recon", "TRILL FAD"),
    *("F1 full", "realtime factor"),
  ]
  rows = {row[0]: row[1:] for row in first.rows}
  assert list(rows)[:2] == ["m", "ground truth"]
  assert rows["m"] == ["1.00", "-", "-", "-", "0.10", "2.00"]
  base = rows["base with context (published)"]
  assert base == ["3.13", "1.00", "2.74", "0.27", "0.36", "1.05"]
  assert rows["ground truth (published)"][-1] == "-"
  [speeds] = others
  assert speeds.header == ["", "m"]
  assert speeds.rows[0] == ["mel alone", "4.00"]


@pytest.mark.parametrize(
  "number, text",
  [(0.126, "0.13"), (9.994, "9.99"), (12.34, "12.3"), (1234.5, "1234")],
)
def test_numbers_have_the_paper_s_decimals_and_no_powers_of_ten(number, text):
  assert str(report.Cell(number)) == text
  interval = frechet.Interval(number, 2.0, 0.95)
  assert str(report.Cell(1.0, interval)) == f"1.00 [{text}, 2.00]"


def test_the_report_holds_tables_facts_and_problems(songs):
  songs.add("a", 1.0, dataset="one", problems=[["what", ""]])
  songs.add("b", 2.0, dataset="two")
  facts = {"seed": 3, "tasks": ("a", "b"), "settings": {"steps": 2}}
  text = report.markdown(report.summarize(songs.store), facts)
  assert "| m | 1.50 | - |" in text
  assert "## Songs of two" in text
  assert "* seed: 3\n* tasks: a, b\n* settings: steps 2\n" in text
  assert "* m: 1 song: what (one/a)" in text


def test_nothing_evaluated_is_an_empty_report(songs):
  summary = report.summarize(songs.store)
  assert summary.num_songs == 0
  assert len(report.tables(summary)[0].rows) == len(report.PUBLISHED)
