"""From the features of seqio tasks to batches of the training contract.

A task's `inputs`, `targets` and `targets_context`, of any lengths, become
`note_tokens`, `targets` and `context` of fixed lengths with masks. Needs
TensorFlow.
"""

from collections.abc import Mapping

import seqio
import tensorflow as tf

from music_spectrogram_diffusion.audio import SpectrogramConfig
from music_spectrogram_diffusion.notes import PAD

_CONFIG = SpectrogramConfig()
_Spec = seqio.FeatureConverter.FeatureSpec
_TOKENS = _Spec(tf.int32)
_LOG_MEL = _Spec(tf.float32, rank=2)
_MASK = _Spec(tf.bool)


class ContextConverter(seqio.FeatureConverter):
  """For models with context: see the module. `id` may be passed through."""

  TASK_FEATURES = {
    "inputs": _TOKENS,
    "targets": _LOG_MEL,
    "targets_context": _LOG_MEL,
  }
  MODEL_FEATURES = {
    "note_tokens": _TOKENS,
    "context": _LOG_MEL,
    "context_mask": _MASK,
    "targets": _LOG_MEL,
    "targets_mask": _MASK,
  }
  PACKING_FEATURE_DTYPES = None

  def __init__(
    self,
    config: SpectrogramConfig = _CONFIG,
    passthrough_features: Mapping[str, _Spec] | None = None,
  ):
    """Initializes a converter.

    Args:
      config: Says what silence is, with which spectrograms are padded.
      passthrough_features: Features that stay as they are.
    """
    super().__init__(
      pack=False,
      # What is padded here has its length.
      apply_length_check=False,
      passthrough_features=passthrough_features,
    )
    self._config = config

  def _context(self, example: Mapping[str, tf.Tensor]) -> tf.Tensor:
    return example["targets_context"]

  def _context_length(self, task_feature_lengths: Mapping[str, int]) -> int:
    return task_feature_lengths["targets_context"]

  def _convert_features(
    self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
  ) -> tf.data.Dataset:
    lengths = self.get_model_feature_lengths(task_feature_lengths)

    @tf.autograph.experimental.do_not_convert
    def convert(example):
      context, context_mask = self._pad(
        self._context(example), lengths["context"]
      )
      targets, targets_mask = self._pad(example["targets"], lengths["targets"])
      tokens = example["inputs"][: lengths["note_tokens"]]
      missing = lengths["note_tokens"] - tf.size(tokens)
      tokens = tf.pad(tokens, [[0, missing]], constant_values=PAD)
      return {name: example[name] for name in self._passthrough_features} | {
        "note_tokens": tf.ensure_shape(tokens, [lengths["note_tokens"]]),
        "context": context,
        "context_mask": context_mask,
        "targets": targets,
        "targets_mask": targets_mask,
      }

    return ds.map(convert, num_parallel_calls=tf.data.AUTOTUNE)

  def _pad(
    self, log_mel: tf.Tensor, length: int
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Frames followed by silence, and which of them are valid."""
    log_mel = log_mel[:length]
    num_frames = tf.shape(log_mel)[0]
    silence, _ = self._config.mel_range
    padded = tf.pad(
      log_mel, [[0, length - num_frames], [0, 0]], constant_values=silence
    )
    shape = [length, self._config.n_mels]
    return tf.ensure_shape(padded, shape), tf.range(length) < num_frames

  def get_model_feature_lengths(
    self, task_feature_lengths: Mapping[str, int]
  ) -> dict[str, int]:
    """Lengths of the model's features, from those of the task's."""
    context = self._context_length(task_feature_lengths)
    targets = task_feature_lengths["targets"]
    lengths = {n: task_feature_lengths[n] for n in self._passthrough_features}
    return lengths | {
      "note_tokens": task_feature_lengths["inputs"],
      "context": context,
      "context_mask": context,
      "targets": targets,
      "targets_mask": targets,
    }


class NoContextConverter(ContextConverter):
  """For models without context: the diffusion model, the autoregressive one.

  The context of a batch is empty: silence as long as the targets, masked.
  """

  TASK_FEATURES = {"inputs": _TOKENS, "targets": _LOG_MEL}

  def _context(self, example: Mapping[str, tf.Tensor]) -> tf.Tensor:
    return example["targets"][:0]

  def _context_length(self, task_feature_lengths: Mapping[str, int]) -> int:
    return task_feature_lengths["targets"]
