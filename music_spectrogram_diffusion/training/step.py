"""One training step, as a pure function of arrays."""

from collections.abc import Callable
import functools
from typing import Any

from flax import struct
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray
import optax

LossFunction = Callable[..., tuple[Array, dict[str, Array]]]


@struct.dataclass
class TrainState:
  """Everything that a run goes on from.

  Attributes:
    step: Number of updates made.
    parameters: What is trained.
    average: Exponential moving average of the parameters, which is what one
      samples from.
    optimizer: State of the optimizer.
  """

  step: Int[Array, ""]
  parameters: dict[str, Any]
  average: dict[str, Any]
  optimizer: optax.OptState

  @classmethod
  def create(
    cls,
    parameters: dict[str, Any],
    optimizer: optax.GradientTransformation,
  ) -> "TrainState":
    """The state before the first step, in buffers of its own."""
    return cls(
      step=jnp.zeros((), jnp.int32),
      parameters=jax.tree.map(jnp.copy, parameters),
      average=jax.tree.map(jnp.copy, parameters),
      optimizer=optimizer.init(parameters),
    )


def ema_rate(step: Int[Array, ""], decay: float) -> Float[Array, ""]:
  """Weight of the old average: `decay`, less in the first steps."""
  step = step.astype(jnp.float32)
  return jnp.minimum(decay, (1.0 + step) / (10.0 + step))


@functools.partial(
  jax.jit,
  static_argnames=("loss", "optimizer", "ema_decay"),
  donate_argnames="state",
)
def train_step(
  state: TrainState,
  batch: dict[str, Array],
  key: PRNGKeyArray,
  *,
  loss: LossFunction,
  optimizer: optax.GradientTransformation,
  ema_decay: float,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
  """Makes one update.

  Args:
    state: The state before; its buffers are reused.
    batch: Arrays of the training contract.
    key: Key of the run; each step derives its own from it.
    loss: Function of parameters, batch and key; gives the loss and metrics.
    optimizer: Turns gradients into updates.
    ema_decay: Weight of the old average after the first steps.

  Returns:
    The state after, and the metrics with `loss` and `gradient_norm`.
  """
  step_key = jax.random.fold_in(key, state.step)
  (value, metrics), gradients = jax.value_and_grad(loss, has_aux=True)(
    state.parameters, batch, step_key
  )
  with jax.numpy_dtype_promotion("standard"):  # Optax counts on it.
    updates, optimizer_state = optimizer.update(
      gradients, state.optimizer, state.parameters
    )
  parameters = optax.apply_updates(state.parameters, updates)
  rate = ema_rate(state.step, ema_decay)
  # Written so that what does not change, as position tables, stays exact.
  average = jax.tree.map(
    lambda old, new: old + (1.0 - rate) * (new - old), state.average, parameters
  )
  state = TrainState(
    step=state.step + 1,
    parameters=parameters,
    average=average,
    optimizer=optimizer_state,
  )
  norm = optax.tree.norm(gradients)
  return state, metrics | {"loss": value, "gradient_norm": norm}
