"""Classifier-free guidance: the condition's effect, exaggerated."""

from jaxtyping import Array, Float
import numpy as np


def guided(
  conditional: Float[Array, "*shape"],
  unconditional: Float[Array, "*shape"],
  weight: float | Float[Array, ""],
) -> Float[Array, "*shape"]:
  """weight * conditional + (1 - weight) * unconditional.

  Ho and Salimans 2022, https://arxiv.org/abs/2207.12598, whose w is
  `weight` - 1. The weights sum to 1, so predictions of x0, of eps and of v at
  the same z_t give the same result.

  Args:
    conditional: Prediction that sees the condition.
    unconditional: Prediction without it.
    weight: 1 is no guidance, 0 ignores the condition.

  Returns:
    The guided prediction, of the same kind as its arguments.
  """
  return weight * conditional + (1.0 - weight) * unconditional


def weights_at(
  times: Float[np.ndarray, " steps"],
  weight: float,
  interval: tuple[float, float],
) -> tuple[float, ...]:
  """The weight of each prediction, when only noise in an interval is guided.

  At much noise guidance narrows what can be drawn, at little it changes nothing
  (Kynkaanniemi et al. 2024, https://arxiv.org/abs/2404.07724). Without it a
  prediction costs half: the unconditional one is not made.

  Args:
    times: Noise time of each prediction.
    weight: Weight inside the interval.
    interval: Lowest and highest noise time that is guided, both included.

  Returns:
    `weight` inside, 1 outside.
  """
  low, high = interval
  return tuple(weight if low <= time <= high else 1.0 for time in times)
