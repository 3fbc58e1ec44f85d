import numpy as np
import pytest
import soundfile

from music_spectrogram_diffusion.evaluation import frechet, results


def result_of(key, value=1.0):
  statistics = frechet.GaussianStatistics.of(np.eye(3) * value)
  arrays = results.statistics_arrays("m", {"level FAD": statistics})
  excerpt = {results.excerpt_name("m"): np.full((2, 4), 7, np.uint8)}
  audio = {"m": np.full(160, 0.5, np.float32)}
  return results.SongResult({"key": key, "n": value}, arrays | excerpt, audio)


def test_what_is_added_is_there_when_the_folder_is_opened_again(tmp_path):
  results.ResultStore(tmp_path / "new", {"seed": 1}).add(result_of("d/a b", 2))
  store = results.ResultStore(tmp_path / "new", {"seed": 1})
  assert "d/a b" in store
  assert "d/c" not in store
  assert len(store) == 1
  assert list(store.records()) == [{"key": "d/a b", "n": 2}]
  arrays = store.arrays("d/a b")
  np.testing.assert_array_equal(arrays.excerpt("m"), np.full((2, 4), 7))
  statistics = arrays.statistics("level FAD", "m")
  assert statistics.count == 3
  np.testing.assert_allclose(statistics.mean, 2 / 3)
  samples, rate = soundfile.read(tmp_path / "new/audio/m/d/a b.wav")
  assert (len(samples), rate) == (160, 16_000)


def test_half_a_line_is_dropped_and_its_song_is_not_there(tmp_path):
  store = results.ResultStore(tmp_path, {})
  store.add(result_of("d/a"))
  store.add(result_of("d/b"))
  path = tmp_path / results.RESULTS
  whole = path.read_bytes()
  path.write_bytes(whole[:-5])
  store = results.ResultStore(tmp_path, {})
  assert store.keys == {"d/a"}
  store.add(result_of("d/b"))
  assert path.read_bytes() == whole


def test_a_damaged_line_is_named(tmp_path):
  results.ResultStore(tmp_path, {}).add(result_of("d/a"))
  path = tmp_path / results.RESULTS
  path.write_text("nonsense\n" + path.read_text())
  with pytest.raises(ValueError, match="line 1 of .*results.jsonl"):
    results.ResultStore(tmp_path, {})


def test_a_folder_of_other_settings_is_refused_with_the_difference(tmp_path):
  store = results.ResultStore(tmp_path, {"seed": 1, "tasks": ("a",)})
  store.add(result_of("d/a"))
  results.ResultStore(tmp_path, {"seed": 1, "tasks": ["a"]})
  with pytest.raises(ValueError, match=r"whose seed is 1, not 2; .* folder"):
    results.ResultStore(tmp_path, {"seed": 2, "tasks": ["a"]})
  with pytest.raises(ValueError, match=r"whose seed is 1, not null"):
    results.ResultStore(tmp_path, {"tasks": ["a"]})


def test_a_folder_without_results_takes_other_settings(tmp_path):
  results.ResultStore(tmp_path, {"sampler": "a typing error"})
  results.ResultStore(tmp_path, {"sampler": "ddim"}).add(result_of("d/a"))
  assert results.ResultStore(tmp_path, {"sampler": "ddim"}).keys == {"d/a"}


def test_what_workers_leave_is_taken_up_once_in_order(tmp_path):
  store = results.ResultStore(tmp_path, {})
  store.add(result_of("d/b"))
  for key in ("d/c", "d/a", "d/b"):
    results.leave(tmp_path, result_of(key))
  store.collect()
  store.collect()
  assert [record["key"] for record in store.records()] == ["d/b", "d/a", "d/c"]
  assert store.arrays("d/c").excerpt("m") is not None


def test_what_was_left_by_a_run_that_died_is_not_lost(tmp_path):
  results.ResultStore(tmp_path, {})
  results.leave(tmp_path, result_of("d/a"))
  assert results.ResultStore(tmp_path, {}).keys == {"d/a"}


def test_a_file_of_arrays_that_is_gone_is_told_of(tmp_path):
  store = results.ResultStore(tmp_path, {})
  with pytest.warns(UserWarning, match="gone; d/a is not in"):
    assert store.arrays("d/a").excerpt("m") is None
