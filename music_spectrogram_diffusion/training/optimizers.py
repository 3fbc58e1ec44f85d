"""Optimizers and learning rates."""

from typing import Any

from flax import traverse_util
from jax import numpy as jnp
from jaxtyping import Array, Float, Int
import optax


def warm_up_then_decay(
  *,
  peak: float,
  num_steps: int,
  warmup_steps: int = 150,
  decay_steps: int = 0,
  final_fraction: float = 0.03,
) -> optax.Schedule:
  """Learning rate: up to `peak`, constant, then linearly down at the end.

  Args:
    peak: Learning rate after the warm-up.
    num_steps: Steps of the whole run.
    warmup_steps: Steps from 0 to `peak`; fewer where the run is too short.
    decay_steps: Steps at the end over which the rate falls.
    final_fraction: What is left of `peak` after the last step.

  Returns:
    A function of the step.

  Raises:
    ValueError: The decay is longer than the run.
  """
  if not 0 <= decay_steps <= num_steps:
    raise ValueError(
      f"Expected decay_steps from 0 to num_steps = {num_steps}, got"
      f" {decay_steps}."
    )
  decay_start = num_steps - decay_steps
  knots = (0.0, min(warmup_steps, decay_start), decay_start, num_steps)
  last = final_fraction * peak if decay_steps else peak
  heights = (0.0, peak, peak, last)

  def learning_rate(step: Int[Array, ""] | int) -> Float[Array, ""]:
    return jnp.interp(
      jnp.asarray(step + 1, jnp.float32),
      jnp.asarray(knots, jnp.float32),
      jnp.asarray(heights, jnp.float32),
    )

  return learning_rate


def is_weight_matrix(parameters: dict[str, Any]) -> dict[str, Any]:
  """Marks what weight decay applies to: kernels, no tables or scales."""
  return traverse_util.path_aware_map(
    lambda path, value: path[-1] == "kernel" and value.ndim > 1, parameters
  )


def adamw(
  learning_rate: optax.ScalarOrSchedule,
  *,
  b1: float = 0.9,
  b2: float = 0.98,
  weight_decay: float = 0.0,
  clip_norm: float = 1.0,
) -> optax.GradientTransformation:
  """AdamW behind a clip of the global gradient norm.

  Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101.
  """
  return optax.chain(
    optax.clip_by_global_norm(clip_norm),
    optax.adamw(
      learning_rate,
      b1=b1,
      b2=b2,
      weight_decay=weight_decay,
      mask=is_weight_matrix,
    ),
  )


def adafactor(
  learning_rate: optax.ScalarOrSchedule = 1e-3, *, decay_rate: float = 0.8
) -> optax.GradientTransformation:
  """Adafactor with the paper's settings.

  Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235: factored second
  moments, updates relative to the size of a parameter and clipped at 1.
  """
  return optax.adafactor(learning_rate, decay_rate=decay_rate)
