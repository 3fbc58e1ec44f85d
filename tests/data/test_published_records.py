import io

import numpy as np
import pytest
import soundfile

tf = pytest.importorskip("tensorflow")
note_seq = pytest.importorskip("note_seq")
seqio = pytest.importorskip("seqio")
tfds = pytest.importorskip("tensorflow_datasets")

from music_spectrogram_diffusion import audio as audio_lib  # noqa: E402
from music_spectrogram_diffusion.data import (  # noqa: E402
  preprocessors,
  published_datasets,
  published_records,
)
from music_spectrogram_diffusion.data.builders import base, slakh  # noqa: E402

RATE = base.SAMPLE_RATE
STEP = 1 / 32767  # Of the audio of examples.


def tone(rate=RATE, hz=440.0):
  return np.float32(0.5 * np.sin(2 * np.pi * hz * np.arange(rate) / rate))


def wav(samples, rate=RATE):
  file = io.BytesIO()
  soundfile.write(file, samples, rate, "PCM_16", format="WAV")
  return file.getvalue()


def sequence(*notes, pedal=()):
  """A serialized NoteSequence.

  Args:
    notes: Onset, offset, pitch, program and whether drums, of each.
    pedal: Time and value of movements of the sustain pedal.
  """
  proto = note_seq.NoteSequence(ticks_per_quarter=220)
  for onset, offset, pitch, program, is_drum in notes:
    proto.notes.add(
      start_time=onset,
      end_time=offset,
      pitch=pitch,
      program=program,
      is_drum=is_drum,
      velocity=80,
    )
    proto.total_time = max(proto.total_time, offset)
  for time, value in pedal:
    proto.control_changes.add(time=time, control_number=64, control_value=value)
  return proto.SerializeToString()


def feature(value):
  """A feature of bytes, of a list of them, or of numbers."""
  if isinstance(value, bytes):
    value = [value]
  if len(value) and isinstance(value[0], bytes):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
  array = np.atleast_1d(value)
  if array.dtype.kind == "f":
    return tf.train.Feature(float_list=tf.train.FloatList(value=array))
  return tf.train.Feature(int64_list=tf.train.Int64List(value=array))


def write(path, *rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  with tf.io.TFRecordWriter(str(path)) as writer:
    for row in rows:
      features = {name: feature(value) for name, value in row.items()}
      example = tf.train.Example(features=tf.train.Features(feature=features))
      writer.write(example.SerializeToString())


def read(root, name, split="train", problems=None):
  rows = published_records.dataset(root, name, split, problems=problems)
  return {row["id"].decode(): row for row in rows.as_numpy_iterator()}


def notes_of(example):
  notes = base.notes_from_example(example)
  return list(
    zip(
      notes.onset.tolist(),
      notes.offset.tolist(),
      notes.pitch.tolist(),
      notes.program.tolist(),
      notes.is_drum.tolist(),
      strict=True,
    )
  )


def stems_row(track_id=b"Track00001", **changes):
  """A record of Slakh: its drums and piano are one mix."""
  mix = tone() + tone(hz=660.0) / 2
  return {
    "audio_sample_rate": [RATE],
    "inst_names": [b"Drums", b"Electric Piano", b"Distorted Electric Guitar"],
    "midi_class": [128, 4, 30],
    "mix": mix,
    "note_sequences": [
      sequence((0.0, 0.1, 36, 0, False)),
      sequence((0.25, 0.75, 60, 0, False), (0.5, 1.0, 60, 0, False)),
      sequence((0.5, 1.0, 52, 30, False)),
    ],
    "plugin_name": [0, 1, 2],
    "program_num": [128, 4, 30],
    "slakh_class": [34, 1, 6],
    "src_ids": [b"S01", b"S02", b"S04"],
    "stems": np.concatenate([mix, mix, mix]),
    "stems_shape": [3, RATE],
    "target_type": b"sources",
    "track_id": track_id,
  } | changes


def test_maestro_is_wav_of_any_rate_and_a_sequence_with_the_pedal(tmp_path):
  # 48 kHz and stereo, as the second half of MAESTRO is.
  stereo = np.stack([tone(48_000), np.zeros(48_000, np.float32)], axis=1)
  row = {
    "audio": wav(stereo, 48_000),
    "sequence": sequence(
      (0.125, 0.25, 60, 0, False),
      (0.5, 0.75, 64, 0, False),
      pedal=[(0.2, 127), (0.375, 0)],
    ),
    "id": "piéce/1.wav".encode(),
  }
  path = "maestro/v3.0.0/maestro-v3.0.0_ns_wav_train.tfrecord-00000-of-00025"
  write(tmp_path / path, row)
  problems = base.Problems()
  examples = read(tmp_path, "maestro", problems=problems)
  example = examples["piéce/1.wav"]
  assert notes_of(example) == [
    (0.125, 0.375, 60, 0, False),
    (0.5, 0.75, 64, 0, False),
  ]
  assert example["notes"]["velocity"].tolist() == [80, 80]
  expected = audio_lib.resample(tone(48_000) / 2, 48_000, RATE)
  audio = base.audio_from_example(example)
  np.testing.assert_allclose(audio, expected, atol=2 * STEP)
  assert problems.count(published_records.MISSING_FILES) == 24
  assert problems.count(base.rules.RESAMPLED) == 1


def test_guitarset_is_all_of_the_first_guitar(tmp_path):
  row = {
    "sequence": sequence((0.25, 0.75, 52, 0, False)),
    "audio": wav(tone()),
    "velocity_range": b"\x08\x01",
    "id": b"00_BN1-129-Eb_comp_mic",
  }
  write(tmp_path / "guitarset/train.tfrecord-00000-of-00019", row)
  example = read(tmp_path, "guitarset")["00_BN1-129-Eb_comp_mic"]
  assert notes_of(example) == [(0.25, 0.75, 52, 24, False)]
  np.testing.assert_allclose(
    base.audio_from_example(example), tone(), atol=2 * STEP
  )


@pytest.mark.parametrize("name", ["musicnet", "musicnet_em"])
def test_musicnet_is_samples_and_a_sequence_with_its_programs(tmp_path, name):
  row = {
    "id": b"1727",
    "sample_rate": [8_000.0],
    "audio": tone(8_000),
    # A cello and, beyond what the classes tell apart, an alto sax.
    "sequence": sequence(
      (0.25, 0.75, 48, 42, False), (0.5, 0.75, 60, 65, False)
    ),
  }
  files = published_datasets.DATASETS[name].files
  write(tmp_path / files["validation"].replace("?????", "00000"), row)
  example = read(tmp_path, name, "validation")["1727"]
  assert notes_of(example) == [
    (0.25, 0.75, 48, 42, False),
    (0.5, 0.75, 60, 64, False),
  ]
  audio = base.audio_from_example(example)
  expected = audio_lib.resample(tone(8_000), 8_000, RATE)
  np.testing.assert_allclose(audio, expected, atol=STEP)


def test_urmp_is_a_sequence_for_each_code_of_an_instrument(tmp_path):
  row = {
    "id": b"01_Jupiter_vn_vc",
    "tracks": [1, 2],
    "inst_names": [b"vn", b"vc"],
    "audio": wav(tone()),
    "sequence": sequence((0.0, 0.5, 70, 0, False)),
    "instrument_sequences": [
      # Programs within are nothing to go by.
      sequence((0.25, 0.5, 70, 0, False)),
      sequence((0.25, 0.75, 45, 0, False)),
    ],
  }
  write(tmp_path / "urmp/train.tfrecord", row)
  example = read(tmp_path, "urmp")["01_Jupiter_vn_vc"]
  assert notes_of(example) == [
    (0.25, 0.5, 70, 40, False),
    (0.25, 0.75, 45, 42, False),
  ]


def test_slakh_is_a_mix_and_a_sequence_for_each_class(tmp_path):
  name = "slakh_multi_full_subsets_10_train_all_inst.tfrecord-00000-of-02307"
  write(
    tmp_path / "slakh" / name,
    stems_row(),
    stems_row(src_ids=[b"S01", b"S02", b"S05"]),
  )
  examples = read(tmp_path, "slakh")
  assert list(examples) == ["Track00001_S01-S02-S04", "Track00001_S01-S02-S05"]
  example = examples["Track00001_S01-S02-S04"]
  assert example["track_id"] == b"Track00001"
  assert notes_of(example) == [
    (0.0, 0.1, 36, 0, True),
    (0.25, 0.5, 60, 4, False),  # Cut where the pitch is struck again.
    (0.5, 1.0, 60, 4, False),
    (0.5, 1.0, 52, 29, False),
  ]
  mix = tone() + tone(hz=660.0) / 2
  audio = base.audio_from_example(example)
  np.testing.assert_allclose(audio, mix / max(1, np.abs(mix).max()), atol=STEP)


def test_cerberus4_has_the_programs_of_its_four_parts(tmp_path):
  row = stems_row(
    inst_names=[b"bass", b"drums", b"guitar", b"piano"],
    note_sequences=[
      sequence((0.25, 0.75, pitch, 0, False)) for pitch in (40, 36, 52, 60)
    ],
  )
  name = (
    "slakh_multi_cerberus_test_bass:drums:guitar:piano.tfrecord-00000-of-00106"
  )
  write(tmp_path / "cerberus4" / name, row)
  (example,) = read(tmp_path, "cerberus4", "test").values()
  played = [
    (pitch, program, drum) for *_, pitch, program, drum in notes_of(example)
  ]
  assert played == [
    (60, 0, False),
    (52, 24, False),
    (40, 32, False),
    (36, 0, True),
  ]


def test_examples_have_the_form_of_prepared_ones(tmp_path):
  name = "slakh_multi_full_test_all_inst.tfrecord-00000-of-00109"
  write(tmp_path / "slakh" / name, stems_row())
  write(tmp_path / "urmp/train.tfrecord")
  ours = slakh.Slakh(data_dir=tmp_path / "none").info.features
  spec = published_records.dataset(tmp_path, "slakh", "test").element_spec
  expected = tf.nest.map_structure(
    lambda info: tf.TensorSpec(info.shape, info.dtype), ours.get_tensor_info()
  )
  assert spec == expected
  spec = published_records.dataset(tmp_path, "urmp", "train").element_spec
  del expected["track_id"]
  assert spec == expected


def test_records_that_cannot_be_used_are_left_out_and_counted(tmp_path):
  good = {
    "id": b"good",
    "sample_rate": [float(RATE)],
    "audio": tone(),
    "sequence": sequence((0.25, 0.75, 48, 42, False)),
  }
  nan = tone()
  nan[7] = np.nan
  path = tmp_path / "musicnet/musicnet-train.tfrecord-00000-of-00036"
  write(
    path,
    good | {"id": b"silent", "audio": tone() * 0},
    good | {"id": b"empty", "audio": np.zeros(0, np.float32)},
    good | {"id": b"nan", "audio": nan},
    good | {"id": b"no proto", "sequence": b"\xff\xff\xff"},
    good | {"id": b"no notes", "sequence": sequence()},
    good | {"id": b"late", "sequence": sequence((2.0, 3.0, 48, 42, False))},
    good | {"id": b"pitch", "sequence": sequence((0.0, 0.5, 200, 42, False))},
    good,
  )
  problems = base.Problems()
  assert list(read(tmp_path, "musicnet", problems=problems)) == ["good"]
  counts = {row["rule"]: row["count"] for row in problems.to_json()}
  assert counts == {
    "missing_files": 35,
    "silent": 1,
    "empty_audio": 1,
    "not_finite": 1,
    "unreadable_notes": 2,
    "no_notes": 1,
    "lengths_differ": 1,
  }


def test_unknown_instruments_and_broken_wavs_are_left_out(tmp_path):
  good = {
    "id": b"good",
    "inst_names": [b"vn"],
    "audio": wav(tone()),
    "instrument_sequences": [sequence((0.25, 0.5, 70, 0, False))],
  }
  write(
    tmp_path / "urmp/train.tfrecord",
    good | {"id": b"a", "inst_names": [b"kazoo"]},
    good | {"id": b"b", "inst_names": [b"vn", b"vc"]},
    good | {"id": b"c", "audio": b"no wav"},
    good,
  )
  problems = base.Problems()
  assert list(read(tmp_path, "urmp", problems=problems)) == ["good"]
  assert problems.count(base.rules.UNKNOWN_INSTRUMENT) == 1
  assert problems.count(base.rules.UNREADABLE_NOTES) == 1
  assert problems.count(base.rules.UNREADABLE_AUDIO) == 1


def test_a_file_that_is_cut_off_gives_what_stands_before_the_cut(tmp_path):
  row = {
    "id": b"a",
    "sample_rate": [float(RATE)],
    "audio": tone(),
    "sequence": sequence((0.25, 0.75, 48, 42, False)),
  }
  first = tmp_path / "musicnet/musicnet-train.tfrecord-00000-of-00036"
  write(first, row, row | {"id": b"b"})
  write(
    first.with_name(first.name.replace("00000", "00001")), row | {"id": b"c"}
  )
  data = first.read_bytes()
  first.write_bytes(data[: len(data) * 3 // 4])
  assert sorted(read(tmp_path, "musicnet")) == ["a", "c"]


def test_the_root_may_be_the_folder_of_the_dataset_itself(tmp_path):
  row = {
    "sequence": sequence((0.25, 0.75, 52, 0, False)),
    "audio": wav(tone()),
    "id": b"a",
  }
  write(tmp_path / "train.tfrecord-00003-of-00019", row)
  assert list(read(tmp_path, "guitarset")) == ["a"]


def test_what_is_not_there_is_named(tmp_path):
  with pytest.raises(ValueError, match=r"one of maestro_v1, .*got 'mastro'"):
    read(tmp_path, "mastro")
  with pytest.raises(ValueError, match="one of train, validation, got 'test'"):
    read(tmp_path, "guitarset", "test")
  with pytest.raises(ValueError, match=r"urmp/train\.tfrecord, found none"):
    read(tmp_path, "urmp")


def test_a_source_reads_the_share_of_a_host_where_its_root_is(tmp_path):
  row = {
    "sequence": sequence((0.25, 0.75, 52, 0, False)),
    "audio": wav(tone()),
  }
  root = []
  source = published_records.PublishedSource("guitarset", lambda: root[0])
  root.append(tmp_path)  # Asked for when files are.
  for index in range(4):
    path = tmp_path / f"guitarset/train.tfrecord-0000{index}-of-00019"
    write(path, row | {"id": b"%d" % index})
  assert len(source.list_shards("train")) == 4
  ids = [
    {
      example["id"].decode()
      for example in source.get_dataset(
        "train", shard_info=seqio.ShardInfo(index, 2)
      ).as_numpy_iterator()
    }
    for index in (0, 1)
  ]
  assert ids[0] | ids[1] == {"0", "1", "2", "3"}
  assert not ids[0] & ids[1]
  shuffled = [
    [
      example["id"]
      for example in source.get_dataset("train", seed=seed).as_numpy_iterator()
    ]
    for seed in (1, 1, 2, 3)
  ]
  assert shuffled[0] == shuffled[1]
  assert any(order != shuffled[0] for order in shuffled)
  # Four hours at 50 frames a second.
  pieces = source.num_pieces("train")
  assert pieces == 4 * 3600 * 50 / preprocessors.PIECE_FRAMES
