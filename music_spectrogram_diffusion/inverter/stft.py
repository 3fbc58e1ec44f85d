"""Short-time Fourier transforms as arrays, in both directions.

Frames are cut by shifted reshapes and summed by shifted pads: the gradients of
a gather and of a scatter are slow in XLA.
"""

from jax import Array
import jax.numpy as jnp
from jaxtyping import Complex, Float
import numpy as np

from music_spectrogram_diffusion import audio


def stft(
  samples: Float[Array, "*batch samples"], config: audio.SpectrogramConfig
) -> Complex[Array, "*batch frames bins"]:
  """Transforms all frames that lie within the samples, as `audio.log_mel` does.

  Args:
    samples: A whole number of hops. Zeros appended by `pad_end` give as many
      frames as there are hops.
    config: Window, hop and length of the transform.

  Returns:
    Frame t begins at sample `t * hop_length`.
  """
  hop = config.hop_length
  overlap = _overlap(config)
  hops = samples.reshape(*samples.shape[:-1], -1, hop)
  num_frames = hops.shape[-2] - overlap + 1
  shifted = [hops[..., i : i + num_frames, :] for i in range(overlap)]
  frames = jnp.concatenate(shifted, axis=-1)[..., : config.win_length]
  return jnp.fft.rfft(frames * audio.window(config), config.n_fft)


def pad_end(
  samples: Float[Array, "*batch samples"], config: audio.SpectrogramConfig
) -> Float[Array, "*batch padded"]:
  """Appends zeros, so that a frame begins at every hop of the samples."""
  num_hops = config.num_frames(samples.shape[-1]) + _overlap(config) - 1
  missing = num_hops * config.hop_length - samples.shape[-1]
  return jnp.pad(samples, [(0, 0)] * (samples.ndim - 1) + [(0, missing)])


def inverse_stft(
  spectrum: Complex[Array, "*batch frames bins"],
  config: audio.SpectrogramConfig,
) -> Float[Array, "*batch samples"]:
  """The signal whose transform is nearest in least squares; undoes `stft`."""
  window = audio.window(config)
  frames = jnp.fft.irfft(spectrum, config.n_fft)[..., : config.win_length]
  summed = overlap_add(frames * window, config)
  squares = np.broadcast_to(window**2, frames.shape[-2:])
  # Near both ends only the rim of one window is there.
  return summed / jnp.maximum(overlap_add(squares, config), 1e-8)


def overlap_add(
  frames: Float[np.ndarray | Array, "*batch frames win_length"],
  config: audio.SpectrogramConfig,
) -> Float[Array, "*batch samples"]:
  """Sums frames, each a hop after the one before it."""
  hop, overlap = config.hop_length, _overlap(config)
  *batch, num_frames, _ = frames.shape
  around = [(0, 0)] * len(batch)
  missing = overlap * hop - config.win_length
  pieces = jnp.pad(frames, [*around, (0, 0), (0, missing)])
  pieces = pieces.reshape(*batch, num_frames, overlap, hop)
  shifted = (
    jnp.pad(pieces[..., i, :], [*around, (i, overlap - 1 - i), (0, 0)])
    for i in range(overlap)
  )
  return sum(shifted).reshape(*batch, -1)


def _overlap(config: audio.SpectrogramConfig) -> int:
  """Hops that a frame touches."""
  return -(-config.win_length // config.hop_length)
