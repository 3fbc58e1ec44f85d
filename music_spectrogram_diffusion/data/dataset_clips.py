"""Random clips of a prepared dataset: what an inverter is trained on.

Needs TensorFlow.
"""

from collections.abc import Mapping
import dataclasses
import os
from typing import Any

import seqio
import tensorflow as tf

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.data import (
  audio_clips,
  seqio_source,
  seqio_tasks,
)

_INT16_SCALE = 32767.0
_MIXED_SONGS = 16
_PASSES = 16

_as_it_is = tf.autograph.experimental.do_not_convert


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedClips:
  """Makes iterators of batches of clips of what `spec-diff prepare` wrote.

  Attributes:
    dataset: Its name, such as `maestro`.
    clip_frames: Length of a clip, in frames.
    spectrogram: Gives the sample rate and the length of a frame.
    split: Split of the dataset.
    data_dir: Where it is; None for where `seqio_tasks.data_dir` looks.
    gain_db: Range that the level of each clip is changed by, at random.
  """

  dataset: str
  clip_frames: int
  spectrogram: audio.SpectrogramConfig = audio.SpectrogramConfig()
  split: str = "train"
  data_dir: str | os.PathLike | None = None
  gain_db: tuple[float, float] = (0.0, 0.0)

  def __call__(
    self,
    *,
    batch_size: int,
    host_index: int = 0,
    host_count: int = 1,
    seed: int = 0,
  ) -> seqio_source.SeqioBatches:
    """An endless iterator of a host's share: `audio` [batch, samples].

    Each pass takes as many clips of a song as fit into it, at random places;
    those that are silent are left out. Clips of several songs take turns; they
    are not shuffled in a buffer, which the iterator's state would hold.

    Args:
      batch_size: Clips of a batch of this host.
      host_index: Which of several hosts this is; each reads its own files.
      host_count: How many hosts share the data.
      seed: Another seed gives other clips in another order.

    Raises:
      ValueError: The dataset was not prepared, or for another sample rate.
    """
    if self.spectrogram.sample_rate != seqio_tasks.SPECTROGRAM.sample_rate:
      raise ValueError(
        "Expected a spectrogram of the datasets'"
        f" {seqio_tasks.SPECTROGRAM.sample_rate} Hz, got"
        f" {self.spectrogram.sample_rate} Hz."
      )
    seqio_source.leave_accelerators_alone()
    if self.data_dir is not None:
      seqio.set_tfds_data_dir_override(os.fspath(self.data_dir))
    source = seqio_tasks.PreparedSource(self.dataset, [self.split])
    source = source.repeated(_PASSES)  # Each in an order of its own.
    songs = source.get_dataset(
      self.split, True, seed, seqio.ShardInfo(host_index, host_count)
    )
    seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True).batch(
      2
    )
    clips = tf.data.Dataset.zip((songs, seeds)).interleave(
      self._clips, cycle_length=_MIXED_SONGS
    )
    # Passes without a single clip are the last.
    clips = clips.filter(_is_heard).repeat()
    settings = {
      "task": f"clips of {self.dataset}",
      "split": self.split,
      "lengths": {"audio": self.clip_frames},
      "batch_size": batch_size,
      "host": f"{host_index} of {host_count}",
      "seed": seed,
    }
    return seqio_source.SeqioBatches(
      clips.batch(batch_size, drop_remainder=True).prefetch(1), settings, []
    )

  @_as_it_is
  def _clips(self, song: Mapping[str, Any], seed: tf.Tensor) -> tf.data.Dataset:
    """Clips of a song, at places and levels that the seed gives."""
    length = self.clip_frames * self.spectrogram.hop_length
    samples = song["audio"]
    missing = tf.maximum(length - tf.size(samples), 0)
    before = tf.random.stateless_uniform(
      [], seed + 2, 0, missing + 1, dtype=tf.int32
    )
    samples = tf.pad(samples, [[before, missing - before]])
    num_clips = tf.size(samples) // length
    last = tf.size(samples) - length
    starts = tf.random.stateless_uniform(
      [num_clips], seed, 0, last + 1, dtype=tf.int32
    )
    gain_db = tf.random.stateless_uniform([num_clips], seed + 1, *self.gain_db)
    gains = tf.pow(10.0, gain_db / 20.0) / _INT16_SCALE

    @_as_it_is
    def clip(start: tf.Tensor, gain: tf.Tensor) -> dict[str, tf.Tensor]:
      cut = tf.cast(samples[start : start + length], tf.float32)
      return {"audio": tf.ensure_shape(gain * cut, [length]), "id": song["id"]}

    return tf.data.Dataset.from_tensor_slices((starts, gains)).map(clip)


@_as_it_is
def _is_heard(clip: Mapping[str, tf.Tensor]) -> tf.Tensor:
  return tf.reduce_max(tf.abs(clip["audio"])) >= audio_clips.SILENCE
