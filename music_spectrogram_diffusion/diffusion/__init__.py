"""Diffusion as arithmetic on arrays: noise levels, targets, losses, samplers.

Knows arrays and callables, not music. Depends on JAX only.
"""

from music_spectrogram_diffusion.diffusion import (
  losses,
  parameterization,
  schedules,
)

__all__ = ["losses", "parameterization", "schedules"]
