"""Classifier-free guidance: the condition's effect, exaggerated."""

from jaxtyping import Array, Float


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
