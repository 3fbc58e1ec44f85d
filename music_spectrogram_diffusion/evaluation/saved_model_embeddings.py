"""VGGish and TRILL, the paper's embeddings, as SavedModels run by TensorFlow.

Both come from TensorFlow Hub, and are read from a directory on disk (unpacked
there, it holds `saved_model.pb` and `variables`) or by their handle, which
tensorflow_hub downloads. A SavedModel is a program: load only what you trust.
TensorFlow is imported when one is loaded, and keeps to the CPU: the accelerator
is JAX's.
"""

from collections.abc import Callable
import dataclasses
import pathlib
from typing import Any

from jaxtyping import Float32
import numpy as np

from music_spectrogram_diffusion import audio, quietly
from music_spectrogram_diffusion.evaluation import embedding_audio

# Both models take 16 kHz, whatever the spectrograms' rate.
_SAMPLE_RATE = 16_000

# VGGish's frames are 400 samples long, every 160; 96 make one embedding.
_VGGISH_HOP = 96 * 160
_VGGISH_REACH = 95 * 160 + 400
_VGGISH_DIMS = 128
_TRILL_DIMS = 512

# Embeddings of VGGish at once: about a minute, some 100 MB a layer.
_BLOCK_EMBEDDINGS = 64


@dataclasses.dataclass(frozen=True)
class SavedModelEmbedding:
  """An embedding that a function of audio at 16 kHz computes.

  Attributes:
    name: What tables call it.
    embed: Makes [time, dims] of [samples].
    dims: Dimensions of an embedding.
    config: Gives the rate of the audio.
  """

  name: str
  embed: Callable[[np.ndarray], np.ndarray]
  dims: int
  config: audio.SpectrogramConfig

  def __call__(
    self, samples: Float32[np.ndarray, " samples"]
  ) -> Float32[np.ndarray, "time dims"]:
    """Embeds audio at the config's sample rate; see `Embedding`."""
    samples = embedding_audio.prepare_audio(samples, self.config, _SAMPLE_RATE)
    if not len(samples):
      return np.zeros((0, self.dims), np.float32)
    embeddings = self.embed(samples)
    if embeddings.shape[1:] != (self.dims,):
      raise ValueError(
        f"Expected {self.name} to give [time, {self.dims}], got"
        f" {list(embeddings.shape)}: is it another model?"
      )
    return embeddings.astype(np.float32)


def load_vggish(
  location: str, config: audio.SpectrogramConfig
) -> SavedModelEmbedding:
  """Loads VGGish, `https://tfhub.dev/google/vggish/1`.

  Hershey et al. 2017, https://arxiv.org/abs/1609.09430. The model takes a
  waveform of 16 kHz in [-1, 1], one axis, and does the rest: frames of 25 ms
  every 10 ms, 64 mel bins from 125 to 7500 Hz, ln(mel + 0.01), and one
  embedding of 128 dimensions for every 96 frames, 0.96 s, without overlap and
  without PCA or quantisation. n samples give floor((n - 15600) / 15360) + 1.
  It is given a minute at a time, cut where its embeddings are: the same numbers
  as at once, in less memory.

  Args:
    location: Directory of the SavedModel, or its handle on TensorFlow Hub.
    config: Gives the rate of the audio; other than 16 kHz is resampled.

  Raises:
    ValueError: TensorFlow is not installed, or there is no such model.
  """
  model = _load("vggish", location, "https://tfhub.dev/google/vggish/1")

  def embed(samples):
    total = max(0, (len(samples) - _VGGISH_REACH) // _VGGISH_HOP + 1)
    blocks = []
    for first in range(0, total, _BLOCK_EMBEDDINGS):
      last = min(first + _BLOCK_EMBEDDINGS, total) - 1
      block = model(
        samples[first * _VGGISH_HOP : last * _VGGISH_HOP + _VGGISH_REACH]
      ).numpy()
      if len(block) != last - first + 1:
        raise ValueError(
          f"Expected vggish in {location} to give {last - first + 1} embeddings"
          f" of as many times 0.96 s, got {list(block.shape)}."
        )
      blocks.append(block)
    return np.concatenate(blocks or [np.zeros((0, _VGGISH_DIMS), np.float32)])

  return SavedModelEmbedding("vggish", embed, _VGGISH_DIMS, config)


def load_trill(
  location: str, config: audio.SpectrogramConfig
) -> SavedModelEmbedding:
  """Loads TRILL, `https://tfhub.dev/google/nonsemantic-speech-benchmark/trill/3`.

  Shor et al. 2020, https://arxiv.org/abs/2002.12764. The model takes `samples`,
  a waveform in [-1, 1], and `sample_rate`, which must be 16000, and does the
  rest. Of its outputs, `embedding` has 512 dimensions, about 5.9 times a
  second, and is what the paper measures; `layer19` is left alone. A song is
  given as a whole, because how the model cuts it is not published: memory grows
  with its length, up to the 3500 embeddings of ten minutes in one batch.

  Args:
    location: Directory of the SavedModel, or its handle on TensorFlow Hub.
    config: Gives the rate of the audio; other than 16 kHz is resampled.

  Raises:
    ValueError: TensorFlow is not installed, or there is no such model.
  """
  model = _load(
    "trill",
    location,
    "https://tfhub.dev/google/nonsemantic-speech-benchmark/trill/3",
  )

  def embed(samples):
    outputs = model(samples=samples, sample_rate=_SAMPLE_RATE)
    if "embedding" not in outputs:
      raise ValueError(
        f"Expected an output `embedding` of trill in {location}, got"
        f" {', '.join(sorted(outputs))}."
      )
    return outputs["embedding"].numpy()

  return SavedModelEmbedding("trill", embed, _TRILL_DIMS, config)


def _load(name: str, location: str, handle: str) -> Any:
  """The function that a SavedModel is, from a directory or TensorFlow Hub."""
  is_handle = location.startswith(("https://", "http://"))
  file = pathlib.Path(location, "saved_model.pb")
  if not is_handle and not (location and file.is_file()):
    raise ValueError(
      f"Expected {name}=DIR, where {handle} is unpacked, or {name}={handle},"
      f" which is downloaded; got no saved_model.pb in {location!r}."
    )
  try:
    tf = quietly.import_tensorflow()
  except ImportError as error:
    raise ValueError(
      f"Expected TensorFlow, to run {name}; pip install tensorflow."
    ) from error
  load = _hub_load(name, handle) if is_handle else tf.saved_model.load
  try:
    tf.config.set_visible_devices([], "GPU")
  except RuntimeError:
    pass  # TensorFlow runs already, with the devices that it was given.
  try:
    model = load(location)
  except Exception as error:  # TensorFlow's own, protobuf's, and the network's.
    reason = str(error).partition("\n")[0]
    raise ValueError(f"Cannot read {name} in {location}: {reason}") from error
  if not callable(model):
    raise ValueError(
      f"Expected a SavedModel that is a function, as {handle}, in {location}."
    )
  return model


def _hub_load(name, handle):
  """What downloads and loads a handle."""
  try:
    import tensorflow_hub
  except ImportError as error:  # Or of pkg_resources, which it needs.
    raise ValueError(
      f"Expected tensorflow_hub, to download {name}, got: {error}; pip install"
      f" tensorflow-hub 'setuptools<81', or give {name}=DIR, where {handle} is"
      " unpacked."
    ) from error
  return tensorflow_hub.load
