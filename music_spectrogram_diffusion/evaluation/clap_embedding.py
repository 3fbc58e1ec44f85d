"""CLAP, an embedding of music and language, as an ONNX file by onnxruntime.

Elizalde et al. 2022, https://arxiv.org/abs/2206.04769, and LAION's of Wu et al.
2022, https://arxiv.org/abs/2211.06687. Expected is the audio half of LAION's
unfused model as it is exported for transformers.js: `onnx/audio_model.onnx` of
https://huggingface.co/Xenova/clap-htsat-unfused. Its one input is
`input_features` [batch, 1, 1001, 64], the log-mel features of ten seconds, and
its output `audio_embeds` [batch, 512].

The features are those of transformers' ClapFeatureExtractor for that model: 48
kHz, periodic Hann windows of 1024 samples every 480, centred with reflected
ends, powers in 64 of Slaney's mel bins from 50 to 14000 Hz, in dB down to -100.
"""

import dataclasses
import functools
import os
import pathlib
from typing import Any

from jaxtyping import Float32
import numpy as np

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.evaluation import embedding_audio

_SAMPLE_RATE = 48_000
_WINDOW_S = 10
_N_FFT = 1024
_HOP = 480
_FRAMES = _WINDOW_S * _SAMPLE_RATE // _HOP + 1
_MEL_BINS = 64
_DIMS = 512
_RANGE_HZ = (50.0, 14_000.0)
_FLOOR = 1e-10

_INPUT, _OUTPUT = "input_features", "audio_embeds"
_SHAPE = (1, _FRAMES, _MEL_BINS)  # Of one example.
_SOURCE = (
  "onnx/audio_model.onnx of https://huggingface.co/Xenova/clap-htsat-unfused"
)


@dataclasses.dataclass(frozen=True)
class ClapEmbedding:
  """Embeds windows of ten seconds, one each second, as fadtk does.

  Audio shorter than a window is repeated to fill one, and padded with zeros, as
  the model was trained.

  Attributes:
    name: What tables call it.
    session: The network, of onnxruntime.
    config: Gives the rate of the audio, which is resampled to 48 kHz.
    hop_s: Seconds from one window to the next.
  """

  name: str
  session: Any
  config: audio.SpectrogramConfig
  hop_s: float = 1.0

  def __call__(
    self, samples: Float32[np.ndarray, " samples"]
  ) -> Float32[np.ndarray, "time dims"]:
    """Embeds audio at the config's sample rate; see `Embedding`."""
    samples = embedding_audio.prepare_audio(samples, self.config, _SAMPLE_RATE)
    length = _WINDOW_S * _SAMPLE_RATE
    if 0 < len(samples) < length:
      samples = np.tile(samples, length // len(samples))
      samples = np.pad(samples, (0, length - len(samples)))
    hop = round(self.hop_s * _SAMPLE_RATE)
    starts = range(0, len(samples) - length + 1, hop)
    embeddings = [np.zeros((0, _DIMS), np.float32)]
    for start in starts:
      features = log_mel(samples[start : start + length])[None, None]
      (embedding,) = self.session.run([_OUTPUT], {_INPUT: features})
      if embedding.shape != (1, _DIMS):
        raise ValueError(
          f"Expected {self.name} to give {_OUTPUT} of [1, {_DIMS}], got"
          f" {list(embedding.shape)}: is it another model?"
        )
      embeddings.append(embedding)
    return np.concatenate(embeddings)


def load_clap(
  path: str | os.PathLike, config: audio.SpectrogramConfig
) -> ClapEmbedding:
  """Loads CLAP from an ONNX file; named `clap:FILE` after it.

  Raises:
    ValueError: onnxruntime is not installed, or the file is missing, damaged,
      or a network of other inputs and outputs.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise ValueError(f"Expected clap=FILE, {_SOURCE}; got no file {path}.")
  try:
    import onnxruntime
  except ImportError as error:
    raise ValueError(
      f"Expected onnxruntime, to run {path}; pip install onnxruntime."
    ) from error
  try:
    session = onnxruntime.InferenceSession(
      os.fspath(path), providers=["CPUExecutionProvider"]
    )
  except Exception as error:  # Each of its errors is a class of its own.
    reason = str(error).partition("\n")[0]
    raise ValueError(f"Cannot read {path}: {reason}") from error
  inputs = {put.name: put.shape for put in session.get_inputs()}
  outputs = [put.name for put in session.get_outputs()]
  if list(inputs) != [_INPUT] or _OUTPUT not in outputs:
    raise ValueError(
      f"Expected a network from {_INPUT} to {_OUTPUT} in {path}, as {_SOURCE};"
      f" got one from {', '.join(inputs)} to {', '.join(outputs)}."
    )
  shape = inputs[_INPUT]
  # Axes of any length have names for numbers.
  if len(shape) != 4 or any(
    isinstance(found, int) and found != expected
    for found, expected in zip(shape[1:], _SHAPE, strict=True)
  ):
    raise ValueError(
      f"Expected {_INPUT} of [batch, {', '.join(map(str, _SHAPE))}] in {path},"
      f" got {shape}."
    )
  return ClapEmbedding(f"clap:{path.name}", session, config)


def log_mel(
  samples: Float32[np.ndarray, " samples"],
) -> Float32[np.ndarray, "frames mel_bins"]:
  """CLAP's features of audio at 48 kHz, in dB; one frame more than hops."""
  padded = np.pad(samples.astype(np.float64), _N_FFT // 2, mode="reflect")
  frames = np.lib.stride_tricks.sliding_window_view(padded, _N_FFT)[::_HOP]
  phase = 2 * np.pi * np.arange(_N_FFT) / _N_FFT
  spectrum = np.fft.rfft(frames * (0.5 - 0.5 * np.cos(phase)))
  powers = np.square(np.abs(spectrum)) @ _slaney_matrix()
  return (10 * np.log10(np.maximum(powers, _FLOOR))).astype(np.float32)


@functools.cache
def _slaney_matrix():
  """Triangles of equal area: linear up to 1 kHz, logarithmic above."""

  def hz_to_mel(hz):
    return (
      hz / 200 * 3 if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4)
    )

  mel = np.linspace(*(hz_to_mel(hz) for hz in _RANGE_HZ), _MEL_BINS + 2)
  edges = np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))
  bins = np.fft.rfftfreq(_N_FFT, 1 / _SAMPLE_RATE)[:, None]
  lower, center, upper = edges[:-2], edges[1:-1], edges[2:]
  rising = (bins - lower) / (center - lower)
  falling = (upper - bins) / (upper - center)
  return np.maximum(0, np.minimum(rising, falling)) * 2 / (upper - lower)
