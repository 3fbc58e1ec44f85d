"""Published inverters in ONNX, run by onnxruntime.

Written for the one in diffusers' SpectrogramDiffusionPipeline, melgan, which is
the paper's: `input_features` [batch, frames, mel_bins] in, samples out. The
pipeline gives it what the model has generated, unscaled to natural logarithms
of mel magnitudes between ln 1e-5 and 4.0, and a whole song at once; the model
card of the same network speaks of mel magnitudes clipped to [1e-5, 1e8].
"""

from collections.abc import Iterable, Iterator
import os

from jax import Array
from jaxtyping import Float, Float32
import numpy as np

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.inverter import inverter

_INPUT = "input_features"


class OnnxInverter:
  """Inverts log-mel spectrograms by a network in an ONNX file.

  A stream is inverted in blocks. The network sees each with frames before and
  after it, whose samples are thrown away. So joins are exact, not only
  inaudible, as long as a sample depends on no frame farther away than these
  `overlap_frames`. How far the published network sees is not published. One
  built as the paper says, with strides of 8, 5, 4 and 2, would see 5 frames to
  both sides, or 10 back if it is causal.

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
    """Loads an ONNX file.

    Raises:
      ValueError: onnxruntime is not installed, the file cannot be read, or is
        of another kind of network, or the overlap is longer than a block.
    """
    if not 0 <= overlap_frames <= block_frames or block_frames < 1:
      raise ValueError(
        "Expected overlap_frames from 0 to block_frames, got"
        f" {overlap_frames} and {block_frames}."
      )
    try:
      import onnxruntime
    except ImportError as error:
      raise ValueError(
        f"Expected onnxruntime, to run {path}; pip install onnxruntime."
      ) from error
    self.config = config
    self.block_frames = block_frames
    self.overlap_frames = overlap_frames
    self._path = os.fspath(path)
    try:
      self._session = onnxruntime.InferenceSession(
        self._path, providers=["CPUExecutionProvider"]
      )
    except Exception as error:  # Each of its errors is a class of its own.
      raise ValueError(f"Cannot read {path}: {error}") from error
    names = [put.name for put in self._session.get_inputs()]
    if names != [_INPUT]:
      raise ValueError(
        f"Expected a network with the input {_INPUT} in {path}, got"
        f" {', '.join(names)}."
      )

  def __call__(
    self, log_mel: Float[np.ndarray | Array, "frames mel_bins"]
  ) -> Float32[np.ndarray, " samples"]:
    """Inverts a whole spectrogram; see `inverter.Inverter`."""
    return np.concatenate([np.zeros(0, np.float32), *self.stream([log_mel])])

  def stream(
    self, chunks: Iterable[Float[np.ndarray | Array, "_ mel_bins"]]
  ) -> Iterator[Float32[np.ndarray, "_"]]:
    """Inverts a spectrogram while it is made; see `inverter.Inverter`."""
    checked = (inverter.check_log_mel(chunk, self.config) for chunk in chunks)
    blocks = inverter.cut_into_blocks(checked, self.block_frames)
    before = np.zeros((0, self.config.n_mels), np.float32)
    block = next(blocks, None)
    while block is not None:
      following = next(blocks, None)
      after = before[:0] if following is None else following
      yield self._invert(before, block, after[: self.overlap_frames])
      before = block[max(0, len(block) - self.overlap_frames) :]
      block = following

  def _invert(
    self,
    before: Float32[np.ndarray, "_ mel_bins"],
    block: Float32[np.ndarray, "frames mel_bins"],
    after: Float32[np.ndarray, "_ mel_bins"],
  ) -> Float32[np.ndarray, " samples"]:
    """The samples of a block between its neighbours."""
    features = np.concatenate([before, block, after])
    try:
      (samples, *_) = self._session.run(None, {_INPUT: features[None]})
    except Exception as error:
      raise ValueError(f"Cannot run {self._path}: {error}") from error
    hop = self.config.hop_length
    if samples.size != len(features) * hop:
      raise ValueError(
        f"Expected {len(features) * hop} samples from {self._path}, {hop} a"
        f" frame; got {samples.size}."
      )
    start = len(before) * hop
    return samples.reshape(-1)[start : start + len(block) * hop]
