"""Clips of prepared datasets: where they come from, levels and resuming."""

import itertools

import numpy as np
import pytest

pytest.importorskip("seqio")

import seqio
import tensorflow_datasets as tfds

from music_spectrogram_diffusion import audio, notes
from music_spectrogram_diffusion.data import dataset_clips
from music_spectrogram_diffusion.data.builders import base

CONFIG = audio.SpectrogramConfig()
CLIP_FRAMES = 20
LENGTH = CLIP_FRAMES * CONFIG.hop_length
FULL_SCALE = 32767
NO_NOTES = notes.Notes.from_columns([], [], [], [])


def noise(num_samples, seed):
  rng = np.random.default_rng(seed)
  return rng.uniform(-0.5, 0.5, num_samples).astype(np.float32)


SONGS = {
  "long": noise(11 * LENGTH, 0),
  "half": np.pad(noise(4 * LENGTH, 1), (0, 4 * LENGTH)),
  "short": noise(LENGTH // 2, 2),
  "silent": np.zeros(5 * LENGTH, np.float32),
}


def store(data_dir, dataset, songs):
  """Writes songs as `spec-diff prepare` does."""
  tfds.disable_progress_bar()
  examples = [
    (name, base.make_example(name, samples, NO_NOTES))
    for name, samples in songs.items()
  ]
  tfds.dataset_builders.store_as_tfds_dataset(
    name=dataset,
    version="1.0.0",
    features=tfds.features.FeaturesDict(base.FEATURES),
    split_datasets={"train": examples},
    data_dir=data_dir,
    download_config=tfds.download.DownloadConfig(num_shards=1),
  )


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
  """A data directory with the dataset `maestro`, of `SONGS`."""
  directory = tmp_path_factory.mktemp("clips")
  store(directory, "maestro", SONGS)
  yield directory
  seqio.set_tfds_data_dir_override(None)


def clips(data_dir, **settings):
  defaults = {
    "dataset": "maestro",
    "clip_frames": CLIP_FRAMES,
    "data_dir": data_dir,
  }
  return dataset_clips.PreparedClips(**(defaults | settings))


def take(batches, number):
  return list(itertools.islice(batches, number))


@pytest.fixture(scope="module")
def walked(stored):
  """Forty batches of two: more than three passes over the songs."""
  batches = clips(stored)(batch_size=2, seed=3)
  states, handed_out = [], []
  for _ in range(40):
    states.append(batches.get_state())
    handed_out.append(next(batches))
  return states, handed_out


def each_clip(handed_out):
  for batch in handed_out:
    yield from zip(batch["ids"], batch["audio"], strict=True)


def level_and_place(clip, song):
  """How loud a clip is over its song, and where in it the clip begins.

  By the correlation, which no other place of noise comes near.
  """
  similarity = np.correlate(song, clip)
  start = int(similarity.argmax())
  cut = song[start : start + len(clip)]
  level = float(cut @ clip / (cut @ cut))
  np.testing.assert_allclose(clip, level * cut, atol=1.1 / FULL_SCALE)
  return level, start


def test_a_batch_is_audio_and_the_names_of_its_songs(walked):
  batch = walked[1][0]
  assert {name: (v.shape, v.dtype.name) for name, v in batch.items()} == {
    "audio": ((2, LENGTH), "float32"),
    "ids": ((2,), "object"),
  }


def test_clips_are_cut_from_their_songs_at_random_places(walked):
  places = set()
  for name, clip in each_clip(walked[1]):
    if name == b"long":
      level, start = level_and_place(clip, SONGS["long"])
      assert level == pytest.approx(1.0, abs=1e-3)
      places.add(start)
  # A pass has eleven of its clips.
  assert len(places) > 22
  assert max(places) > 9 * LENGTH
  assert min(places) < LENGTH


def test_silent_clips_are_left_out(walked):
  names = {name for name, _ in each_clip(walked[1])}
  assert names == {b"long", b"half", b"short"}
  for _, clip in each_clip(walked[1]):
    assert np.abs(clip).max() > 1e-4


def test_short_songs_lie_anywhere_in_silence(walked):
  short = SONGS["short"]
  starts = set()
  for name, clip in each_clip(walked[1]):
    if name == b"short":
      first = int(np.flatnonzero(clip)[0])
      starts.add(first)
      expected = np.pad(short, (first, LENGTH - first))[:LENGTH]
      np.testing.assert_allclose(clip, expected, atol=1.1 / FULL_SCALE)
  assert len(starts) >= 2
  assert max(starts) <= LENGTH - len(short)


def test_a_run_goes_on_with_exactly_the_clips_it_would_have_had(walked, stored):
  states, handed_out = walked
  for step in (0, 5, 31):
    resumed = clips(stored)(batch_size=2, seed=3)
    next(resumed)  # It may have begun elsewhere.
    resumed.set_state(states[step])
    for batch, expected in zip(resumed, handed_out[step:], strict=False):
      np.testing.assert_array_equal(batch["audio"], expected["audio"])
      assert batch["ids"].tolist() == expected["ids"].tolist()


def test_a_state_is_small(walked):
  assert max(map(len, walked[0])) < 10_000


def test_each_pass_cuts_other_clips(walked):
  audible = [(name, clip.tobytes()) for name, clip in each_clip(walked[1])]
  # The short song has one clip a pass.
  assert sum(name == b"short" for name, _ in audible) >= 3
  assert len(set(audible)) == len(audible)


def test_the_seed_chooses_clips_and_order(walked, stored):
  [same] = take(clips(stored)(batch_size=2, seed=3), 1)
  [other] = take(clips(stored)(batch_size=2, seed=4), 1)
  np.testing.assert_array_equal(same["audio"], walked[1][0]["audio"])
  assert (other["audio"] != same["audio"]).any()


def test_levels_are_changed_within_their_range(stored):
  source = clips(stored, gain_db=(-12.0, 6.0))
  levels_db = [
    20 * np.log10(level_and_place(clip, SONGS["long"])[0])
    for name, clip in each_clip(take(source(batch_size=2, seed=1), 20))
    if name == b"long"
  ]
  assert -12.01 < min(levels_db) < -6.0
  assert 0.0 < max(levels_db) < 6.01


def test_nothing_but_silence_is_an_error_that_says_so(tmp_path):
  store(tmp_path, "quiet", {"silent": SONGS["silent"]})
  batches = clips(tmp_path, dataset="quiet")(batch_size=2)
  with pytest.raises(ValueError, match="of clips of quiet, split train"):
    next(batches)


def test_a_dataset_that_was_not_prepared_is_named(tmp_path):
  with pytest.raises(ValueError, match="spec-diff prepare slakh") as error:
    clips(tmp_path, dataset="slakh")(batch_size=2)
  assert str(tmp_path / "slakh") in str(error.value)
  assert "\n" not in str(error.value)


def test_a_split_that_is_not_there_is_named(stored):
  with pytest.raises(ValueError, match="'test'.*found train"):
    clips(stored, split="test")(batch_size=2)


def test_other_sample_rates_are_refused(stored):
  config = audio.SpectrogramConfig(sample_rate=8000, fmax=4000.0)
  with pytest.raises(ValueError, match="16000 Hz, got 8000 Hz"):
    clips(stored, spectrogram=config)(batch_size=2)
