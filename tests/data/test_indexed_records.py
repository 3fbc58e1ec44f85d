import pytest

pytest.importorskip("seqio")

import seqio
import tensorflow as tf

from music_spectrogram_diffusion.data import indexed_records

RECORDS = [[b"a", b"bb"], [], [b"", b"dddd", b"e"]]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  directory = tmp_path_factory.mktemp("records")
  paths = [str(directory / f"{index}.tfrecord") for index in range(3)]
  for path, records in zip(paths, RECORDS, strict=True):
    with tf.io.TFRecordWriter(path) as writer:
      for record in records:
        writer.write(record)
  return paths


def read(files, **options):
  return list(
    indexed_records.read(files, **options).take(40).as_numpy_iterator()
  )


def test_unshuffled_records_come_in_the_order_of_the_files(files):
  assert read(files) == [b"a", b"bb", b"", b"dddd", b"e"]
  assert read(files, num_epochs=2) == 2 * read(files)


def test_each_pass_has_all_records_in_an_order_of_its_own(files):
  records = read(files, shuffle=True, seed=1, num_epochs=None)
  assert len(records) == 40
  passes = [tuple(records[i : i + 5]) for i in range(0, 40, 5)]
  assert {tuple(sorted(one)) for one in passes} == {
    (b"", b"a", b"bb", b"dddd", b"e")
  }
  assert len(set(passes)) > 4  # Of 120 orders.


def test_the_order_is_a_function_of_the_seed(files):
  def records(seed):
    return read(files, shuffle=True, seed=seed, num_epochs=4)

  assert records(1) == records(1) != records(2)


def test_shares_are_of_different_records_in_every_pass(files):
  shares = [
    set(
      read(
        files,
        shuffle=True,
        seed=1,
        shard_info=seqio.ShardInfo(index, 2),
        num_epochs=3,
      )
    )
    for index in range(2)
  ]
  assert not shares[0] & shares[1]
  assert sorted(map(len, shares)) == [2, 3]


def test_no_records_are_no_end(files):
  assert read(files[1:2], num_epochs=None) == []


@pytest.mark.parametrize("cut", [1, 10])
def test_a_file_that_is_cut_is_an_error(files, tmp_path, cut):
  """Within its last record, or within that one's header."""
  path = tmp_path / "cut.tfrecord"
  path.write_bytes(tf.io.gfile.GFile(files[0], "rb").read()[:-cut])
  with pytest.raises(tf.errors.OpError):
    read([str(path)])


def test_a_record_that_was_changed_is_an_error(files, tmp_path):
  path = tmp_path / "changed.tfrecord"
  path.write_bytes(
    tf.io.gfile.GFile(files[0], "rb").read().replace(b"bb", b"bc")
  )
  with pytest.raises(tf.errors.DataLossError):
    read([str(path)])
