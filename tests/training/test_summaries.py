import json
import warnings

import numpy as np
import pytest

from music_spectrogram_diffusion.training import summaries


def lines(directory, name="train"):
  text = (directory / "summaries" / f"{name}.jsonl").read_text()
  return [json.loads(line) for line in text.splitlines()]


def test_numbers_are_lines_of_json(tmp_path, without_tensorboard):
  log = summaries.Summaries(tmp_path, "train")
  log.scalars(10, {"loss": np.float32(0.5), "mfu": 0.25})
  log.scalars(20, {"loss": 0.25, "loss/low": float("nan")})
  assert lines(tmp_path) == [
    {"step": 10, "loss": 0.5, "mfu": 0.25},
    {"step": 20, "loss": 0.25},
  ]


def test_a_run_that_goes_on_replaces_later_lines(tmp_path, without_tensorboard):
  log = summaries.Summaries(tmp_path, "train")
  for step in (10, 20, 30):
    log.scalars(step, {"loss": step})
  path = tmp_path / "summaries" / "train.jsonl"
  path.write_text(path.read_text() + '{"step": 40, "lo')  # Killed.
  summaries.Summaries(tmp_path, "train").scalars(20, {"loss": 7.0})
  assert lines(tmp_path) == [
    {"step": 10, "loss": 10.0},
    {"step": 20, "loss": 7.0},
  ]


def test_without_clu_there_are_lines_alone(tmp_path, monkeypatch):
  monkeypatch.setattr(summaries.importlib.util, "find_spec", lambda name: None)
  log = summaries.Summaries(tmp_path, "train")
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    log.scalars(1, {"loss": 1.0})
    log.image(1, "picture", np.zeros((2, 2, 3), np.uint8))
    log.audio(1, "sound", np.zeros(9, np.float32), 16)
  assert [path.name for path in (tmp_path / "summaries").iterdir()] == [
    "train.jsonl"
  ]


def test_tensorboard_gets_numbers_pictures_and_sounds(tmp_path):
  pytest.importorskip("clu")
  accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator"
  )
  log = summaries.Summaries(tmp_path, "train")
  log.scalars(3, {"loss": 0.5})
  log.image(3, "picture", np.full((4, 6, 3), 200, np.uint8))
  log.audio(3, "sound", np.linspace(-2, 2, 50, dtype=np.float32), 16_000)
  events = accumulator.EventAccumulator(str(tmp_path / "summaries" / "train"))
  events.Reload()
  tensors = events.Tags()["tensors"]
  assert any("loss" in tag for tag in tensors)
  assert any("picture" in tag for tag in tensors)
  assert any("sound" in tag for tag in tensors)
  (event,) = events.Tensors("loss")
  assert event.step == 3
  tensor_util = pytest.importorskip("tensorboard.util.tensor_util")
  assert tensor_util.make_ndarray(event.tensor_proto) == 0.5
