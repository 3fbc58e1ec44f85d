import json

import jax
from jax import numpy as jnp
import numpy as np
import optax
import pytest

from music_spectrogram_diffusion import training
from music_spectrogram_diffusion.training import fine_tuning

MODEL = {
  "encoder": {"kernel": np.zeros((2, 3), np.float32)},
  "encoder_norm": {"scale": np.zeros(3, np.float32)},
  "decoder": {"kernel": np.zeros((3, 4), np.float32)},
}


def ones(tree):
  return jax.tree.map(np.ones_like, tree)


def initial(path="a model", found=None, **settings):
  return fine_tuning.InitialModel(
    path=path,
    find=lambda name: f"found {name}",
    read=lambda place: ({"read": place}, found),
    **settings,
  )


def fit(model):
  return model.fitted(model.load()[1], MODEL)


def test_weights_take_the_place_of_the_new_ones():
  fitted = fit(initial(found=ones(MODEL)))
  jax.tree.map(np.testing.assert_array_equal, fitted, ones(MODEL))


def test_a_name_is_found_before_it_is_read():
  read = []
  model = fine_tuning.InitialModel(
    path="a model",
    find=lambda name: f"found {name}",
    read=lambda place: ({"model": {"a": 1}}, read.append(place) or MODEL),
  )
  assert model.load() == ({"a": 1}, MODEL) and read == ["found a model"]


def test_all_that_does_not_fit_is_listed():
  found = ones(MODEL) | {"decoder": {"kernel": np.ones((3, 5))}}
  found["extra"] = found.pop("encoder")
  with pytest.raises(ValueError) as error:
    fit(initial(found=found))
  for part in (
    "a model",
    "encoder/kernel [2, 3] is missing",
    "extra/kernel [2, 3] is not in the model",
    "decoder/kernel is [3, 5], expected [3, 4]",
  ):
    assert part in str(error.value)
  assert "\n" not in str(error.value)
  assert "encoder_norm" not in str(error.value)


def test_parts_that_start_anew_need_not_be_there_nor_fit():
  found = ones(MODEL)
  del found["encoder"]
  found["decoder"] = {"kernel": np.ones((9, 9))}
  fitted = fit(initial(found=found, fresh=("encoder", "decoder")))
  assert not fitted["encoder"]["kernel"].any()
  assert not fitted["decoder"]["kernel"].any()
  # `encoder` is no part of `encoder_norm`.
  assert fitted["encoder_norm"]["scale"].all()


def test_another_run_s_average_is_a_model_to_start_from(tmp_path):
  (tmp_path / "model.json").write_text(json.dumps({}))
  optimizer = optax.sgd(1.0)
  state = training.TrainState.create(
    jax.tree.map(jnp.asarray, MODEL), optimizer
  )
  state = state.replace(average=jax.tree.map(jnp.ones_like, state.average))
  last = training.train(
    state,
    jax.jit(lambda state, batch, key: (state.replace(step=state.step + 1), {})),
    training.StepIndexed(lambda step: {"x": np.ones(1, np.float32)}),
    directory=tmp_path / "checkpoints",
    num_steps=1,
    key=jax.random.key(0),
  )
  assert last.step == 1
  fitted = fit(initial(tmp_path))
  jax.tree.map(np.testing.assert_array_equal, fitted, ones(MODEL))


def updated(optimizer):
  """Parameters after two steps down a slope of 1."""
  parameters = jax.tree.map(jnp.asarray, MODEL)
  state = optimizer.init(parameters)
  for _ in range(2):
    updates, state = optimizer.update(
      jax.tree.map(jnp.ones_like, parameters), state, parameters
    )
    parameters = optax.apply_updates(parameters, updates)
  return parameters


def test_frozen_parts_stay_as_they_are():
  after = updated(fine_tuning.frozen(optax.sgd(0.5), ["encoder"]))
  assert (after["encoder"]["kernel"] == 0).all()
  assert (after["encoder_norm"]["scale"] == -1).all()
  assert (after["decoder"]["kernel"] == -1).all()


def test_a_clip_does_not_see_the_gradients_of_frozen_parts():
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0))
  parts = ["encoder", "encoder_norm"]
  after = updated(fine_tuning.frozen(optimizer, parts))
  # Both steps are of norm 1, over the twelve numbers that are left.
  np.testing.assert_allclose(
    after["decoder"]["kernel"], -2 / np.sqrt(12.0), rtol=1e-6
  )


def test_no_state_is_kept_for_frozen_parts():
  parameters = jax.tree.map(jnp.asarray, MODEL)
  state = fine_tuning.frozen(optax.adam(1.0), ["decoder"]).init(parameters)
  shapes = {leaf.shape for leaf in jax.tree.leaves(state)}
  assert shapes == {(), (2, 3), (3,)}


def test_without_parts_the_optimizer_is_itself():
  optimizer = optax.sgd(1.0)
  assert fine_tuning.frozen(optimizer) is optimizer


def test_a_part_that_is_not_there_is_named():
  optimizer = fine_tuning.frozen(optax.sgd(1.0), ["encodr"])
  with pytest.raises(ValueError, match="decoder, encoder.*got 'encodr'"):
    optimizer.init(MODEL)
