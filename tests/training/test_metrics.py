import dataclasses
import json

import jax
from jax import numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion import models, training
from music_spectrogram_diffusion.training import flops, metrics, summaries

pytestmark = pytest.mark.usefixtures("without_tensorboard")


def lines(directory, name):
  text = (directory / "summaries" / f"{name}.jsonl").read_text()
  return [json.loads(line) for line in text.splitlines()]


def test_training_summaries_have_speed_utilisation_and_rate(tmp_path):
  watcher = metrics.TrainingSummaries(
    summaries.Summaries(tmp_path, "train"),
    every=10,
    batch_size=8,
    frames=256,
    learning_rate=lambda step: 0.001 * (step + 1),
    step_flops=2e9,
    peak_flops=16e9,
  )
  means = {"loss": 0.5, "loss/low": 0.7, "gradient_norm": 3.0}
  watcher(20, None, means | {"seconds_per_step": 0.5})
  (line,) = lines(tmp_path, "train")
  assert line == means | {
    "step": 20,
    "seconds_per_step": 0.5,
    "examples_per_second": 16.0,
    "frames_per_second": 4096.0,
    "learning_rate": pytest.approx(0.02),
    "flops_per_second": 4e9,
    "mfu": 0.25,
  }


def test_what_is_not_known_is_left_out(tmp_path):
  watcher = metrics.TrainingSummaries(
    summaries.Summaries(tmp_path, "train"), every=1, batch_size=2
  )
  watcher(1, None, {"seconds_per_step": 0.5})
  (line,) = lines(tmp_path, "train")
  assert line == {
    "step": 1,
    "seconds_per_step": 0.5,
    "examples_per_second": 4.0,
  }


def test_a_run_s_summaries_know_its_model(tmp_path, watched, monkeypatch):
  monkeypatch.setattr(flops, "device_peak", lambda: 1e6)
  watcher = metrics.training_summaries(
    watched.make_run(tmp_path), every=5, learning_rate=0.125
  )
  assert watcher.every == 5
  watcher(5, watched.state, {"seconds_per_step": 2.0})
  (line,) = lines(tmp_path, "train")
  assert line["frames_per_second"] == 8 * 4 / 2
  assert line["learning_rate"] == 0.125
  work = metrics.model_flops(watched.learner, 4)
  assert line["mfu"] == pytest.approx(work / 2 / 1e6)


def test_the_work_of_a_step_is_that_of_its_products():
  network = models.paper_network("small", context=False)
  model = models.DiffusionModel(network=network)
  learner = training.ModelLearner(model=model, optimizer=training.adafactor())
  # Per position and layer of T5.1.1, multiplications: four projections of
  # attention and three of the MLP; and of every pair, logits and values.
  width, heads, mlp, layers = 512, 6 * 64, 1024, 8
  dense = 4 * width * heads + 3 * width * mlp
  encoder = layers * (2048 * dense + 2 * 2048**2 * heads)
  decoder = layers * (
    256 * dense
    + 2 * 256**2 * heads
    # Cross-attention: queries and output, keys and values, pairs; and FiLM.
    + 2 * width * heads * (256 + 2048)
    + 2 * 256 * 2048 * heads
    + 2 * 2048 * 2 * width
  )
  ends = 2 * 256 * 128 * width + width * 2048 + 2048**2
  expected = 3 * 2 * 5 * (encoder + decoder + ends)
  assert metrics.model_flops(learner, 5) == pytest.approx(expected, rel=1e-6)


def test_rematerialisation_does_not_count_as_work(watched):
  network = dataclasses.replace(watched.model.network, remat=True)
  model = dataclasses.replace(watched.model, network=network)
  learner = dataclasses.replace(watched.learner, model=model)
  work = metrics.model_flops(watched.learner, 4)
  assert metrics.model_flops(learner, 4) == work


def test_an_evaluation_is_the_same_each_time_and_follows_the_average(
  tmp_path, watched, capsys
):
  run = watched.make_run(tmp_path)
  watcher = metrics.Evaluation(run, every=3, num_batches=2)
  assert watcher.every == 3
  watcher(3, watched.state, {})
  doubled = jax.tree.map(lambda x: 2 * x, watched.state.parameters)
  watcher(6, watched.state.replace(parameters=doubled), {})
  moved = jax.tree.map(lambda x: 1.5 * x, watched.state.average)
  watcher(9, watched.state.replace(average=moved), {})
  first, second, third = lines(tmp_path, "eval")
  assert first | {"step": 0} == second | {"step": 0}
  assert third["loss"] != first["loss"]
  said = capsys.readouterr().out.splitlines()
  assert said[0].startswith("step 3  evaluation: ") and len(said) == 3


def test_an_evaluation_is_the_mean_over_its_batches(tmp_path, watched):
  run = watched.make_run(tmp_path)
  metrics.Evaluation(run, num_batches=2, seed=5)(1, watched.state, {})
  (line,) = lines(tmp_path, "eval")
  loss = jax.jit(lambda *args: watched.model.loss(*args, train=False)[0])
  expected = [
    loss(
      watched.state.average,
      jax.tree.map(jnp.asarray, batch),
      jax.random.fold_in(jax.random.key(5), i),
    )
    for i, batch in enumerate(run.eval_batches(2))
  ]
  assert len(set(map(float, expected))) == 2
  np.testing.assert_allclose(line["loss"], np.mean(expected), rtol=1e-5)


def test_without_a_source_nothing_is_evaluated(tmp_path, watched):
  run = watched.make_run(tmp_path, eval_source=None)
  metrics.Evaluation(run)(1, watched.state, {})
  assert not list(tmp_path.glob("summaries/*.jsonl"))


def test_means_are_over_the_batches_that_have_a_number():
  found = [{"a": 1.0, "b": float("nan")}, {"a": 3.0, "b": 5.0, "c": np.nan}]
  assert metrics.mean_of_numbers(found) == {"a": 2.0, "b": 5.0}
