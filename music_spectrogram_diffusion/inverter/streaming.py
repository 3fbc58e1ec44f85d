"""Any convolutional network as an inverter, in blocks that overlap.

A network makes the samples of a frame from that frame and some to its sides:
its reach. Each block is given with as many frames around it, whose samples are
thrown away, so that joins are exact and not only inaudible.
"""

import abc
from collections.abc import Iterable, Iterator
import dataclasses
import functools
import math
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, Float32, Int, PRNGKeyArray
import numpy as np

from music_spectrogram_diffusion import audio, notes
from music_spectrogram_diffusion.inverter import inverter


class Block(NamedTuple):
  """Frames to invert, between neighbours that they depend on.

  Attributes:
    log_mel: The neighbours before, the block, and the neighbours after it;
      fewer neighbours at both ends of a song.
    start: Number of neighbours before.
    num_frames: Frames of the block itself.
  """

  log_mel: Float32[np.ndarray, "frames mel_bins"]
  start: int
  num_frames: int


def cut_into_overlapping_blocks(
  chunks: Iterable[Float32[np.ndarray, "_ mel_bins"]],
  *,
  sizes: tuple[int, ...],
  before: int,
  after: int,
) -> Iterator[Block]:
  """Cuts frames into blocks as soon as all that they depend on is there.

  Args:
    chunks: Consecutive frames, any number at a time.
    sizes: Numbers of frames of a block, to choose from. The first block has the
      smallest. What is there then is cut so that the least is computed; a block
      may have fewer frames than its size.
    before: Neighbours that a block has before it.
    after: Neighbours that a block has after it.

  Yields:
    Consecutive blocks; together they hold every frame once.
  """
  smallest = min(sizes)
  held = None  # Neighbours before the next block, and all after them.
  start, allowed = 0, (smallest,)
  for chunk in chunks:
    held = chunk if held is None else np.concatenate([held, chunk])
    while len(held) - start - after >= smallest:
      available = len(held) - start - after
      num_frames = frames_of_block(available, allowed, before + after)
      yield Block(held[: start + num_frames + after], start, num_frames)
      held = held[max(0, start + num_frames - before) :]
      start, allowed = min(before, start + num_frames), sizes
  while held is not None and len(held) > start:
    num_frames = frames_of_block(len(held) - start, allowed, before + after)
    yield Block(held[: start + num_frames + after], start, num_frames)
    held = held[max(0, start + num_frames - before) :]
    start, allowed = min(before, start + num_frames), sizes


def frames_of_block(available: int, sizes: tuple[int, ...], around: int) -> int:
  """How many of the available frames the next block takes.

  All of them, if to fill the next larger size up costs no more than to cut the
  next smaller one off and go on with the rest; else as many as that one has.

  Args:
    available: Frames that are there, at least 1.
    sizes: Numbers of frames that blocks may have.
    around: Neighbours that are computed with every block.
  """
  return _cut(available, tuple(sorted(sizes)), around)[0]


def _cut(available, sizes, around):
  """Frames of the next block, and those computed for all that are available."""
  if available <= 0:
    return 0, 0
  larger = [size for size in sizes if size >= available]
  smaller = [size for size in sizes if size <= available]
  filled_up = larger[0] + around if larger else math.inf
  if not smaller:
    return available, filled_up
  size = smaller[-1]
  # Beyond the largest size, what follows does not matter for the choice.
  rest = _cut(available - size, sizes, around)[1] if larger else 0
  if filled_up <= size + around + rest:
    return available, filled_up
  return size, size + around + rest


class BlockInverter(abc.ABC):
  """An `inverter.Inverter` that inverts overlapping blocks."""

  config: audio.SpectrogramConfig

  @property
  @abc.abstractmethod
  def block_sizes(self) -> tuple[int, ...]:
    """Frames of a block; see `cut_into_overlapping_blocks`."""

  @property
  @abc.abstractmethod
  def reach(self) -> tuple[int, int]:
    """Frames before and after a block that its samples depend on."""

  @abc.abstractmethod
  def invert_block(
    self, block: Block, state: Any
  ) -> tuple[Float32[np.ndarray, " samples"], Any]:
    """The samples of a block's own frames, and the state after them.

    Args:
      block: Frames between their neighbours.
      state: What the block before gave; None for the first.
    """

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
    checked = (inverter.check_log_mel(chunk, self.config) for chunk in chunks)
    before, after = self.reach
    blocks = cut_into_overlapping_blocks(
      checked, sizes=self.block_sizes, before=before, after=after
    )
    state = None
    for block in blocks:
      samples, state = self.invert_block(block, state)
      yield samples


@runtime_checkable
class Generator(Protocol):
  """A network that makes waveforms: hashable, equal when built equal."""

  @property
  def follows_notes(self) -> bool:
    """Whether a `NoteGuidedInverter` is to go on from it where notes are known.

    A user's word goes before this.
    """

  def uncorrected(self) -> "Generator":
    """The same for one who corrects magnitudes; with the same parameters."""

  @property
  def receptive_frames(self) -> tuple[int, int]:
    """How many frames before and after a frame its samples depend on."""

  def initial_state(self) -> Any:
    """What the first block goes on from, with a first axis for the batch."""

  def invert(
    self,
    parameters: Any,
    log_mel: Float[Array, "batch frames mel_bins"],
    state: Any,
    num_frames: Int[Array, ""] | int,
  ) -> tuple[Float[Array, "batch samples"], Any]:
    """Makes the samples of frames between their neighbours.

    Args:
      parameters: The generator's.
      log_mel: The frames to invert, with as many before and after them as
        `receptive_frames` says.
      state: What sounded before them.
      num_frames: After how many of the frames the next call begins.

    Returns:
      `hop_length` samples for each frame without its neighbours, and the state
      for the next call.
    """


class ConvolutionalGenerator(abc.ABC):
  """A `Generator` without state, of a network that keeps the length."""

  @property
  @abc.abstractmethod
  def receptive_frames(self) -> tuple[int, int]:
    """See `Generator`."""

  @abc.abstractmethod
  def apply(
    self,
    parameters: Any,
    log_mel: Float[Array, "batch frames mel_bins"],
  ) -> Float[Array, "batch samples"]:
    """Makes `hop_length` samples a frame."""

  @property
  def follows_notes(self) -> bool:
    """See `Generator`: alone, unless a user wants it otherwise."""
    return False

  def uncorrected(self) -> "ConvolutionalGenerator":
    """See `Generator`: it corrects nothing."""
    return self

  def initial_state(self) -> tuple[()]:
    """See `Generator`."""
    return ()

  def invert(
    self,
    parameters: Any,
    log_mel: Float[Array, "batch frames mel_bins"],
    state: tuple[()],
    num_frames: Int[Array, ""] | int,
  ) -> tuple[Float[Array, "batch samples"], tuple[()]]:
    """See `Generator`."""
    del num_frames
    samples = self.apply(parameters, log_mel)
    before, after = self.receptive_frames
    hop = samples.shape[1] // log_mel.shape[1]
    return samples[:, before * hop : samples.shape[1] - after * hop], state

  def training_output(
    self,
    parameters: Any,
    log_mel: Float[Array, "batch frames mel_bins"],
    samples: Float[Array, "batch samples"],
    key: PRNGKeyArray,
  ) -> tuple[Float[Array, "batch inner_samples"], dict[str, Array]]:
    """Samples as of `invert`, and no further losses."""
    del samples, key
    return self.invert(parameters, log_mel, (), 0)[0], {}


@dataclasses.dataclass(frozen=True, eq=False)
class NeuralInverter(BlockInverter):
  """Inverts log-mel spectrograms by a generator, block by block.

  Before the first frame and after the last one is silence, as far as the
  generator sees; its own padding never shows. Blocks come in few sizes, each
  compiled when it is first needed, and are filled up with silence. So streams
  that are cut differently agree to rounding errors.

  Attributes:
    config: The features that are inverted.
    generator: The network.
    parameters: Its parameters, on the device.
    block_sizes: Frames that are inverted at once. A stream gives samples as
      soon as the smallest of them can be inverted.
  """

  config: audio.SpectrogramConfig
  generator: Generator
  parameters: Any
  block_sizes: tuple[int, ...] = (16, 64, 256, 1024)

  def __post_init__(self):
    if not self.block_sizes or min(self.block_sizes) < 1:
      raise ValueError(
        f"Expected block_sizes of 1 frame or more, got {self.block_sizes}."
      )
    num_frames = min(self.block_sizes)
    length = num_frames + sum(self.reach)
    samples, _ = jax.eval_shape(
      self.generator.invert,
      self.parameters,
      jax.ShapeDtypeStruct((1, length, self.config.n_mels), jnp.float32),
      jax.eval_shape(self.generator.initial_state),
      jax.ShapeDtypeStruct((), jnp.int32),
    )
    expected = (1, num_frames * self.config.hop_length)
    if samples.shape != expected:
      raise ValueError(
        f"Expected a generator of {self.config.hop_length} samples a frame:"
        f" {expected} from {num_frames} frames, got {samples.shape}."
      )

  @property
  def reach(self) -> tuple[int, int]:
    """See `BlockInverter`."""
    return self.generator.receptive_frames

  def uncorrected(self) -> "NeuralInverter":
    """The same for one who corrects magnitudes; see `Generator`."""
    return dataclasses.replace(self, generator=self.generator.uncorrected())

  def invert_block(
    self, block: Block, state: Any
  ) -> tuple[Float32[np.ndarray, " samples"], Any]:
    """See `BlockInverter`."""
    before, after = self.reach
    size = min(size for size in self.block_sizes if size >= block.num_frames)
    length = before + size + after
    first = before - block.start
    padded = np.pad(
      block.log_mel,
      ((first, length - first - len(block.log_mel)), (0, 0)),
      constant_values=self.config.mel_range[0],
    )
    samples, state = _invert(
      self.generator,
      self.parameters,
      padded[None],
      self.generator.initial_state() if state is None else state,
      np.int32(block.num_frames),
    )
    num_samples = block.num_frames * self.config.hop_length
    return np.asarray(samples)[0, :num_samples], state


@functools.partial(jax.jit, static_argnums=0)
def _invert(generator, parameters, log_mel, state, num_frames):
  samples, state = generator.invert(parameters, log_mel, state, num_frames)
  return samples.astype(jnp.float32), state
