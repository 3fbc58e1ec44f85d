"""How much work a function is, and how much a device can do."""

from collections.abc import Callable
import math
import time
from typing import Any

import jax
from jax import numpy as jnp

# Of dense products in bfloat16, by `jax.Device.device_kind`, whose beginning
# counts; more special names come first. From the makers' data sheets.
_PEAKS: tuple[tuple[str, float], ...] = (
  ("NVIDIA B200", 2250e12),
  ("NVIDIA H200", 989e12),
  ("NVIDIA H100 PCIe", 756e12),
  ("NVIDIA H100", 989e12),
  ("NVIDIA A100", 312e12),
  ("NVIDIA A10G", 70e12),
  ("NVIDIA A10", 125e12),
  ("NVIDIA L40S", 362e12),
  ("NVIDIA L4", 121e12),
  ("Tesla V100", 125e12),
  ("Tesla T4", 65e12),
  ("NVIDIA GeForce RTX 4090", 165e12),
  ("NVIDIA GeForce RTX 3090", 71e12),
  ("TPU v6 lite", 918e12),
  ("TPU v6e", 918e12),
  ("TPU v5 lite", 197e12),
  ("TPU v5e", 197e12),
  ("TPU v5", 459e12),
  ("TPU v4", 275e12),
  # JAX counts cores of these, two on a chip.
  ("TPU v3", 61.5e12),
  ("TPU v2", 22.5e12),
)


def count(function: Callable[..., Any], *args: Any) -> float:
  """Floating-point operations of the products and convolutions of a function.

  Everything else is left out, as in what is called model FLOPs. What a loop
  repeats counts as often as it is known to be repeated, and once in a `while`.

  Args:
    function: What is traced; nothing is computed.
    *args: Arrays or their shapes.

  Returns:
    Multiplications and additions together.
  """
  return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr: Any) -> float:
  return math.fsum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: Any) -> float:
  name, params = equation.primitive.name, equation.params
  result = math.prod(getattr(equation.outvars[0].aval, "shape", ()))
  if name == "dot_general":
    (contracted, _), _ = params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2.0 * result * math.prod(left[axis] for axis in contracted)
  if name == "conv_general_dilated":
    kernel = equation.invars[1].aval.shape
    outputs = kernel[params["dimension_numbers"].rhs_spec[0]]
    return 2.0 * result * math.prod(kernel) / outputs
  inner = [_count(jaxpr) for jaxpr in _jaxprs(params)]
  if name == "cond":
    return max(inner)
  return math.fsum(inner) * (params["length"] if name == "scan" else 1)


def _jaxprs(params: dict[str, Any]) -> list[Any]:
  """The programs that an equation runs."""
  found = []
  for value in params.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      item = getattr(item, "jaxpr", item)
      if hasattr(item, "eqns"):
        found.append(item)
  return found


def measured_peak(size: int = 1536, repeats: int = 7) -> float:
  """Operations a second of the fastest of some products of large matrices.

  Args:
    size: Side of the matrices, float32 as they come.
    repeats: How many are timed.
  """
  matrix = jnp.full((size, size), 1.0 / size, jnp.float32)
  product = jax.jit(jnp.matmul)
  seconds = []
  for _ in range(repeats + 1):  # The first compiles.
    started = time.perf_counter()
    matrix = product(matrix, matrix).block_until_ready()
    seconds.append(time.perf_counter() - started)
  return 2.0 * size**3 / min(seconds[1:])


def device_peak(device: Any = None) -> float | None:
  """Operations a second that a device can reach.

  Args:
    device: A `jax.Device`; the first one by default.

  Returns:
    The maker's figure for dense products in bfloat16; of a CPU, what products
    in float32 are measured to reach; None for a device that is not known.
  """
  device = device or jax.local_devices()[0]
  if device.platform == "cpu":
    return measured_peak()
  for name, peak in _PEAKS:
    if device.device_kind.startswith(name):
      return peak
  return None
