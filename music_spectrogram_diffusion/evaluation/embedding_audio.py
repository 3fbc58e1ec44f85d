"""Audio as embeddings take it: checked, ten minutes of it, at their rate."""

from jaxtyping import Float32
import numpy as np

from music_spectrogram_diffusion import audio

MAX_DURATION_S = 600.0
"""What counts of a song, from its start: ten minutes, as in the paper."""


def prepare_audio(
  samples: Float32[np.ndarray, " samples"],
  config: audio.SpectrogramConfig,
  sample_rate: int,
) -> Float32[np.ndarray, " prepared"]:
  """Cuts audio to the first ten minutes and resamples it.

  Args:
    samples: Mono audio in [-1, 1].
    config: Gives its sample rate.
    sample_rate: Rate in Hz that the embedding takes.

  Raises:
    ValueError: A sample is not finite.
  """
  samples = samples[: round(MAX_DURATION_S * config.sample_rate)]
  finite = np.isfinite(samples)
  if not finite.all():
    raise ValueError(
      "Expected finite audio to embed, got NaN or infinity at"
      f" {int(np.argmin(finite)) / config.sample_rate:.2f} s."
    )
  return audio.resample(samples, config.sample_rate, sample_rate)
