"""What a diffusion model is trained for, and what is watched meanwhile."""

from collections.abc import Callable
import dataclasses

import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from music_spectrogram_diffusion import diffusion, notes

_NOISE_LEVELS = (
  ("low", 0.0, 1 / 3),
  ("medium", 1 / 3, 2 / 3),
  ("high", 2 / 3, 1.0),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
  """How the network is trained; the defaults are the paper's.

  Attributes:
    loss: Distance between output and truth, element by element.
    drop_condition: Share of examples without notes and context, for guidance.
    drop_context: Share of the others without context, as at a song's start.
    noise_draws: Noisy versions of each example, which share its encodings.
    times: Function of a key and a number, which draws as many noise times.
  """

  loss: Callable = diffusion.losses.eps_loss
  drop_condition: float = 0.1
  drop_context: float = 0.0
  noise_draws: int = 1
  times: Callable = diffusion.losses.stratified_times

  def drop(
    self,
    note_tokens: Int[Array, "batch tokens"],
    context_mask: Bool[Array, "batch frames"],
    *,
    condition_key: PRNGKeyArray,
    context_key: PRNGKeyArray,
  ) -> tuple[Int[Array, "batch tokens"], Bool[Array, "batch frames"]]:
    """What some examples keep of their conditions: nothing, or their notes."""
    shape = (len(note_tokens), 1)
    keep = ~jax.random.bernoulli(condition_key, self.drop_condition, shape)
    keep_context = ~jax.random.bernoulli(context_key, self.drop_context, shape)
    return (
      jnp.where(keep, note_tokens, notes.PAD),
      context_mask & keep & keep_context,
    )


PAPER = Objective()
"""What the paper's models were trained for."""


def by_noise_level(
  values: Float[Array, "batch frames channels"],
  mask: Bool[Array, "batch frames"],
  time: Float[Array, " batch"],
) -> dict[str, Float[Array, ""]]:
  """Means over valid frames at `low`, `medium` and `high` noise; else NaN."""
  means = {}
  for name, low, high in _NOISE_LEVELS:
    level = mask & ((time >= low) & (time < high))[:, None]
    means[name] = jnp.where(
      level.any(), diffusion.losses.masked_mean(values, level), jnp.nan
    )
  return means
