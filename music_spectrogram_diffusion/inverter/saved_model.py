"""Published inverters as SavedModels, run by TensorFlow.

Written for the paper's on TensorFlow Hub, `soundstream/mel/decoder/music/1`. It
is read from a directory on disk (unpacked there, it holds `saved_model.pb` and
`variables`). A SavedModel is a program: load only what you trust.
"""

import pathlib

from jaxtyping import Float32
import numpy as np

from music_spectrogram_diffusion.inverter import published

_SIGNATURE = "serving_default"


class SavedModelInverter(published.PublishedInverter):
  """A network in a SavedModel: see `published.PublishedInverter`.

  The model itself is called, as TensorFlow Hub does, or its default signature
  if it is not a function. TensorFlow is imported when one is loaded.
  """

  def _load(self) -> None:
    try:
      import tensorflow as tf
    except ImportError as error:
      raise ValueError(
        f"Expected TensorFlow, to run {self._path}; pip install tensorflow."
      ) from error
    if not pathlib.Path(self._path, "saved_model.pb").is_file():
      raise ValueError(
        f"Expected the directory of a SavedModel at {self._path}, got no"
        " saved_model.pb in it."
      )
    try:
      # Kept, because a signature does not keep the variables.
      self._model = tf.saved_model.load(self._path)
    except Exception as error:  # TensorFlow's own, and those of protobuf.
      raise ValueError(f"Cannot read {self._path}: {error}") from error
    if callable(self._model):
      self._call = self._model
      return
    call = self._model.signatures.get(_SIGNATURE)
    inputs = {} if call is None else call.structured_input_signature[1]
    if len(inputs) != 1:
      raise ValueError(
        f"Expected a function, or a signature {_SIGNATURE} of one input, in"
        f" {self._path}; got {', '.join(sorted(inputs)) or 'neither'}."
      )
    (name,) = inputs
    self._call = lambda log_mel: call(**{name: log_mel})

  def _run(
    self, log_mel: Float32[np.ndarray, "1 frames mel_bins"]
  ) -> np.ndarray:
    import tensorflow as tf

    samples = self._call(tf.constant(log_mel))
    if isinstance(samples, dict):
      (samples,) = samples.values()
    return samples.numpy()
