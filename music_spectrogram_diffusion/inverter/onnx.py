"""Published inverters in ONNX, run by onnxruntime.

Written for the one in diffusers' SpectrogramDiffusionPipeline, melgan.
"""

from jaxtyping import Float32
import numpy as np

from music_spectrogram_diffusion.inverter import published

_INPUT = "input_features"


class OnnxInverter(published.PublishedInverter):
  """A network in an ONNX file: see `published.PublishedInverter`."""

  def _load(self) -> None:
    try:
      import onnxruntime
    except ImportError as error:
      raise ValueError(
        f"Expected onnxruntime, to run {self._path}; pip install onnxruntime."
      ) from error
    try:
      self._session = onnxruntime.InferenceSession(
        self._path, providers=["CPUExecutionProvider"]
      )
    except Exception as error:  # Each of its errors is a class of its own.
      raise ValueError(f"Cannot read {self._path}: {error}") from error
    names = [put.name for put in self._session.get_inputs()]
    if names != [_INPUT]:
      raise ValueError(
        f"Expected a network with the input {_INPUT} in {self._path}, got"
        f" {', '.join(names)}."
      )

  def _run(
    self, log_mel: Float32[np.ndarray, "1 frames mel_bins"]
  ) -> np.ndarray:
    samples, *_ = self._session.run(None, {_INPUT: log_mel})
    return samples
