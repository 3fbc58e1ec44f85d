"""Distances between spectrograms."""

from jaxtyping import Float
import numpy as np


def log_mel_distance(
  reference: Float[np.ndarray, "*batch frames mel_bins"],
  estimate: Float[np.ndarray, "*batch frames mel_bins"],
) -> float:
  """Mean absolute difference of two log-mel spectrograms, in their unit."""
  return float(np.abs(estimate - reference).mean(dtype=np.float64))
