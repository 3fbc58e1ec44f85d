import dataclasses

import jax
from jax import numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion import models


def changed(tiny, **options):
  """The same model with other options of its network."""
  network = dataclasses.replace(tiny.model.network, **options)
  return dataclasses.replace(tiny.model, network=network)


def gradients(model, parameters, batch):
  def loss(parameters):
    return model.loss(parameters, batch, jax.random.key(3))[0]

  return jax.jit(jax.value_and_grad(loss))(parameters)


@pytest.fixture(scope="module")
def exact(aligned, batch_of):
  """Loss and gradients in float32, of a model with dropout."""
  return gradients(
    changed(aligned, dropout_rate=0.2), aligned.parameters, batch_of(aligned)
  )


def test_rematerialisation_changes_neither_loss_nor_gradients(
  aligned, batch_of, exact
):
  # What is computed again has to drop the same.
  model = changed(aligned, dropout_rate=0.2, remat=True)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    gradients(model, aligned.parameters, batch_of(aligned)),
    exact,
  )


@pytest.mark.parametrize(
  "config",
  [
    models.paper_network("tiny"),
    models.paper_network("tiny", context=False, autoregressive=True),
    models.aligned_network(),
  ],
)
def test_rematerialisation_renames_no_parameter(config):
  kind = (
    models.AutoregressiveModel
    if config.autoregressive
    else models.DiffusionModel
  )
  plain, again = (
    jax.eval_shape(
      kind(network=dataclasses.replace(config, remat=remat)).init,
      jax.random.key(0),
    )
    for remat in (False, True)
  )
  assert plain == again


def residual_bytes(model, parameters, batch):
  """Size of what the gradient keeps of the forward pass, but parameters."""

  def loss(parameters):
    return model.loss(parameters, batch, jax.random.key(0))[0]

  def size(tree):
    return sum(
      leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)
    )

  _, backward = jax.eval_shape(lambda p: jax.vjp(loss, p), parameters)
  return size(backward) - size(parameters)


def test_rematerialisation_keeps_less_than_half(paper, batch_of):
  # Of a single layer nothing would be saved.
  network = dict(
    num_encoder_layers=4, num_context_layers=4, num_decoder_layers=4
  )
  plain, again = (changed(paper, remat=r, **network) for r in (False, True))
  parameters = jax.eval_shape(plain.init, jax.random.key(0))
  batch = batch_of(paper)
  kept = residual_bytes(plain, parameters, batch)
  assert residual_bytes(again, parameters, batch) < 0.5 * kept


def test_in_bfloat16_gradients_are_float32_and_close(aligned, batch_of, exact):
  model = changed(aligned, dropout_rate=0.2, dtype="bfloat16")
  loss, rounded = gradients(model, aligned.parameters, batch_of(aligned))
  np.testing.assert_allclose(loss, exact[0], rtol=0.02)
  assert {leaf.dtype for leaf in jax.tree.leaves(rounded)} == {
    jnp.dtype("float32")
  }
  a, b = (
    np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])
    for tree in (exact[1], rounded)
  )
  cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
  assert cosine > 0.98
