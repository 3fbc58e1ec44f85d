"""An embedding without a network: statistics of log-mel features.

Made here, and comparable with itself alone: its distances are in nats, and no
published figure is on its scale.
"""

import dataclasses

from jaxtyping import Float32
import numpy as np

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.evaluation import embedding_audio

NAME = "log-mel-statistics"

# Mel bins that share a level, and that share a deviation and a change.
_LEVEL_BINS = 2
_MOVEMENT_BINS = 4


@dataclasses.dataclass(frozen=True)
class LogMelStatistics:
  """How loud each second is by frequency, and how much that moves.

  A window's embedding is made of the log-mel frames in it: mean levels (where
  partials lie, how bright and how noisy it is), standard deviations (how far
  notes stand out from what is between them), and mean absolute changes from
  one frame to the next (how sharp onsets are). Of the paper's 128 mel bins that
  makes 64 + 32 + 32 dimensions, all of them in nats, divided by the square root
  of their number, so that a distance is about a mean difference in level.

  Attributes:
    config: The features.
    window_s: Seconds of a window; they do not overlap, and a last one that is
      not whole does not count.
    silence: Mel magnitude below which nothing is heard; some 80 dB below a
      sine of full scale.
    name: What tables call it.
  """

  config: audio.SpectrogramConfig = audio.SpectrogramConfig()
  window_s: float = 1.0
  silence: float = 1e-2
  name: str = dataclasses.field(default=NAME, init=False)

  def __call__(
    self, samples: Float32[np.ndarray, " samples"]
  ) -> Float32[np.ndarray, "time dims"]:
    """Embeds audio at the config's sample rate; see `Embedding`."""
    samples = embedding_audio.prepare_audio(
      samples, self.config, self.config.sample_rate
    )
    frames = round(self.window_s * self.config.frame_rate)
    windows = len(samples) // (frames * self.config.hop_length)
    samples = samples[: windows * frames * self.config.hop_length]
    log_mel = audio.log_mel(samples, self.config)
    log_mel = np.maximum(log_mel, np.log(np.float32(self.silence)))
    log_mel = log_mel.reshape(windows, frames, self.config.n_mels)
    statistics = np.concatenate(
      [
        _grouped(log_mel.mean(axis=1), _LEVEL_BINS),
        _grouped(log_mel.std(axis=1), _MOVEMENT_BINS),
        _grouped(np.abs(np.diff(log_mel, axis=1)).mean(axis=1), _MOVEMENT_BINS),
      ],
      axis=1,
    )
    return statistics / np.float32(np.sqrt(statistics.shape[1]))


def _grouped(values, size):
  """Means of `size` neighbours each, along the last axis."""
  edges = np.arange(0, values.shape[-1], size)
  sums = np.add.reduceat(values, edges, axis=-1)
  counts = np.diff(np.append(edges, values.shape[-1]))
  return sums / counts.astype(np.float32)
