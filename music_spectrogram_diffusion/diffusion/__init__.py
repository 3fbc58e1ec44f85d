"""Diffusion as arithmetic on arrays: noise levels, targets, losses, samplers.

Knows arrays and callables, not music. Depends on JAX only.
"""

from music_spectrogram_diffusion.diffusion import (
  guidance,
  losses,
  parameterization,
  samplers,
  schedules,
  spacings,
)

__all__ = [
  "guidance",
  "losses",
  "parameterization",
  "samplers",
  "schedules",
  "spacings",
]
