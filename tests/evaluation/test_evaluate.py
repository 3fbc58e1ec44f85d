import dataclasses

import numpy as np
import pytest

from music_spectrogram_diffusion import notes
from music_spectrogram_diffusion.evaluation import (
  evaluate,
  measures,
  realtime,
  results,
  songs,
)

RATE = 16_000


@dataclasses.dataclass
class Listener:
  """Hears what it is told to, by the start of what a song is called."""

  heard: dict
  name: str = "listener"

  def __call__(self, samples, song_id):
    return self.heard[song_id.partition("/")[0]]


@pytest.fixture
def evaluator(level, a_system):
  """Half as loud as the recording; levels and spectra are measured."""
  return evaluate.Evaluator(
    systems=[a_system("half", lambda song: song.samples / 2)],
    measures=[measures.EmbeddingMeasure(level), measures.SpectralMeasure()],
  )


def scores_of(result, system):
  return result.record["systems"][system]["scores"]


def problems_of(result, system):
  return result.record["systems"][system]["problems"]


def test_scores_are_what_one_computes_by_hand(evaluator, tone):
  result = evaluate.evaluate_song(tone(level=0.1), evaluator)
  # A sine of 0.1 has a root mean square of 0.1 / sqrt(2); half of both is lost.
  expected = 0.05 * np.sqrt(1.5)
  found = scores_of(result, "half")
  assert found["level reconstruction"] == pytest.approx(expected, rel=1e-3)
  # Half in each bin that is above the floor.
  assert 0.3 < found["log-mel distance"] < np.log(2) + 1e-3
  assert found["STFT distance"] > 0.1
  assert problems_of(result, "half") == []


def test_the_recording_is_as_good_as_can_be(evaluator, tone):
  found = scores_of(evaluate.evaluate_song(tone(), evaluator), "ground truth")
  assert found == {
    "level reconstruction": 0.0,
    "STFT distance": 0.0,
    "log-mel distance": 0.0,
  }


def test_the_same_song_gives_the_same_result(evaluator, tone):
  one, two = (evaluate.evaluate_song(tone(), evaluator) for _ in range(2))
  assert scores_of(one, "half") == scores_of(two, "half")
  assert one.arrays.keys() == two.arrays.keys()
  for name, array in one.arrays.items():
    np.testing.assert_array_equal(array, two.arrays[name])


def test_statistics_and_excerpts_are_of_the_audio(evaluator, tone):
  result = evaluate.evaluate_song(tone(level=0.1), evaluator)
  arrays = results.SongArrays(result.arrays)
  statistics = arrays.statistics("level FAD", "half")
  assert statistics.count == 4
  np.testing.assert_allclose(
    statistics.mean, [0.05 / np.sqrt(2), 0.05], rtol=1e-3
  )
  excerpt = arrays.excerpt("half")
  assert excerpt.shape == (200, 128)
  assert arrays.excerpt("other") is None
  assert arrays.statistics("level FAD", "other") is None


def test_instruments_have_their_share_of_the_notes(evaluator, tone):
  song = tone()
  drums = notes.Notes.from_columns([1, 2, 3, 3.5], 4, 36, 90, is_drum=True)
  both = notes.Notes.concatenate([song.notes, drums])
  result = evaluate.evaluate_song(
    dataclasses.replace(song, notes=both), evaluator
  )
  assert result.record["instruments"] == {"Acoustic Piano": 0.5, "Drums": 0.5}


def test_f1_is_that_of_what_is_heard_of_each_system(evaluator, tone):
  song = tone(program=5)
  asked = song.notes
  listener = Listener({"ground truth": asked, "half": asked[:2]})
  heard = dataclasses.replace(
    evaluator, measures=[measures.TranscriptionMeasure(listener)]
  )
  result = evaluate.evaluate_song(song, heard)
  assert scores_of(result, "ground truth")["F1 full"] == 1.0
  assert scores_of(result, "half")["F1 full"] == pytest.approx(2 * 2 / 6)


def test_songs_without_notes_have_no_f1_and_all_else(evaluator, tone):
  nothing = notes.Notes.from_columns([], [], [], [])
  song = dataclasses.replace(tone(), notes=nothing)
  listener = Listener({"ground truth": nothing, "half": nothing})
  measured = dataclasses.replace(
    evaluator,
    measures=[*evaluator.measures, measures.TranscriptionMeasure(listener)],
  )
  result = evaluate.evaluate_song(song, measured)
  assert result.record["problems"] == [["no notes, so no F1", ""]]
  assert scores_of(result, "half").keys() == {
    "level reconstruction",
    "STFT distance",
    "log-mel distance",
  }


def test_a_measure_that_fails_is_noted_and_the_others_go_on(evaluator, tone):
  listener = Listener({"ground truth": tone().notes})  # Not of "half".
  measured = dataclasses.replace(
    evaluator,
    measures=[measures.TranscriptionMeasure(listener), *evaluator.measures],
  )
  result = evaluate.evaluate_song(tone(), measured)
  [[what, detail]] = problems_of(result, "half")
  assert what == "listener failed"
  assert "KeyError" in detail
  assert "level reconstruction" in scores_of(result, "half")


def test_a_rendering_is_never_compared_with_itself(evaluator, tone):
  class Moody:
    """Fails on the recording alone."""

    name = "moody"

    def __call__(self, samples):
      if np.abs(samples).max() > 0.09:
        raise ValueError("too loud")
      return np.ones((4, 2), np.float32)

  moody = dataclasses.replace(
    evaluator, measures=[measures.EmbeddingMeasure(Moody())]
  )
  result = evaluate.evaluate_song(tone(level=0.1), moody)
  assert problems_of(result, "ground truth") == [["moody failed", "too loud"]]
  assert scores_of(result, "half") == {}


@pytest.mark.parametrize(
  ("samples", "what"),
  [
    (lambda song: song.samples * np.nan, "the rendering holds NaN or infinity"),
    (lambda song: song.samples[:0], "the rendering is empty"),
    (lambda song: [1.0] + "", "rendering failed"),
  ],
)
def test_a_system_without_audio_has_no_scores(
  evaluator, tone, a_system, samples, what
):
  broken = a_system("broken", samples)
  both = dataclasses.replace(evaluator, systems=[broken, *evaluator.systems])
  result = evaluate.evaluate_song(tone(), both)
  assert scores_of(result, "broken") == {}
  assert [p for p, _ in problems_of(result, "broken")] == [what]
  assert scores_of(result, "half")
  assert results.SongArrays(result.arrays).excerpt("broken") is None


@pytest.mark.parametrize(("seconds", "sign"), [(1, "shorter"), (7, "longer")])
def test_of_other_lengths_the_common_part_is_compared(
  evaluator, tone, a_system, seconds, sign
):
  song = tone(level=0.2)
  samples = tone(seconds=seconds, level=0.2).samples
  other = dataclasses.replace(
    evaluator, systems=[a_system("other", lambda _: samples)]
  )
  result = evaluate.evaluate_song(song, other)
  [[what, detail]] = problems_of(result, "other")
  assert f"is {sign}" in what
  assert detail == "3.0 s"
  assert scores_of(result, "other")["level reconstruction"] == pytest.approx(0)
  statistics = results.SongArrays(result.arrays).statistics(
    "level FAD", "other"
  )
  assert statistics.count == min(seconds, 4)


def test_a_rendering_that_ends_a_little_later_is_no_problem(
  evaluator, tone, a_system
):
  late = a_system("late", lambda song: np.append(song.samples, np.zeros(RATE)))
  result = evaluate.evaluate_song(
    tone(), dataclasses.replace(evaluator, systems=[late])
  )
  assert problems_of(result, "late") == []


def test_timings_and_audio_are_kept_where_they_are_there(tone, a_system):
  timing = realtime.Timing(1.0, 2.0, 3.0, 4.0, 5.0)
  systems = [
    a_system("timed", lambda song: song.samples, timing),
    a_system("broken", lambda song: song.samples * np.nan),
  ]
  evaluator = evaluate.Evaluator(
    systems, [measures.SpectralMeasure()], keep_audio=True
  )
  result = evaluate.evaluate_song(tone(), evaluator)
  found = result.record["systems"]
  assert found["timed"]["timing"] == dataclasses.asdict(timing)
  assert "timing" not in found["broken"]
  assert result.audio.keys() == {"timed"}


def test_a_song_that_cannot_be_loaded_is_left_out_with_its_reason(evaluator):
  def load():
    raise ValueError("no such thing")

  result = evaluate.evaluate_entry(songs.Entry("d", "gone", load), evaluator)
  assert result.record["problems"] == [["left out", "no such thing"]]
  assert result.record["systems"] == {}


@dataclasses.dataclass
class Source:
  songs: list
  name: str = "tones"

  def num_songs(self):
    return len(self.songs)

  def num_shards(self):
    return len(self.songs)

  def read(self, shard=0, num_shards=1):
    for song in self.songs[shard::num_shards]:
      yield songs.Entry(song.dataset, song.id, lambda song=song: song)


def test_what_was_interrupted_goes_on_where_it_was(evaluator, tone, tmp_path):
  source = Source([tone("a"), tone("b"), tone("c")])
  store = results.ResultStore(tmp_path, {})
  running = evaluate.evaluate([source], evaluator, store)
  assert next(running).record["id"] == "a"
  running.close()
  again = results.ResultStore(tmp_path, {})
  new = list(evaluate.evaluate([source], evaluator, again))
  assert [result.record["id"] for result in new] == ["b", "c"]
  assert [record["id"] for record in again.records()] == ["a", "b", "c"]
