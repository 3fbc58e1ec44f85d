import itertools
from pathlib import Path

import numpy as np
import pytest

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.data import generator, songs, windows

SINE = Path(__file__).with_name("sine.sf2")  # By make_sine_soundfont.py.
CONFIG = audio.SpectrogramConfig()
VOCABULARY = notes_lib.Vocabulary(velocity_bins=32)
SILENCE = CONFIG.mel_range[0]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  directory = tmp_path_factory.mktemp("songs")
  whole = generator.generate_piece
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(generator, "generate_piece", lambda seed: whole(seed, 12.0))
    made = songs.prepare_songs(
      directory, range(3), soundfont_path=SINE, config=CONFIG, num_workers=0
    )
    assert len(list(made)) == 3
  return directory


def batches_of(directory, **settings):
  defaults = {"batch_size": 4, "max_tokens": 1024}
  return windows.WindowBatches(
    directory, vocabulary=VOCABULARY, config=CONFIG, **(defaults | settings)
  )


def test_a_batch_is_as_the_models_take_it(directory):
  batch = batches_of(directory).batch(0)
  names = {path.stem for path in songs.song_paths(directory)}
  assert set(batch.pop("ids")) <= names
  assert {name: (v.shape, v.dtype.name) for name, v in batch.items()} == {
    "note_tokens": ((4, 1024), "int32"),
    "context": ((4, 256, 128), "float32"),
    "context_mask": ((4, 256), "bool"),
    "targets": ((4, 256, 128), "float32"),
    "targets_mask": ((4, 256), "bool"),
  }


def test_masks_cover_the_first_frames_and_the_rest_is_silence(directory):
  batches = batches_of(directory, short_context_probability=0.5)
  for batch in itertools.islice(batches, 8):
    for part in ("context", "targets"):
      mask = batch[f"{part}_mask"]
      assert (np.diff(mask.astype(int), axis=1) <= 0).all()
      assert (batch[part][~mask] == np.float32(SILENCE)).all()
    assert batch["targets_mask"].any(axis=1).all()
    assert np.isfinite(batch["targets"]).all()


def test_any_step_can_be_made_at_once(directory):
  walked = list(itertools.islice(batches_of(directory), 4))
  resumed = next(batches_of(directory).batches(first_step=3))
  for name, values in resumed.items():
    np.testing.assert_array_equal(values, walked[3][name])


def test_another_seed_gives_other_windows(directory):
  first, second = (batches_of(directory, seed=s).batch(0) for s in (0, 1))
  assert (first["targets"] != second["targets"]).any()


def test_hosts_that_share_a_batch_make_it_together(directory):
  whole = batches_of(directory).batch(5)
  shares = [
    batches_of(directory, batch_size=2, first_window=first).batch(5)
    for first in (0, 2)
  ]
  for name, values in whole.items():
    np.testing.assert_array_equal(
      np.concatenate([share[name] for share in shares]), values
    )


def test_a_window_follows_its_context_in_the_song(directory):
  paths = songs.song_paths(directory)
  mels = [np.float32(songs.read_log_mel(p, 0, 10**6)) for p in paths]
  settings = {"start_probability": 0.0, "short_context_probability": 0.5}
  for batch in itertools.islice(batches_of(directory, **settings), 4):
    for i in range(4):
      context = batch["context"][i][batch["context_mask"][i]]
      targets = batch["targets"][i][batch["targets_mask"][i]]
      window = np.concatenate([context, targets])
      assert any(
        (mel[k : k + len(window)] == window).all()
        for mel in mels
        for k in range(len(mel) - len(window) + 1)
      )


def test_the_tokens_are_those_of_the_window(directory):
  """A window at a segment's start has that segment's tokens."""
  batches = batches_of(directory)
  for path in songs.song_paths(directory):
    song, num_frames = songs.read_notes(path), songs.num_frames(path)
    whole = notes_lib.tokenize_segments(
      song, vocabulary=VOCABULARY, song_frames=num_frames
    )
    for segment, expected in enumerate(whole):
      tokens = batches._cutter.tokens(song, 256 * segment, num_frames)
      np.testing.assert_array_equal(tokens[: len(expected)], expected)
      assert not tokens[len(expected) :].any()


def test_windows_start_anywhere_and_often_at_the_start(directory):
  lengths = [
    length
    for batch in itertools.islice(batches_of(directory, batch_size=64), 12)
    for length in batch["context_mask"].sum(axis=1).tolist()
  ]
  assert 0.08 < np.mean(np.array(lengths) == 0) < 0.25
  assert len(set(lengths)) > 50
  assert np.mean(np.array(lengths) == 256) > 0.25


def test_windows_of_too_many_tokens_are_left_out(directory):
  batches = batches_of(directory, max_tokens=60, batch_size=8)
  for batch in itertools.islice(batches, 3):
    assert (batch["note_tokens"] == notes_lib.EOS).any(axis=1).all()
  with pytest.raises(ValueError, match="raise max_tokens"):
    batches_of(directory, max_tokens=2, start_probability=1.0).batch(0)


def test_a_directory_without_songs_is_refused(tmp_path):
  with pytest.raises(ValueError, match="found none"):
    batches_of(tmp_path)
