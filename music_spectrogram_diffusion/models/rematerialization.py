"""Layers whose activations the gradient computes again instead of keeping.

Chen et al. 2016, https://arxiv.org/abs/1604.06174. `flax.linen.remat` does the
same, but asks the compiler alone to hold the second computation back, by a
barrier. XLA's compiler for CPUs removes it, finds what was computed before,
and keeps that: no memory is saved. Here what is computed again depends on the
gradient that comes in, which no compiler can know before it is there.
"""

from collections.abc import Callable
import copy
from typing import Any

from flax import linen as nn
from flax.core import lift
from flax.linen import transforms
import jax
from jax import numpy as jnp


def rematerialized(
  layer: type[nn.Module], remat: bool
) -> Callable[..., nn.Module]:
  """The layer, or one that keeps its inputs alone for the gradient.

  Names and values of parameters are the same, and what dropout drops.

  Args:
    layer: Class of the layer, to be called by positional arguments alone, the
      last of which, `deterministic`, is looked at while the layer is traced.
    remat: Whether to compute again.
  """
  return transforms.lift_transform(_computed_again, layer) if remat else layer


def _computed_again(layer: Callable[..., Any]) -> Callable[..., Any]:
  """A layer as a function of Flax's scope, with a gradient of its own."""

  def inner(scope_fn, repack_fn, variables, rngs, *inputs_and_flag):
    *inputs, deterministic = inputs_and_flag

    def compute(variables, rngs, *inputs):
      scope = scope_fn(variables, rngs)
      for root in jax.tree.leaves(scope):
        # Counts the keys that were drawn: the second time begins where the
        # first one did.
        root.rng_counters = copy.deepcopy(root.rng_counters)
      return layer(scope, *inputs, deterministic), repack_fn(scope)

    def forward(*arguments):
      return compute(*arguments), arguments

    def backward(arguments, gradient):
      variables, rngs, *inputs = arguments
      inputs = _after(gradient, inputs)
      return jax.vjp(compute, variables, rngs, *inputs)[1](gradient)

    again = jax.custom_vjp(compute)
    again.defvjp(forward, backward)
    return again(variables, rngs, *inputs)

  return lift.pack(inner, (True,), (True,), (True,), name="remat")


def _after(gradient: Any, inputs: list[Any]) -> list[Any]:
  """The inputs, not to be had before the gradient.

  Where the gradient is not a number, they are none either.
  """
  first = next(
    leaf
    for leaf in jax.tree.leaves(gradient)
    if jnp.issubdtype(leaf.dtype, jnp.floating)
  )
  unusable = jnp.isnan(first.ravel()[0])

  def hold(leaf):
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
      return leaf
    return jnp.where(unusable, jnp.array(jnp.nan, leaf.dtype), leaf)

  return jax.tree.map(hold, inputs)
