"""Optimizers and learning rates."""

from collections.abc import Callable
import re
from typing import Any

from flax import traverse_util
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int
import optax

_ADAM_RMS = 0.2
"""Root mean square of Adam's updates, at a learning rate of 1."""

_INNER = re.compile("attention|mlp", re.IGNORECASE)


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


def constant(value: float, *, warmup_steps: int = 0) -> optax.Schedule:
  """Learning rate: linearly up to `value`, then constant.

  Args:
    value: Learning rate after the warm-up.
    warmup_steps: Steps over which it rises; the first already moves.

  Returns:
    A function of the step.
  """

  def learning_rate(step: Int[Array, ""] | int) -> Float[Array, ""]:
    done = jnp.asarray(step + 1, jnp.float32)
    return value * jnp.minimum(1.0, done / max(warmup_steps, 1))

  return learning_rate


def inverse_square_root(
  peak: float, *, warmup_steps: int = 10_000, linear: bool = True
) -> optax.Schedule:
  """Learning rate: up to `peak`, then falling with the root of the step.

  Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 5.3; T5 was
  trained with a peak of 0.01 and a warm-up that is constant (Raffel et al.
  2020, section 3.1.2).

  Args:
    peak: Highest learning rate, that of the step `warmup_steps`.
    warmup_steps: Steps before it falls, at least 1.
    linear: Whether the rate rises until then, or has been at the peak.

  Returns:
    A function of the step.

  Raises:
    ValueError: There is no warm-up.
  """
  if warmup_steps < 1:
    raise ValueError(
      f"Expected warmup_steps of at least 1, got {warmup_steps}."
    )

  def learning_rate(step: Int[Array, ""] | int) -> Float[Array, ""]:
    done = jnp.asarray(step + 1, jnp.float32) / warmup_steps
    rising = jnp.minimum(1.0, done) if linear else 1.0
    return peak * rising / jnp.sqrt(jnp.maximum(done, 1.0))

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


def is_inner_matrix(parameters: dict[str, Any]) -> dict[str, Any]:
  """Marks the matrices of attention and MLPs, which `muon` is for."""
  return traverse_util.path_aware_map(
    lambda path, _: (
      path[-1] == "kernel" and any(_INNER.search(name) for name in path)
    ),
    parameters,
  )


def muon(
  learning_rate: optax.ScalarOrSchedule,
  *,
  is_inner: Callable[[dict[str, Any]], dict[str, Any]] = is_inner_matrix,
  gain: float = 1.0,
  momentum: float = 0.95,
  b1: float = 0.9,
  b2: float = 0.98,
  weight_decay: float = 0.0,
  clip_norm: float = 1.0,
) -> optax.GradientTransformation:
  """Muon for matrices inside the network, NAdam for all other parameters.

  Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/: an update is
  the momentum with all its singular values brought to 1. Its size is that of
  Adam's updates, as in Liu et al. 2025, https://arxiv.org/abs/2502.16982,
  section 2.2, so that both have the same learning rate. NAdam (Dozat 2016) is
  Adam with Nesterov's momentum, as Muon's is here.

  Args:
    learning_rate: Of both.
    is_inner: Marks the parameters that are Muon's, all of them matrices.
    gain: Muon's rate over NAdam's.
    momentum: Of Muon.
    b1: Of NAdam.
    b2: Of NAdam.
    weight_decay: Of Muon's matrices.
    clip_norm: Largest norm of the gradient.
  """

  def rate(step: Int[Array, ""] | int) -> Float[Array, ""] | float:
    now = learning_rate(step) if callable(learning_rate) else learning_rate
    return gain * now

  def dimensions(parameters: dict[str, Any]) -> dict[str, Any]:
    matrix = optax.contrib.MuonDimensionNumbers(0, 1)
    return jax.tree.map(
      lambda inner: matrix if inner else None, is_inner(parameters)
    )

  return optax.chain(
    optax.clip_by_global_norm(clip_norm),
    optax.contrib.muon(
      rate,
      beta=momentum,
      weight_decay=weight_decay,
      adam_b1=b1,
      adam_b2=b2,
      adam_learning_rate=learning_rate,
      muon_weight_dimension_numbers=dimensions,
      consistent_rms=_ADAM_RMS,
    ),
  )


def adam(
  learning_rate: optax.ScalarOrSchedule,
  *,
  b1: float = 0.9,
  b2: float = 0.999,
  clip_norm: float | None = None,
) -> optax.GradientTransformation:
  """Adam, behind a clip of the global gradient norm where one is given.

  Kingma and Ba 2015, https://arxiv.org/abs/1412.6980.
  """
  adam = optax.adam(learning_rate, b1=b1, b2=b2)
  if clip_norm is None:
    return adam
  return optax.chain(optax.clip_by_global_norm(clip_norm), adam)


def adafactor(
  learning_rate: optax.ScalarOrSchedule = 1e-3,
  *,
  decay_rate: float = 0.8,
  step_offset: int = 0,
  multiply_by_parameter_scale: bool = True,
  clipping_threshold: float | None = 1.0,
  min_dim_size_to_factor: int = 128,
  momentum: float | None = None,
  weight_decay: float | None = None,
) -> optax.GradientTransformation:
  """Adafactor, by default with the paper's settings, which are those of T5X.

  Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235. All parameters here
  have at most two axes, where the rules of T5X for the axes to factor over
  come down to their lengths, too.

  Args:
    learning_rate: Size of an update, relative to that of the parameter.
    decay_rate: The average of squared gradients forgets in step n, from 1, all
      but 1 - n^-decay_rate of what it was.
    step_offset: Taken from the step there; for fine-tuning, where a trained
      optimizer state is gone on with.
    multiply_by_parameter_scale: Whether updates are relative to the root mean
      square of the parameter, at least 1e-3, or absolute.
    clipping_threshold: Greatest root mean square of an update, in learning
      rates; None for none.
    min_dim_size_to_factor: Matrices with a side shorter than this keep the
      average for each element, others for rows and columns only.
    momentum: Weight of the updates before; None for none, without memory.
    weight_decay: Share of a parameter that each step takes away.

  Returns:
    The optimizer.
  """
  return optax.adafactor(
    learning_rate,
    decay_rate=decay_rate,
    decay_offset=step_offset,
    multiply_by_parameter_scale=multiply_by_parameter_scale,
    clipping_threshold=clipping_threshold,
    min_dim_size_to_factor=min_dim_size_to_factor,
    momentum=momentum,
    weight_decay_rate=weight_decay,
  )
