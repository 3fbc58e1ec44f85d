"""Distances of audio to the audio wanted: embedded, or by their spectra.

Where lengths differ, the common part from the start is compared, and a warning
says by how much they differ.
"""

from collections.abc import Sequence
from concurrent import futures
import warnings

from jaxtyping import Float
import numpy as np
from scipy import fft

RESOLUTIONS = ((512, 240, 50), (1024, 600, 120), (2048, 1200, 240))
"""Transform, window and hop of each term of the STFT distance, in samples.

Those of Yamamoto et al. 2020, https://arxiv.org/abs/1910.11480, table 1.
"""

# Spectra are sums over a window: 16 bits' noise is 3e-4 in the longest.
_LOG_FLOOR = 1e-3

# Frames that are transformed at once: what is made of them stays in the cache.
_BLOCK_FRAMES = 128


def reconstruction_distance(
  reference: Float[np.ndarray, "time dims"],
  estimate: Float[np.ndarray, "estimate_time estimate_dims"],
) -> float:
  """Mean over time of the L2 norm of the difference of two embeddings.

  Hawthorne et al. 2022, https://arxiv.org/abs/2206.05408, section 4.

  Raises:
    ValueError: There is no common part, dimensions differ, or a value is NaN.
  """
  if reference.shape[1] != estimate.shape[1]:
    raise ValueError(
      f"Expected embeddings of {reference.shape[1]} dimensions, as the"
      f" reference has, got {estimate.shape[1]}."
    )
  a, b = _common_part(reference, estimate, "embeddings")
  difference = a.astype(np.float64) - b
  return float(np.linalg.norm(difference, axis=1).mean())


def log_mel_distance(
  reference: Float[np.ndarray, "*batch frames mel_bins"],
  estimate: Float[np.ndarray, "*batch estimate_frames mel_bins"],
) -> float:
  """Mean absolute difference of two log-mel spectrograms, in nats.

  Raises:
    ValueError: There is no common part, or a value is NaN.
  """
  a, b = _common_part(reference, estimate, "frames", axis=-2)
  return float(np.abs(b - a).mean(dtype=np.float64))


def multi_resolution_stft_distance(
  reference: Float[np.ndarray, " samples"],
  estimate: Float[np.ndarray, " estimate_samples"],
  *,
  resolutions: Sequence[tuple[int, int, int]] = RESOLUTIONS,
  log_floor: float = _LOG_FLOOR,
) -> float:
  """Distance of the magnitudes of audio, fine in time and fine in frequency.

  Yamamoto et al. 2020, https://arxiv.org/abs/1910.11480, eq. 4 to 6: spectral
  convergence, the distance of the magnitudes by the norm of the reference's,
  plus the mean absolute distance of their logarithms; a mean over resolutions.
  What `inverter.stft_distance` measures, for songs of any length.

  Args:
    reference: The wanted audio, in [-1, 1].
    estimate: What is measured, at the same rate.
    resolutions: Transform, window and hop of each term, in samples.
    log_floor: Magnitude below which everything is silence.

  Returns:
    At least 0, which is for equal audio.

  Raises:
    ValueError: There is no common part, or a value is NaN.
  """
  a, b = _common_part(reference, estimate, "samples")
  with futures.ThreadPoolExecutor() as threads:  # NumPy lets go of the lock.
    terms = threads.map(
      lambda resolution: _stft_distance(a, b, *resolution, log_floor),
      resolutions,
    )
    return float(np.mean(list(terms)))


def _stft_distance(reference, estimate, n_fft, win_length, hop, log_floor):
  """Spectral convergence and log-distance at one resolution."""
  squares = np.zeros(2)  # Of the difference, and of the reference.
  logarithms = 0.0
  pairs = zip(
    _magnitudes(reference, n_fft, win_length, hop),
    _magnitudes(estimate, n_fft, win_length, hop),
    strict=True,
  )
  for a, b in pairs:
    a, b = np.maximum(a, log_floor), np.maximum(b, log_floor)
    squares += np.square(a - b).sum(), np.square(a).sum()
    logarithms += np.abs(np.log(a / b)).sum()
  num_bins = -(-len(reference) // hop) * (n_fft // 2 + 1)
  return np.sqrt(squares[0] / squares[1]) + logarithms / num_bins


def _magnitudes(samples, n_fft, win_length, hop):
  """Yields blocks of frames; zeros follow the end, one frame a hop."""
  phase = 2 * np.pi * np.arange(win_length) / win_length
  window = (0.5 - 0.5 * np.cos(phase)).astype(np.float32)
  num_frames = -(-len(samples) // hop)
  padding = (num_frames - 1) * hop + win_length - len(samples)
  padded = np.pad(samples.astype(np.float32), (0, max(padding, 0)))
  views = np.lib.stride_tricks.sliding_window_view(padded, win_length)[::hop]
  for start in range(0, num_frames, _BLOCK_FRAMES):
    frames = views[start : min(start + _BLOCK_FRAMES, num_frames)]
    yield np.abs(fft.rfft(frames * window, n_fft))


def _common_part(reference, estimate, unit, axis=0):
  """Cuts both to the length of the shorter; says by how much, and checks."""
  lengths = reference.shape[axis], estimate.shape[axis]
  length = min(lengths)
  if not length:
    raise ValueError(
      f"Expected {unit} of both to compare, got {lengths[0]} of the reference"
      f" and {lengths[1]} of the estimate."
    )
  if lengths[0] != lengths[1]:
    warnings.warn(
      f"The estimate has {lengths[1]} {unit}, the reference {lengths[0]}:"
      f" the first {length} are compared.",
      stacklevel=3,
    )
  common = []
  for name, values in (("reference", reference), ("estimate", estimate)):
    values = np.moveaxis(np.moveaxis(values, axis, 0)[:length], 0, axis)
    if not np.isfinite(values).all():
      raise ValueError(
        f"Expected finite {unit}, got NaN or infinity in the {name}."
      )
    common.append(values)
  return common
