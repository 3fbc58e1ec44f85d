"""What published inverters share: networks of which only the outside is known.

The paper's was published twice, as a SavedModel on TensorFlow Hub
(`soundstream/mel/decoder/music/1`) and in ONNX with diffusers' pipeline. Both
take log-mel frames [batch, frames, mel_bins] and give samples. The pipeline
gives its network what the model has generated, unscaled to natural logarithms
of mel magnitudes between ln 1e-5 and 4.0, and a whole song at once; the model
card of the same network speaks of mel magnitudes clipped to [1e-5, 1e8].
"""

import abc
import os

from jaxtyping import Float32
import numpy as np

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.inverter import streaming


class PublishedInverter(streaming.BlockInverter):
  """Inverts log-mel spectrograms by a network that another program runs.

  A song's ends are the network's own: nothing is put before or after it. Joins
  are exact as long as a sample depends on no frame farther away than
  `overlap_frames`. How far the published network sees is not published. Ours,
  built as the paper says, sees 4 frames to both sides, and one that is causal
  would see twice as many back.

  Attributes:
    config: The features that are inverted.
    block_frames: Frames that are inverted at once, without the overlap.
    overlap_frames: Frames that are given twice, on each side of a block.
  """

  def __init__(
    self,
    path: str | os.PathLike,
    config: audio.SpectrogramConfig,
    *,
    block_frames: int = 256,
    overlap_frames: int = 16,
  ):
    """Loads a network.

    Raises:
      ValueError: What runs it is not installed, the network cannot be read or
        is of another kind, or the overlap is longer than a block.
    """
    if not 0 <= overlap_frames <= block_frames or block_frames < 1:
      raise ValueError(
        "Expected overlap_frames from 0 to block_frames, got"
        f" {overlap_frames} and {block_frames}."
      )
    self.config = config
    self.block_frames = block_frames
    self.overlap_frames = overlap_frames
    self._path = os.fspath(path)
    self._load()

  @property
  def block_sizes(self) -> tuple[int, ...]:
    """See `streaming.BlockInverter`."""
    return (self.block_frames,)

  @property
  def reach(self) -> tuple[int, int]:
    """See `streaming.BlockInverter`."""
    return self.overlap_frames, self.overlap_frames

  def invert_block(
    self, block: streaming.Block, state: None
  ) -> tuple[Float32[np.ndarray, " samples"], None]:
    """See `streaming.BlockInverter`."""
    try:
      samples = np.asarray(self._run(block.log_mel[None]), np.float32)
    except Exception as error:  # Each program has errors of its own.
      raise ValueError(f"Cannot run {self._path}: {error}") from error
    hop, num_frames = self.config.hop_length, len(block.log_mel)
    if samples.size != num_frames * hop:
      raise ValueError(
        f"Expected {num_frames * hop} samples from {self._path}, {hop} a"
        f" frame; got {samples.size}."
      )
    samples = samples.reshape(-1)[block.start * hop :]
    return samples[: block.num_frames * hop], state

  @abc.abstractmethod
  def _load(self) -> None:
    """Reads the network at `_path`; raises a `ValueError` that names it."""

  @abc.abstractmethod
  def _run(
    self, log_mel: Float32[np.ndarray, "1 frames mel_bins"]
  ) -> np.ndarray:
    """The network's samples, under any number of axes."""
