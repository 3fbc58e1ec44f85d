"""Runs of a learner that is a single number: their parts, in their order."""

import json

from flax import struct
import jax
from jax import numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion.training import (
  checkpointing,
  fine_tuning,
  partitioning,
  run,
  sources,
)


@struct.dataclass
class State:
  step: jax.Array
  average: dict


class Learner:
  """Adds the mean of each batch to a number."""

  def __init__(self, **description):
    self.description = {"type": "Number", "size": 1, "sampling": 3}
    self.description |= description

  def describe(self):
    return self.description

  def initial_state(self, key):
    return State(jnp.zeros((), jnp.int32), {"number": jnp.zeros(())})

  def start_from(self, state, parameters):
    return state.replace(average=parameters)

  def step(self, state, batch, key):
    number = state.average["number"] + batch["x"].mean()
    return State(state.step + 1, {"number": number}), {"loss": number}

  def evaluate(self, state, batch, key):
    return {"loss": state.average["number"]}

  def check_batch(self, batch):
    if "x" not in batch:
      raise ValueError("Expected x.")


class Ones(sources.StepIndexed):
  """Batches of ones, with ids."""

  def __init__(self, *, batch_size, host_index, host_count, seed):
    self.closed = False
    self.given = (batch_size, host_index, host_count, seed)
    batch = {"x": np.ones(batch_size, np.float32)}
    super().__init__(lambda step: batch | {"ids": np.array(["a"])})

  def close(self):
    self.closed = True


@pytest.fixture
def train(tmp_path):
  def train(learner=None, total_steps=2, **parts):
    defaults = dict(
      train_source=Ones,
      batch_size=4,
      partitioner=partitioning.Partitioner(),
      checkpoints=checkpointing.CheckpointConfig(asynchronous=False),
    )
    return run.train_model(
      model_dir=tmp_path / "run",
      learner=learner or Learner(),
      total_steps=total_steps,
      **(defaults | parts),
    )

  return train


def initial(number, description=None, **settings):
  config = {"model": description} if description else {}
  return fine_tuning.InitialModel(
    path="a model",
    find=lambda name: name,
    read=lambda place: (config, {"number": np.float32(number)}),
    **settings,
  )


def test_a_run_goes_on_where_it_was(train, tmp_path):
  assert train(total_steps=2).average["number"] == 2
  state = train(total_steps=5)
  assert (int(state.step), float(state.average["number"])) == (5, 5.0)
  described = json.loads((tmp_path / "run" / "model.json").read_text())
  assert described == Learner().describe()


def test_a_source_is_told_its_share_and_closed_in_the_end(train):
  made = []

  def source(**share):
    made.append(Ones(**share))
    return made[-1]

  train(train_source=source, eval_source=source, seed=7)
  train_share, eval_share = (batches.given for batches in made)
  assert train_share == (4, 0, 1, 7)
  assert eval_share[:3] == (4, 0, 1) and eval_share[3] != 7
  assert all(batches.closed for batches in made)


def test_watchers_are_made_of_the_run_and_see_the_same_batches_each_time(train):
  seen = []

  class Watcher:
    every = 1

    def __init__(self, run):
      self.run = run

    def __call__(self, step, state, metrics):
      seen.append(list(self.run.eval_batches(2)))

  train(watchers=(Watcher,), eval_source=Ones)
  assert len(seen) == 2
  for batches in seen:
    assert [set(batch) for batch in batches] == [{"x"}] * 2  # Without ids.
    assert isinstance(batches[0]["x"], jax.Array)


def test_without_a_source_there_is_nothing_to_evaluate(train):
  def make(run):
    assert not list(run.eval_batches(3))
    raise KeyError("made")

  with pytest.raises(KeyError, match="made"):
    train(watchers=(make,))


def test_a_start_is_told_when_all_parts_are_there(train, tmp_path):
  told = []

  def make(run):
    assert not told
    raise KeyError("broken")

  with pytest.raises(KeyError, match="broken"):
    train(watchers=(make,), on_start=told.append)
  assert not told and not (tmp_path / "run").exists()
  train(on_start=told.append)
  assert told == [tmp_path / "run"]


def test_another_model_s_directory_is_refused_and_left_alone(train, tmp_path):
  train()
  before = (tmp_path / "run" / "model.json").read_text()
  with pytest.raises(ValueError, match="size is 1 there and 2 here"):
    train(Learner(size=2), total_steps=3)
  assert (tmp_path / "run" / "model.json").read_text() == before


@pytest.mark.parametrize("field", ["sampling", "follows_notes"])
def test_what_weights_do_not_depend_on_may_change(train, tmp_path, field):
  train()
  train(Learner(**{field: 9}), total_steps=3)
  described = json.loads((tmp_path / "run" / "model.json").read_text())
  assert described[field] == 9


def test_a_run_from_before_ties_were_described_goes_on_without(train, tmp_path):
  train()
  train(Learner(describe_ties=False), total_steps=3)
  with pytest.raises(ValueError, match="describe_ties is false there and true"):
    train(Learner(describe_ties=True), total_steps=4)


def test_a_new_run_starts_from_given_weights_and_does_so_once(train):
  assert train(initial_model=initial(10.0)).average["number"] == 12
  state = train(total_steps=3, initial_model=initial(100.0))
  assert state.average["number"] == 13


def test_no_initial_model_is_no_initial_model(train):
  def fail(_):
    raise AssertionError("Nothing was to be read.")

  none = fine_tuning.InitialModel(path=None, find=fail, read=fail)
  assert train(initial_model=none).average["number"] == 2


def test_weights_that_fit_but_meant_something_else_are_a_warning(train):
  other = Learner(size=3, sampling=0).describe()
  with pytest.warns(UserWarning, match="a model was another.*size is 3 there"):
    train(initial_model=initial(1.0, other))


def test_a_batch_that_does_not_divide_by_the_mesh_is_an_error(
  train, monkeypatch
):
  class Mesh:
    shape = {"data": 3}

  monkeypatch.setattr(partitioning.Partitioner, "mesh", Mesh())
  with pytest.raises(ValueError, match="divides by the 3 parts.*got 4"):
    train()


def test_a_batch_that_the_learner_does_not_know_is_an_error(train):
  def source(**_):
    return sources.StepIndexed(lambda step: {"y": np.ones(4, np.float32)})

  with pytest.raises(ValueError, match="Expected x"):
    train(train_source=source)
