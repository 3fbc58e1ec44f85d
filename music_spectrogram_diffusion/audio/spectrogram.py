"""Log-mel spectrograms, in NumPy and in JAX: what every model reads and writes.

The numbers are those of TensorFlow's `signal.stft` with `pad_end` and
`signal.linear_to_mel_weight_matrix`, as the published models use them.
"""

import dataclasses
import functools
import math

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, Float32
import numpy as np

# Beyond any magnitude of audio in [-1, 1]; the published features clip here.
_CEILING = 1e8

# Frames that NumPy transforms at once, so that working memory stays small.
_BLOCK_FRAMES = 1024


@dataclasses.dataclass(frozen=True)
class SpectrogramConfig:
  """How audio becomes a log-mel spectrogram; the defaults are the paper's.

  Attributes:
    sample_rate: Samples per second.
    hop_length: Samples from one frame to the next.
    win_length: Samples in a frame, under a periodic Hann window.
    n_fft: Length of the Fourier transform; frames are zero-padded at the end.
    n_mels: Number of mel bins.
    fmin: Lower edge of the first mel bin, in Hz.
    fmax: Upper edge of the last mel bin, in Hz.
    log_floor: Magnitude below which everything is silence.
    log_max: Log-magnitude that is mapped to 1 on the scale of the models; the
      logarithm of `log_floor` is mapped to -1.
  """

  sample_rate: int = 16_000
  hop_length: int = 320
  win_length: int = 640
  n_fft: int = 1024
  n_mels: int = 128
  fmin: float = 0.0
  fmax: float = 8_000.0
  log_floor: float = 1e-5
  log_max: float = 4.0

  def __post_init__(self):
    if not 0 < self.win_length <= self.n_fft:
      raise ValueError(
        f"Expected win_length from 1 to n_fft = {self.n_fft},"
        f" got {self.win_length}."
      )
    if self.hop_length < 1 or self.n_mels < 1:
      raise ValueError(
        "Expected hop_length and n_mels of at least 1,"
        f" got {self.hop_length} and {self.n_mels}."
      )
    if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2:
      raise ValueError(
        "Expected 0 <= fmin < fmax <= sample_rate / 2,"
        f" got {self.fmin}, {self.fmax} and {self.sample_rate / 2} Hz."
      )
    if not 0 < self.log_floor < math.exp(self.log_max):
      raise ValueError(
        "Expected 0 < log_floor < exp(log_max),"
        f" got {self.log_floor} and exp({self.log_max})."
      )

  @property
  def frame_rate(self) -> float:
    """Frames per second."""
    return self.sample_rate / self.hop_length

  @property
  def mel_range(self) -> tuple[float, float]:
    """Log-magnitudes of silence and of full scale, mapped to -1 and 1."""
    return math.log(self.log_floor), self.log_max

  def num_frames(self, num_samples: int) -> int:
    """Frames of a signal; the last one may reach into zeros after its end."""
    return -(-num_samples // self.hop_length)


@functools.cache
def mel_matrix(
  config: SpectrogramConfig,
) -> Float32[np.ndarray, "bins mel_bins"]:
  """Triangles that sum the magnitudes of an FFT into mel bins.

  HTK's mel scale, 1127 ln(1 + f / 700). The triangles are linear in mel, peak
  at 1 and are not normalised; the bin of 0 Hz gets no weight. Low triangles
  may be narrower than the bins of the FFT, and then hold few or none of them.

  Returns:
    Weights in [0, 1], read-only because they are shared.
  """

  def hz_to_mel(frequency_hz):
    return 1127.0 * np.log1p(frequency_hz / 700.0)

  nyquist = config.sample_rate / 2
  bins = hz_to_mel(np.linspace(0.0, nyquist, config.n_fft // 2 + 1))[:, None]
  edges = np.linspace(
    hz_to_mel(config.fmin), hz_to_mel(config.fmax), config.n_mels + 2
  )
  lower, center, upper = edges[:-2], edges[1:-1], edges[2:]
  rising = (bins - lower) / (center - lower)
  falling = (upper - bins) / (upper - center)
  weights = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
  weights[0] = 0.0
  weights.flags.writeable = False
  return weights


def window(config: SpectrogramConfig) -> Float32[np.ndarray, " win_length"]:
  """The periodic Hann window."""
  phase = 2 * np.pi * np.arange(config.win_length) / config.win_length
  return (0.5 - 0.5 * np.cos(phase)).astype(np.float32)


def log_mel(
  samples: Float[np.ndarray | Array, "*batch samples"],
  config: SpectrogramConfig,
) -> Float32[np.ndarray | Array, "*batch frames mel_bins"]:
  """Computes the log-mel spectrogram of audio.

  Frame t starts at sample `t * hop_length`, nothing is centred, and zeros
  follow the signal's end, so that there are ceil(samples / hop) frames.

  Args:
    samples: Audio in [-1, 1]. NumPy in gives NumPy out; JAX in gives JAX out,
      and can be traced and differentiated.
    config: How to transform.

  Returns:
    Natural logarithm of mel magnitudes (not powers), at least ln(log_floor).
  """
  if isinstance(samples, jax.Array):
    frames = _frame(samples.astype(jnp.float32), config, jnp) * window(config)
    magnitudes = jnp.abs(jnp.fft.rfft(frames, config.n_fft))
    mel = jnp.matmul(magnitudes, mel_matrix(config), precision="highest")
    return jnp.log(jnp.clip(mel, config.log_floor, _CEILING))
  frames = _frame(samples.astype(np.float32), config, np)
  result = np.empty(frames.shape[:-1] + (config.n_mels,), np.float32)
  for start in range(0, frames.shape[-2], _BLOCK_FRAMES):
    block = np.s_[..., start : start + _BLOCK_FRAMES, :]
    spectrum = np.fft.rfft(frames[block] * window(config), config.n_fft)
    mel = np.abs(spectrum) @ mel_matrix(config)
    result[block] = np.log(np.clip(mel, config.log_floor, _CEILING))
  return result


def scale_log_mel(
  log_mel: Float[np.ndarray | Array, "*shape"],
  config: SpectrogramConfig,
  *,
  clip: bool = False,
) -> Float[np.ndarray | Array, "*shape"]:
  """Maps the config's `mel_range` linearly to the models' scale of [-1, 1].

  Args:
    log_mel: Natural logarithm of mel magnitudes.
    config: Gives the range.
    clip: Whether louder values, which would come out above 1, are cut; as
      targets and contexts of a model are.
  """
  low, high = config.mel_range
  scaled = (log_mel - low) * (2.0 / (high - low)) - 1.0
  return scaled.clip(-1.0, 1.0) if clip else scaled


def unscale_log_mel(
  scaled: Float[np.ndarray | Array, "*shape"],
  config: SpectrogramConfig,
) -> Float[np.ndarray | Array, "*shape"]:
  """Maps the models' scale back to log-magnitudes: undoes `scale_log_mel`."""
  low, high = config.mel_range
  return (scaled + 1.0) * ((high - low) / 2.0) + low


def _frame(samples, config, xp):
  """Cuts [*batch, samples] into overlapping [*batch, frames, win_length].

  Shifted reshapes, side by side: the gradient of a gather is slow in XLA.
  """
  hop = config.hop_length
  num_frames = config.num_frames(samples.shape[-1])
  overlap = -(-config.win_length // hop)
  missing = (num_frames + overlap - 1) * hop - samples.shape[-1]
  padding = [(0, 0)] * (samples.ndim - 1) + [(0, missing)]
  hops = xp.pad(samples, padding)
  hops = hops.reshape(samples.shape[:-1] + (num_frames + overlap - 1, hop))
  shifted = [hops[..., i : i + num_frames, :] for i in range(overlap)]
  return xp.concatenate(shifted, axis=-1)[..., : config.win_length]
