"""Records of TFRecord files by their number, in a new order in each pass.

What comes next is a function of a seed and a count. So the state of an iterator
is that count, and stays as small and cheap to note after a thousand passes.
(Tf.data's own readers of several files leave a trace of each file that was
finished, and all of these are looked at with each example of a pipeline that
can be resumed.) Needs TensorFlow.
"""

from collections.abc import Sequence
import functools
import struct

from jaxtyping import Int64
import numpy as np
import seqio
import tensorflow as tf

_HEADER = struct.Struct("<QI")  # Bytes of the record, and their checksum.
_FOOTER_BYTES = 4
_END = np.iinfo(np.int64).max


def read(
  files: Sequence[str],
  *,
  shuffle: bool = False,
  seed: int | None = None,
  shard_info: seqio.ShardInfo | None = None,
  num_epochs: int | None = 1,
) -> tf.data.Dataset:
  """Serialized records.

  Args:
    files: Where they are.
    shuffle: Whether each pass has an order of its own.
    seed: Of these orders; None for another one each time.
    shard_info: Which share of the records is read: every nth.
    num_epochs: Passes; None for no end.
  """
  file, offset = find(files)
  if shard_info:
    share = slice(shard_info.index, None, shard_info.num_shards)
    file, offset = file[share], offset[share]
  if seed is None:
    seed = int(np.random.default_rng().integers(2**31))
  count = len(file)

  @functools.lru_cache(maxsize=2)
  def order(number: int) -> Int64[np.ndarray, " records"]:
    return np.random.default_rng([seed, number]).permutation(count)

  def place(step: np.int64) -> tuple[np.int64, np.int64]:
    number, row = divmod(int(step), count)
    row = order(number)[row] if shuffle else row
    return file[row], offset[row]

  names = tf.constant(list(files), tf.string)

  @tf.autograph.experimental.do_not_convert
  def record(step: tf.Tensor) -> tf.Tensor:
    index, start = tf.numpy_function(
      place, [step], (tf.int64, tf.int64), stateful=False
    )
    variant = tf.raw_ops.TFRecordDatasetV2(
      filenames=tf.reshape(tf.gather(names, index), [1]),
      compression_type="",
      buffer_size=tf.zeros((), tf.int64),
      byte_offsets=tf.reshape(start, [1]),
    )
    records = tf.data.experimental.from_variant(
      variant, tf.TensorSpec([], tf.string)
    )
    return records.take(1).get_single_element()

  last = _END if num_epochs is None else count * num_epochs
  return tf.data.Dataset.range(last if count else 0).map(record)


def find(
  files: Sequence[str],
) -> tuple[Int64[np.ndarray, " records"], Int64[np.ndarray, " records"]]:
  """Where records begin: the index of their file, and the byte in it.

  A record that its file is too short for is among them; reading it fails.
  """
  places = []
  for index, path in enumerate(files):
    with tf.io.gfile.GFile(path, "rb") as file:
      size, offset = file.size(), 0
      while offset < size:
        places.append((index, offset))
        file.seek(offset)
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
          break
        length, _ = _HEADER.unpack(header)
        offset += _HEADER.size + length + _FOOTER_BYTES
  columns = np.array(places, np.int64).reshape(-1, 2).T
  return columns[0], columns[1]
