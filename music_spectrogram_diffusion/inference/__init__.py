"""Rendering: everything from a file of notes to a stream of audio.

Joins the rooms below; loads neither TensorFlow nor torch.
"""

from music_spectrogram_diffusion.inference.synthesizer import (
  Segment,
  Synthesizer,
)

__all__ = ["Segment", "Synthesizer"]
