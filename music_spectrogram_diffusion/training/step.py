"""One training step, as a pure function of arrays."""

from collections.abc import Callable
from typing import Any

from flax import struct
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray
import optax

LossFunction = Callable[..., tuple[Array, dict[str, Array]]]
Batch = dict[str, Any]


@struct.dataclass
class TrainState:
  """Everything that a run goes on from.

  Attributes:
    step: Number of updates made.
    parameters: What is trained.
    average: Exponential moving average of the parameters, which is what one
      samples from; None where none is kept.
    optimizer: State of the optimizer.
  """

  # Of any type: the same tree holds shapes or shardings, too.
  step: Any
  parameters: Any
  average: Any
  optimizer: Any

  @classmethod
  def create(
    cls,
    parameters: dict[str, Any],
    optimizer: optax.GradientTransformation,
    *,
    keep_average: bool = True,
  ) -> "TrainState":
    """The state before the first step, in buffers of its own."""
    return cls(
      step=jnp.zeros((), jnp.int32),
      parameters=jax.tree.map(jnp.copy, parameters),
      average=jax.tree.map(jnp.copy, parameters) if keep_average else None,
      optimizer=optimizer.init(parameters),
    )


def ema_rate(step: Int[Array, ""], decay: float) -> Float[Array, ""]:
  """Weight of the old average: `decay`, less in the first steps."""
  step = step.astype(jnp.float32)
  return jnp.minimum(decay, (1.0 + step) / (10.0 + step))


def valid_frames(batch: Batch) -> Float[Array, ""]:
  """How much a batch of the training contract counts: its valid frames."""
  return jnp.sum(batch["targets_mask"], dtype=jnp.float32)


def examples(batch: Batch) -> Float[Array, ""]:
  """How much a batch counts whose examples all count the same."""
  return jnp.float32(len(jax.tree.leaves(batch)[0]))


def train_step(
  state: TrainState,
  batch: Batch,
  key: PRNGKeyArray,
  *,
  loss: LossFunction,
  optimizer: optax.GradientTransformation,
  ema_decay: float = 0.999,
  micro_batches: int = 1,
  weight: Callable[[Batch], Float[Array, ""]] | None = None,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
  """Makes one update; to be compiled by the caller.

  Args:
    state: The state before.
    batch: Arrays of the training contract.
    key: Key of the run; each step derives its own from it.
    loss: Function of parameters, batch and key; gives the loss, a mean over
      the batch, and metrics.
    optimizer: Turns gradients into updates.
    ema_decay: Weight of the old average after the first steps.
    micro_batches: Parts that the batch is cut into, one after the other in
      memory. The update is that of the whole batch, but for what `loss` draws:
      each part has a key of its own.
    weight: What the mean of `loss` divides by, which is how much each part
      counts; by default `valid_frames`, or `examples` of batches without masks.

  Returns:
    The state after, and the metrics with `loss`, and with `gradient_norm` and
    `parameter_norm`, norms over all parameters, before the update.

  Raises:
    ValueError: The batch does not divide into `micro_batches`.
  """
  step_key = jax.random.fold_in(key, state.step)
  compute = jax.value_and_grad(loss, has_aux=True)
  if micro_batches == 1:
    (value, metrics), gradients = compute(state.parameters, batch, step_key)
  else:
    (value, metrics), gradients = _accumulated(
      compute, state.parameters, batch, step_key, micro_batches, weight
    )
  with jax.numpy_dtype_promotion("standard"):  # Optax counts on it.
    updates, optimizer_state = optimizer.update(
      gradients, state.optimizer, state.parameters
    )
  parameters = optax.apply_updates(state.parameters, updates)
  average = state.average
  if average is not None:
    rate = ema_rate(state.step, ema_decay)
    # Written so that what does not change, as position tables, stays exact.
    average = jax.tree.map(
      lambda old, new: old + (1.0 - rate) * (new - old), average, parameters
    )
  metrics |= {
    "loss": value,
    "gradient_norm": optax.tree.norm(gradients),
    "parameter_norm": optax.tree.norm(state.parameters),
  }
  state = TrainState(
    step=state.step + 1,
    parameters=parameters,
    average=average,
    optimizer=optimizer_state,
  )
  return state, metrics


def _accumulated(compute, parameters, batch, key, count, weight):
  """The weighted mean of what `compute` gives of each part of a batch."""
  if weight is None:
    weight = valid_frames if "targets_mask" in batch else examples

  def cut(array):
    size = len(array)
    if size % count:
      raise ValueError(
        "Expected a batch that divides into micro_batches ="
        f" {count} parts, got {size} examples."
      )
    # Every count-th example: parts stay spread over the devices that the batch
    # is spread over.
    parts = array.reshape(size // count, count, *array.shape[1:])
    return jnp.swapaxes(parts, 0, 1)

  def add(total, part):
    index, micro_batch = part
    share = weight(micro_batch) / jnp.maximum(weight(batch), 1e-9)
    found = compute(parameters, micro_batch, jax.random.fold_in(key, index))
    total = jax.tree.map(
      lambda old, new: old + share.astype(new.dtype) * new, total, found
    )
    return total, None

  parts = jnp.arange(count), jax.tree.map(cut, batch)
  first = jax.tree.map(lambda array: array[0], parts)
  shapes = jax.eval_shape(compute, parameters, first[1], key)
  zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
  total, _ = jax.lax.scan(add, zeros, parts)
  return total
