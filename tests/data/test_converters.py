import numpy as np
import pytest

pytest.importorskip("seqio")

import seqio
import tensorflow as tf

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.data import converters

SILENCE = np.float32(audio.SpectrogramConfig().mel_range[0])
LENGTHS = {"inputs": 7, "targets": 5, "targets_context": 4}


def mel(num_frames, value):
  return np.full((num_frames, 128), value, np.float32)


def converted(converter, example, lengths):
  """The example through seqio's checks, as the only one of a dataset."""
  signature = {
    name: tf.TensorSpec((None, *value.shape[1:]), value.dtype)
    if value.ndim
    else tf.TensorSpec((), tf.string)
    for name, value in example.items()
  }
  dataset = tf.data.Dataset.from_generator(
    lambda: [example], output_signature=signature
  )
  dataset = converter(dataset, lengths)
  assert all(
    spec.shape.is_fully_defined() for spec in dataset.element_spec.values()
  )
  [result] = dataset.as_numpy_iterator()
  return result


def test_tokens_and_spectrograms_are_padded_and_masked():
  example = {
    "inputs": np.array([9, 8, 1], np.int32),
    "targets": mel(3, 0.5),
    "targets_context": mel(2, -0.5),
  }
  batch = converted(converters.ContextConverter(), example, LENGTHS)
  assert batch["note_tokens"].tolist() == [9, 8, 1, 0, 0, 0, 0]
  assert batch["targets_mask"].tolist() == [True] * 3 + [False] * 2
  assert batch["context_mask"].tolist() == [True] * 2 + [False] * 2
  np.testing.assert_array_equal(batch["targets"][:3], mel(3, 0.5))
  np.testing.assert_array_equal(batch["targets"][3:], mel(2, SILENCE))
  np.testing.assert_array_equal(batch["context"][:2], mel(2, -0.5))
  np.testing.assert_array_equal(batch["context"][2:], mel(2, SILENCE))
  assert {name: value.dtype.name for name, value in batch.items()} == {
    "note_tokens": "int32",
    "context": "float32",
    "context_mask": "bool",
    "targets": "float32",
    "targets_mask": "bool",
  }


def test_at_the_start_of_a_song_the_context_is_empty():
  example = {
    "inputs": np.array([1], np.int32),
    "targets": mel(5, 0.5),
    "targets_context": mel(0, 0.0),
  }
  batch = converted(converters.ContextConverter(), example, LENGTHS)
  assert not batch["context_mask"].any() and batch["targets_mask"].all()
  np.testing.assert_array_equal(batch["context"], mel(4, SILENCE))


def test_without_context_there_is_an_empty_one_as_long_as_the_targets():
  example = {"inputs": np.array([1], np.int32), "targets": mel(2, 0.5)}
  lengths = {"inputs": 7, "targets": 5}
  batch = converted(converters.NoContextConverter(), example, lengths)
  np.testing.assert_array_equal(batch["context"], mel(5, SILENCE))
  assert not batch["context_mask"].any()
  assert batch["targets_mask"].tolist() == [True] * 2 + [False] * 3


def test_ids_can_be_passed_through():
  spec = {"id": seqio.FeatureConverter.FeatureSpec(tf.string, rank=0)}
  example = {
    "inputs": np.array([1], np.int32),
    "targets": mel(2, 0.5),
    "id": np.array(b"song"),
  }
  lengths = {"inputs": 7, "targets": 5, "id": 1}
  converter = converters.NoContextConverter(passthrough_features=spec)
  assert converted(converter, example, lengths)["id"] == b"song"


def test_a_task_without_context_does_not_fit_a_model_with_it():
  example = {"inputs": np.array([1], np.int32), "targets": mel(2, 0.5)}
  with pytest.raises(ValueError, match="targets_context"):
    converted(converters.ContextConverter(), example, LENGTHS)
