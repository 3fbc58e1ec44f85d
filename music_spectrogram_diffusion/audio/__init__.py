"""Waveforms, their log-mel spectrograms, and audio files.

Depends on NumPy, JAX, soundfile and soxr; on no other room.
"""

from music_spectrogram_diffusion.audio.files import (
  FORMATS,
  AudioError,
  AudioWriter,
  read_audio,
  resample,
)
from music_spectrogram_diffusion.audio.spectrogram import (
  SpectrogramConfig,
  log_mel,
  mel_matrix,
  scale_log_mel,
  unscale_log_mel,
  window,
)

__all__ = [
  "AudioError",
  "AudioWriter",
  "FORMATS",
  "SpectrogramConfig",
  "log_mel",
  "mel_matrix",
  "read_audio",
  "resample",
  "scale_log_mel",
  "unscale_log_mel",
  "window",
]
