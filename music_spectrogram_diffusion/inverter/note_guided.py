"""An inverter that is told the notes, in place of one that has to guess them.

In a log-mel spectrogram, low tones lie nearer to each other than a bin is wide:
what sounds there is lost. Where notes are played, it is known. Another
inverter's audio keeps what is none of their tones: attacks, noise, drums.
"""

from collections.abc import Iterable, Iterator
from concurrent import futures
import dataclasses
import functools

import jax
from jax import Array, lax
import jax.numpy as jnp
from jaxtyping import Float, Float32
import numpy as np

from music_spectrogram_diffusion import audio, notes
from music_spectrogram_diffusion.inverter import (
  inverter,
  mel_magnitudes,
  note_tones,
  stft,
)

# Tones have half of a mel bin that asks for so many times what they have there.
_EVEN_RATIO = 10.0


@dataclasses.dataclass(frozen=True, eq=False)
class NoteGuidedInverter:
  """An `Inverter` that brings the tones of notes into another one's audio.

  Their harmonics (`note_tones`) have the mel bins around them, the other
  inverter's audio has the rest; then magnitudes are corrected. So a note is as
  loud as the spectrogram is where its harmonics lie, and no louder. Without
  notes, the audio is the other inverter's.

  Attributes:
    inner: The other inverter; frames of its features overlap by half.
    guided: What tones are brought into, where that is not `inner`: it without
      corrections of its own, say (`NeuralInverter.uncorrected`).
    num_refinements: How often magnitudes are corrected at the end
      (`mel_magnitudes.refine`). More bring them nearer to the spectrogram, for
      more time: see benchmarks/inverter.
    block_sizes: Frames that are worked on at once; others are filled up.
      Several blocks are worked on in threads of their own, where JAX's settings
      of the caller's thread alone do not hold.

  Raises:
    ValueError: Frames do not overlap by half, a block has no frames, there are
      fewer than 0 refinements, or both inverters have not the same features.
  """

  inner: inverter.Inverter
  guided: inverter.Inverter | None = None
  num_refinements: int = 3
  block_sizes: tuple[int, ...] = (16, 128)

  def __post_init__(self):
    config = self.config
    if config.win_length != 2 * config.hop_length:
      raise ValueError(
        "Expected frames that overlap by half where an inverter follows notes,"
        f" got hop_length = {config.hop_length}, win_length ="
        f" {config.win_length}; leave follow_notes out."
      )
    if self.guided is not None and self.guided.config != config:
      raise ValueError(
        f"Expected guided to be an inverter of {config}, as inner is, got one"
        f" of {self.guided.config}."
      )
    if self.num_refinements < 0:
      raise ValueError(
        f"Expected num_refinements from 0, got {self.num_refinements}."
      )
    if not self.block_sizes or min(self.block_sizes) < 1:
      raise ValueError(
        f"Expected block_sizes of 1 frame or more, got {self.block_sizes}."
      )

  @property
  def config(self) -> audio.SpectrogramConfig:
    """The features that are inverted."""
    return self.inner.config

  @property
  def _reach(self) -> int:
    """Hops to each side that a sample depends on."""
    return 1 + self.num_refinements

  def __call__(
    self,
    log_mel: Float[np.ndarray | Array, "frames mel_bins"],
    played: notes.Notes | None = None,
  ) -> Float32[np.ndarray, " samples"]:
    """Inverts a whole spectrogram; see `inverter.Inverter`."""
    # What is all there, as one chunk, can be worked on ahead.
    parts = self._stream([log_mel], played, _ahead)
    return np.concatenate([np.zeros(0, np.float32), *parts])

  def stream(
    self,
    chunks: Iterable[Float[np.ndarray | Array, "_ mel_bins"]],
    played: notes.Notes | None = None,
  ) -> Iterator[Float32[np.ndarray, "_"]]:
    """Inverts a spectrogram while it is made; see `inverter.Inverter`.

    Samples lag behind those that tones are brought into, by one frame more
    than there are refinements.
    """
    return self._stream(chunks, played, iter)

  def _stream(self, chunks, played, read):
    """See `stream`; `read` is how the other inverter's samples are read."""
    tones = played and note_tones.NoteTones(played, self.config)
    if not tones:
      yield from self.inner.stream(chunks, played)
      return
    hop, num_bins = self.config.hop_length, self.config.n_mels
    reach = self._reach
    silence = np.full(
      (reach + 1, num_bins), self.config.mel_range[0], np.float32
    )
    # What was given from `begin` on, with the silence before the song.
    frames = [silence]
    samples = np.zeros(reach * hop, np.float32)

    def remembered():
      for chunk in chunks:
        frames.append(inverter.check_log_mel(chunk, self.config))
        yield frames[-1]

    begin = 0
    inner = read((self.guided or self.inner).stream(remembered(), played))
    while True:
      more = next(inner, None)
      if more is None:
        frames.append(silence)
        more = np.zeros(reach * hop, np.float32)
        inner = None
      samples = np.concatenate([samples, more])
      ready = len(samples) // hop - 2 * reach
      if ready > 0:
        if len(frames) > 1:
          frames = [np.concatenate(frames)]
        starts = range(0, ready, max(self.block_sizes))
        yield from _in_threads(
          functools.partial(
            self._guide, tones, frames[0], samples, begin, ready
          ),
          starts,
        )
        begin += ready
        frames = [frames[0][ready:]]
        samples = samples[ready * hop :]
      if inner is None:
        return

  def _guide(self, tones, log_mel, samples, begin, ready, start):
    """The samples of the block that begins `start` frames after `begin`.

    Args:
      tones: Of all notes.
      log_mel: Frames, from `_reach` before `begin` on.
      samples: The other inverter's, likewise.
      begin: Where the first frame lies in the song.
      ready: How many frames all blocks have.
      start: The block's first.
    """
    hop, reach = self.config.hop_length, self._reach
    number = min(ready - start, max(self.block_sizes))
    size = min(size for size in self.block_sizes if size >= number)
    around = size + 2 * reach
    log_mel = log_mel[start : start + number + 2 * reach + 1]
    missing = around + 1 - len(log_mel)
    mel = np.exp(
      np.pad(
        log_mel,
        ((0, missing), (0, 0)),
        constant_values=self.config.mel_range[0],
      )
    )
    magnitude = np.asarray(_spread(mel, self.config))
    drawn = tones.draw(magnitude, begin + start - reach - 1)
    samples = samples[start * hop : (start + around) * hop]
    samples = np.pad(samples, (0, around * hop - len(samples)))
    guided = _mix(samples, drawn, mel[1:-1], self.config, self.num_refinements)
    return np.asarray(guided)[: number * hop]


def _ahead(items):
  """The same items; one is made in a thread while the one before is used."""
  with futures.ThreadPoolExecutor(1) as thread:
    coming = thread.submit(next, items, None)
    while (item := coming.result()) is not None:
      coming = thread.submit(next, items, None)
      yield item


def _in_threads(function, items):
  """Like `map`, two at once if there are several; both let others run."""
  if len(items) < 2:
    yield from map(function, items)
    return
  with futures.ThreadPoolExecutor(2) as threads:
    yield from threads.map(function, items)


@functools.partial(jax.jit, static_argnums=1)
def _spread(mel, config):
  return mel_magnitudes.spread_mel(mel, config)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _mix(samples, tones, mel, config, num_refinements):
  """Brings tones into samples where they are what mel magnitudes ask for.

  Args:
    samples: As many hops as frames and one.
    tones: Likewise.
    mel: Mel magnitudes of all frames within the samples.
    config: The features.
    num_refinements: How often magnitudes are corrected after that.

  Returns:
    The samples without `num_refinements` and one hops at both ends.
  """
  tonal, other = stft.stft(tones, config), stft.stft(samples, config)
  ratio = mel_magnitudes.ratio_to(mel, tonal, config)
  to_bins = mel_magnitudes.to_bins(config)
  share = (1.0 / (1.0 + jnp.square(ratio / _EVEN_RATIO))) @ to_bins
  gain = mel_magnitudes.gain_of(ratio, config) * share
  ratio = mel_magnitudes.ratio_to(mel, other, config)
  rest = mel_magnitudes.gain_of(ratio, config) * (1.0 - share)
  mixed = stft.inverse_stft(
    lax.complex(
      gain * tonal.real + rest * other.real,
      gain * tonal.imag + rest * other.imag,
    ),
    config,
  )
  return mel_magnitudes.refine(
    mixed[config.hop_length : -config.hop_length],
    mel[1:-1],
    config,
    times=num_refinements,
  )
