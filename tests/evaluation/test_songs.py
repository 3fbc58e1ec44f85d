import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soundfile

from music_spectrogram_diffusion import notes
from music_spectrogram_diffusion.evaluation import songs

RATE = 16_000


def write_pair(folder, name, *, program=0, suffix=".wav", rate=RATE):
  path = folder / name
  path.parent.mkdir(parents=True, exist_ok=True)
  piece = notes.Notes.from_columns([0.0, 0.5], [0.4, 0.9], 60, 90, program)
  notes.write_midi(piece, path.with_suffix(".mid"))
  soundfile.write(path.with_suffix(suffix), np.full(rate, 0.25), rate)


@pytest.fixture
def folder(tmp_path):
  write_pair(tmp_path, "b")
  write_pair(tmp_path, "sub/a", program=75, suffix=".flac", rate=2 * RATE)
  write_pair(tmp_path, ".hidden")
  return tmp_path


def test_files_of_one_name_in_one_folder_are_a_song(folder):
  [source] = songs.find_songs(str(folder))
  first, second = [entry.load() for entry in source.read()]
  assert [first.key, second.key] == [f"{folder.name}/b", f"{folder.name}/sub/a"]
  assert source.num_songs() == source.num_shards() == 2
  for song in (first, second):
    assert song.samples.dtype == np.float32
    np.testing.assert_allclose(song.samples[100:-100], 0.25, atol=1e-3)
    assert len(song.samples) == RATE
    assert len(song.notes) == 2
  assert second.notes.program.tolist() == [73, 73]  # Pan flute is a pipe.


def test_midi_files_without_a_recording_are_counted_and_left_out(folder):
  write_pair(folder, "alone")
  (folder / "alone.wav").unlink()
  with pytest.warns(UserWarning, match="^1 MIDI files in .* have no recording"):
    assert len(list(songs.FolderSongs(str(folder)).read())) == 2


def test_a_folder_without_pairs_is_an_error_that_says_what_was_looked_for(
  tmp_path,
):
  with pytest.raises(ValueError, match="Expected recordings .* none"):
    list(songs.FolderSongs(str(tmp_path)).read())


def test_shares_hold_every_song_once(folder):
  source = songs.FolderSongs(str(folder))
  keys = [e.key for shard in range(3) for e in source.read(shard, 3)]
  assert sorted(keys) == sorted(entry.key for entry in source.read())


def test_the_first_songs_are_shared_out_like_the_others(folder):
  first = songs.FirstSongs(songs.FolderSongs(str(folder)), 1)
  assert first.num_songs() == first.num_shards() == 1
  [entry] = first.read()
  assert [e.key for s in range(2) for e in first.read(s, 2)] == [entry.key]


def test_ten_minutes_count():
  piece = notes.Notes.from_columns([0, 599, 600], [1, 601, 602], 60, 90)
  samples = np.zeros(601 * RATE, np.float32)
  song = songs.first_minutes("d", "long", samples, piece)
  assert len(song.samples) == 600 * RATE
  assert song.notes.offset.tolist() == [1, 600]


@pytest.mark.parametrize(
  ("samples", "found"), [([0.0, np.nan], "NaN"), ([], "no samples")]
)
def test_recordings_that_cannot_be_measured_are_an_error(samples, found):
  piece = notes.Notes.from_columns([], [], [], [])
  with pytest.raises(ValueError, match=f"finite samples, found {found}"):
    songs.first_minutes("d", "bad", np.array(samples, np.float32), piece)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  """A data directory with the dataset `maestro`, and its examples by split."""
  pytest.importorskip("seqio")
  path = Path(__file__).parents[1] / "data" / "conftest.py"
  spec = importlib.util.spec_from_file_location("prepared_songs", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  directory = tmp_path_factory.mktemp("evaluated")
  durations_s = {"train": [1.0], "test": [2.0, 3.0, 1.0]}
  yield directory, module.store_songs(directory, "maestro", durations_s, 1)
  import seqio

  seqio.set_tfds_data_dir_override(None)


@pytest.mark.parametrize(
  "name", ["maestro", "maestro_full_song:test", "maestro_with_context_eval"]
)
def test_tasks_give_their_songs_as_they_were_prepared(prepared, name):
  directory, examples = prepared
  split = "train" if ":" in name else "test"
  [source] = songs.find_songs(name, split=split, data_dir=directory)
  assert source.name == "maestro"
  assert source.num_songs() == source.num_shards() == 3
  found = {entry.id: entry.load() for entry in source.read()}
  assert found.keys() == {example["id"] for example in examples["test"]}
  for example in examples["test"]:
    song = found[example["id"]]
    samples = np.frombuffer(np.asarray(example["audio"]).tobytes(), np.int16)
    np.testing.assert_allclose(song.samples, samples / 32767, atol=1e-7)
    np.testing.assert_array_equal(song.notes.onset, example["notes"]["onset"])
    assert song.notes.velocity.tolist() == list(example["notes"]["velocity"])


def test_a_share_of_a_prepared_task_is_one_song(prepared):
  directory, examples = prepared
  [source] = songs.find_songs("maestro", data_dir=directory)
  shares = [list(source.read(shard, 3)) for shard in range(3)]
  assert [len(share) for share in shares] == [1, 1, 1]
  ids = {entry.id for share in shares for entry in share}
  assert ids == {example["id"] for example in examples["test"]}


def test_a_mixture_stands_for_its_datasets(prepared):
  sources = songs.find_songs("mega", data_dir=prepared[0])
  assert {source.name for source in sources} == {
    *("maestro", "slakh", "cerberus4", "guitarset", "musicnet", "urmp")
  }


def test_what_is_no_task_and_no_split_is_told_in_a_line(prepared):
  with pytest.raises(ValueError, match="no nonsense. There are .*maestro,"):
    songs.find_songs("nonsense")
  [source] = songs.find_songs("maestro", split="tests", data_dir=prepared[0])
  with pytest.raises(ValueError, match="split 'tests' of maestro.* test"):
    list(source.read())
