"""Griffin-Lim: finds phases for a spectrogram, without anything learned.

Griffin and Lim 1984, "Signal estimation from modified short-time Fourier
transform", in the accelerated form of Perraudin, Balazs and Sondergaard 2013,
"A fast Griffin-Lim algorithm". A spectrogram is projected by turns on the
transforms of real signals and on those of the wanted magnitudes.
"""

from collections.abc import Iterable, Iterator
import dataclasses
import functools
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Complex64, Float, Float32, Int
import numpy as np

from music_spectrogram_diffusion import audio, notes
from music_spectrogram_diffusion.inverter import inverter, stft

# Updates of `mel_to_linear`: the mel error is then far below that of phases.
_MEL_UPDATES = 20


class _State(NamedTuple):
  """What a block takes over from the one before it: the last frames of that.

  The first hops of `samples` are out already, the held ones may still change.
  """

  log_mel: Float[Array, "taken mel_bins"]
  spectrum: Complex64[Array, "taken bins"]
  samples: Float[Array, " taken_samples"]


@dataclasses.dataclass(frozen=True)
class GriffinLim:
  """Inverts log-mel spectrograms by fast Griffin-Lim, block by block.

  Each block goes on from the samples before it: they stay as they are while
  the phases of the block are found. Its last frames are held back, and found
  once more together with the frames that follow, so that no join is heard.
  Every block has the same shape and is compiled once. Before the first frame
  is silence; phases start from a seeded draw, so equal input gives equal
  output.

  Attributes:
    config: The features that are inverted.
    num_iterations: Pairs of projections for each block.
    momentum: Acceleration; 0 gives the original algorithm.
    block_frames: Frames that are inverted at once.
    held_frames: Frames held back until the next block, or the end.
    seed: Seed of the initial phases.
  """

  config: audio.SpectrogramConfig
  num_iterations: int = 64
  momentum: float = 0.99
  block_frames: int = 256
  held_frames: int = 4
  seed: int = 0

  def __post_init__(self):
    if self.config.hop_length > self.config.win_length // 2:
      raise ValueError(
        "Expected frames that overlap by half or more, got hop_length ="
        f" {self.config.hop_length}, win_length = {self.config.win_length}."
      )
    if self.num_iterations < 1 or self.momentum < 0:
      raise ValueError(
        "Expected num_iterations >= 1 and momentum >= 0,"
        f" got {self.num_iterations} and {self.momentum}."
      )
    if not 1 <= self.held_frames < self.block_frames:
      raise ValueError(
        "Expected held_frames from 1 to below block_frames,"
        f" got {self.held_frames} and {self.block_frames}."
      )

  def __call__(
    self,
    log_mel: Float[np.ndarray | Array, "frames mel_bins"],
    played: notes.Notes | None = None,
  ) -> Float32[np.ndarray, " samples"]:
    """Inverts a whole spectrogram; see `inverter.Inverter`."""
    del played
    return np.concatenate([np.zeros(0, np.float32), *self.stream([log_mel])])

  def stream(
    self,
    chunks: Iterable[Float[np.ndarray | Array, "_ mel_bins"]],
    played: notes.Notes | None = None,
  ) -> Iterator[Float32[np.ndarray, "_"]]:
    """Inverts a spectrogram while it is made; see `inverter.Inverter`."""
    del played
    hop = self.config.hop_length
    checked = (inverter.check_log_mel(chunk, self.config) for chunk in chunks)
    blocks = inverter.cut_into_blocks(checked, self.block_frames)
    state = self._silence()
    silent = self.held_frames * hop  # Held samples from before the start.
    held = np.zeros(silent, np.float32)
    for index, block in enumerate(blocks):
      missing = self.block_frames - len(block)
      padded = np.pad(
        block,
        ((0, missing), (0, 0)),
        constant_values=self.config.mel_range[0],
      )
      samples, state = _invert_block(self, padded, state, np.int32(index))
      done, held = np.split(
        np.asarray(samples)[: (len(block) + self.held_frames) * hop],
        [len(block) * hop],
      )
      if len(done) > silent:
        yield done[silent:]
      silent = max(0, silent - len(done))
    if len(held) > silent:
      yield held[silent:]

  @property
  def _num_fixed(self) -> int:
    """Hops that are out but that a frame of the next block still touches."""
    return -(-self.config.win_length // self.config.hop_length) - 1

  def _silence(self) -> _State:
    taken = self._num_fixed + self.held_frames
    config = self.config
    shape = (taken, config.n_mels)
    return _State(
      log_mel=jnp.full(shape, config.mel_range[0], jnp.float32),
      spectrum=jnp.zeros((taken, config.n_fft // 2 + 1), jnp.complex64),
      samples=jnp.zeros(taken * config.hop_length, jnp.float32),
    )


def mel_to_linear(
  mel: Float[Array, "frames mel_bins"], config: audio.SpectrogramConfig
) -> Float[Array, "frames bins"]:
  """Finds magnitudes of an FFT, none negative, that have these mel magnitudes.

  Richardson 1972 and Lucy 1974: multiplicative updates that lower the
  Kullback-Leibler divergence, from a start that spreads each mel bin over its
  triangle. Of the many solutions, they stay near that smooth one.

  Args:
    mel: Mel magnitudes, above 0.
    config: How they were computed.

  Returns:
    Magnitudes; 0 where no triangle has weight.
  """
  matrix = jnp.asarray(audio.mel_matrix(config))
  bin_weight = matrix.sum(axis=1)
  heard = bin_weight > 0
  per_bin = jnp.where(heard, 1.0 / jnp.where(heard, bin_weight, 1.0), 0.0)
  dot = functools.partial(jnp.matmul, precision="highest")

  def update(_, linear):
    ratio = mel / jnp.maximum(dot(linear, matrix), config.log_floor / 10)
    return linear * dot(ratio, matrix.T) * per_bin

  mel_weight = jnp.maximum(matrix.sum(axis=0), 1e-6)  # Some may hold no bin.
  start = dot(mel / mel_weight, matrix.T) * per_bin
  return jax.lax.fori_loop(0, _MEL_UPDATES, update, start)


@functools.partial(jax.jit, static_argnums=0)
def _invert_block(
  settings: GriffinLim,
  log_mel: Float[np.ndarray | Array, "block_frames mel_bins"],
  state: _State,
  index: Int[np.ndarray | Array, ""],
) -> tuple[Float[Array, " samples"], _State]:
  """Inverts the frames that were held, and a block of new ones.

  Returns:
    Samples of the held frames and of the block, and the state after them.
  """
  config, hop = settings.config, settings.config.hop_length
  taken, num_new = len(state.log_mel), len(log_mel)
  log_mel = jnp.concatenate([state.log_mel, jnp.asarray(log_mel)])
  magnitudes = mel_to_linear(jnp.exp(log_mel), config)
  key = jax.random.fold_in(jax.random.key(settings.seed), index)
  angles = jax.random.uniform(
    key, (num_new, magnitudes.shape[1]), maxval=2 * np.pi
  )
  drawn = jax.lax.complex(
    magnitudes[taken:] * jnp.cos(angles), magnitudes[taken:] * jnp.sin(angles)
  )
  start = jnp.concatenate([state.spectrum, drawn])

  # Samples that are out count fully, held ones less and less.
  num_fixed = settings._num_fixed * hop
  fade = np.linspace(1.0, 0.0, settings.held_frames * hop, dtype=np.float32)
  known_weight = np.concatenate([np.ones(num_fixed, np.float32), fade])

  def impose_magnitudes(spectrum):
    scale = magnitudes / jnp.maximum(jnp.abs(spectrum), 1e-9)
    return spectrum * scale.astype(spectrum.dtype)

  def to_samples(spectrum):
    samples = stft.inverse_stft(spectrum, config)
    found = samples[: len(known_weight)]
    known = found + known_weight * (state.samples - found)
    return samples.at[: len(known_weight)].set(known)

  def iterate(_, spectra):
    accelerated, previous = spectra
    consistent = stft.stft(to_samples(impose_magnitudes(accelerated)), config)
    step = settings.momentum * (consistent - previous)
    return consistent + step, consistent

  accelerated, _ = jax.lax.fori_loop(
    0, settings.num_iterations, iterate, (start, start)
  )
  spectrum = impose_magnitudes(accelerated)
  samples = to_samples(spectrum)
  after = _State(
    log_mel=log_mel[num_new:],
    spectrum=spectrum[num_new:],
    samples=samples[num_new * hop :][: taken * hop],
  )
  num_samples = (num_new + settings.held_frames) * hop
  return samples[num_fixed:][:num_samples], after
