"""Rendering: everything from a file of notes to a stream of audio.

Joins the rooms below; loads neither TensorFlow nor torch.
"""

from music_spectrogram_diffusion.inference.batching import Song
from music_spectrogram_diffusion.inference.devices import (
  BatchTooLargeError,
  DeviceError,
  peak_memory,
)
from music_spectrogram_diffusion.inference.synthesizer import (
  Segment,
  Synthesizer,
)

__all__ = [
  "BatchTooLargeError",
  "DeviceError",
  "Segment",
  "Song",
  "Synthesizer",
  "peak_memory",
]
