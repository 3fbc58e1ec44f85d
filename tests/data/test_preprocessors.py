import numpy as np
import pytest

pytest.importorskip("seqio")

import seqio
import tensorflow as tf

from music_spectrogram_diffusion import audio, data, notes
from music_spectrogram_diffusion.data import preprocessors
from music_spectrogram_diffusion.data.builders import base

CONFIG = audio.SpectrogramConfig()
HOP = CONFIG.hop_length
SILENCE = np.float32(CONFIG.mel_range[0])
VOCABULARY = notes.Vocabulary()
WITH_CONTEXT = {"inputs": None, "targets": None, "targets_context": None}
LENGTHS = {"inputs": 512, "targets": 64, "targets_context": 48}
HALF = 4e-3  # Half of float16's step between 8 and 16.


def make_song(seed, num_samples, piece=None, name=None):
  """Noise that grows louder, so that each frame differs, and a piece."""
  rng = np.random.default_rng(seed)
  samples = rng.normal(size=num_samples) * np.linspace(0.001, 0.3, num_samples)
  if piece is None:
    piece = notes.to_slakh_classes(
      data.generate_piece(seed, max(num_samples / CONFIG.sample_rate, 1.0))
    )
  samples = np.clip(samples, -1, 1).astype(np.float32)
  return base.make_example(name or f"song{seed}", samples, piece)


def dataset_of(*songs):
  examples = [tf.nest.map_structure(tf.constant, song) for song in songs]
  dataset = tf.data.Dataset.from_tensors(examples[0])
  for example in examples[1:]:
    dataset = dataset.concatenate(tf.data.Dataset.from_tensors(example))
  return dataset


def pieces_of(*songs, piece_frames=150):
  return preprocessors.split_songs(
    dataset_of(*songs), config=CONFIG, piece_frames=piece_frames
  )


def train_windows(pieces, seed=0, features=WITH_CONTEXT, **options):
  with seqio.utils.map_seed_manager(seed):
    dataset = preprocessors.random_windows(
      pieces,
      options.pop("lengths", LENGTHS),
      features,
      problems=options.pop("problems", base.Problems()),
      **options,
    )
  return list(dataset.as_numpy_iterator())


def segments_of(pieces, features=WITH_CONTEXT, **options):
  dataset = preprocessors.consecutive_windows(
    pieces,
    options.pop("lengths", LENGTHS),
    features,
    problems=options.pop("problems", base.Problems()),
    **options,
  )
  return list(dataset.as_numpy_iterator())


def log_mel_of(song):
  return audio.log_mel(base.audio_from_example(song), CONFIG)


# 523 frames: the last one is cut off by the end of the audio.
SONG = make_song(1, 522 * HOP + 100)


@pytest.fixture(scope="module")
def windows():
  return train_windows(pieces_of(SONG).repeat(2))


def test_a_window_and_its_context_are_frames_of_the_song(windows):
  expected = log_mel_of(SONG)
  assert len(windows) > 12
  for window in windows:
    start = window["first_frame"]
    context = window["targets_context"]
    targets = window["targets"]
    assert targets.dtype == context.dtype == np.float32
    assert len(targets) == min(64, 523 - start)
    assert len(context) <= min(48, start)
    np.testing.assert_allclose(
      np.concatenate([context, targets]),
      expected[start - len(context) : start + len(targets)],
      atol=HALF,
    )


def test_tokens_are_those_of_the_window_in_the_whole_song(windows):
  for window in windows:
    [expected] = notes.tokenize_segments(
      base.notes_from_example(SONG),
      vocabulary=VOCABULARY,
      segment_frames=64,
      first_frame=int(window["first_frame"]),
      num_segments=1,
      song_frames=523,
    )
    np.testing.assert_array_equal(window["inputs"], expected)
    assert window["inputs"].dtype == np.int32


def test_a_segment_sees_its_own_audio_and_sixteen_hops_after_it():
  song = make_song(2, 200 * HOP)
  [_, window, *_] = segments_of(pieces_of(song))
  samples = base.audio_from_example(song)
  own = audio.log_mel(samples[64 * HOP : (128 + 16) * HOP], CONFIG)[:64]
  np.testing.assert_allclose(window["targets"], own, atol=HALF)
  cut = audio.log_mel(samples[64 * HOP : 128 * HOP], CONFIG)
  assert np.abs(cut[-1] - own[-1]).max() > 0.1  # What the hops are for.


def test_the_context_knows_nothing_of_the_target():
  """But the first hop of it, which its last frame overlaps."""
  song = make_song(3, 300 * HOP)
  other = song | {"audio": song["audio"].copy()}
  other["audio"][(128 + 1) * HOP :] = 12345
  for first, second in zip(
    segments_of(pieces_of(song)), segments_of(pieces_of(other)), strict=True
  ):
    if first["first_frame"] <= 128:
      np.testing.assert_array_equal(
        first["targets_context"], second["targets_context"]
      )
    else:
      assert (first["targets_context"] != second["targets_context"]).any()
    if first["first_frame"] == 128:
      assert (first["targets"] != second["targets"]).any()
      # Nor is anything after its own frames handed out as context.
      assert len(first["targets_context"]) == 48


def test_segments_follow_each_other_whatever_the_pieces():
  song = make_song(4, 400 * HOP)
  for piece_frames in (100, 1000):
    segments = segments_of(pieces_of(song, piece_frames=piece_frames))
    starts = [int(segment["first_frame"]) for segment in segments]
    assert starts == [0, 64, 128, 192, 256, 320, 384]
    assert [len(s["targets_context"]) for s in segments] == [0] + [48] * 6
    assert [len(s["targets"]) for s in segments] == [64] * 6 + [16]
    whole = np.concatenate([segment["targets"] for segment in segments])
    np.testing.assert_allclose(whole, log_mel_of(song), atol=HALF)


def test_the_tokens_of_one_note_worked_out_by_hand():
  note = notes.Notes.from_columns([1.0], [2.0], [60], [90])
  song = make_song(5, 192 * HOP, note)
  first, second, third = (s["inputs"] for s in segments_of(pieces_of(song)))
  pitch, tie, program = 3 + 1001 + 60, 3 + 1131, 3 + 1132
  off, on = 3 + 1129, 3 + 1130
  # 64 frames are 1.28 s: the note is struck after 100 steps, tied over, and
  # ends 0.72 s later.
  assert first.tolist() == [tie, 3 + 100, program, on, pitch, notes.EOS]
  assert second.tolist() == [
    *(program, pitch, tie),
    *(3 + 72, off, pitch, notes.EOS),
  ]
  assert third.tolist() == [tie, notes.EOS]


def test_silence_is_the_floor_of_the_scale():
  silent = base.make_example(
    "silent",
    np.zeros(100 * HOP, np.float32),
    notes.Notes.from_columns([], [], [], []),
  )
  for segment in segments_of(pieces_of(silent)):
    np.testing.assert_allclose(segment["targets"], SILENCE, atol=HALF)


def test_windows_of_too_many_tokens_are_dropped_and_counted():
  problems = base.Problems()
  lengths = LENGTHS | {"inputs": 40}
  pieces = pieces_of(SONG)
  kept = segments_of(pieces, lengths=lengths, problems=problems)
  whole = notes.tokenize_segments(
    base.notes_from_example(SONG),
    vocabulary=VOCABULARY,
    segment_frames=64,
    song_frames=523,
    num_segments=9,
  )
  fitting = [64 * i for i, tokens in enumerate(whole) if len(tokens) <= 40]
  assert [segment["first_frame"] for segment in kept] == fitting
  assert 0 < len(fitting) < 9
  [line] = problems.lines()
  dropped = 9 - len(fitting)
  assert line.startswith(f"{dropped} segments dropped: over 40 tokens (song1")


def test_without_context_there_is_none():
  features = {"inputs": None, "targets": None}
  for window in train_windows(pieces_of(SONG), features=features):
    assert set(window) == {"id", "first_frame", "inputs", "targets"}
    assert window["id"] == b"song1"


def places(first, last, song_frames, *, share=0.0, number=1000):
  """Starts and contexts of `number` passes over a piece."""
  lengths = preprocessors.Lengths(tokens=512, target=64, context=48)
  passes = [
    preprocessors.random_places(
      first,
      last,
      song_frames,
      np.array([seed, 1]),
      lengths,
      short_context_probability=share,
    )
    for seed in range(number)
  ]
  return tuple(np.concatenate(column) for column in zip(*passes, strict=True))


def test_all_frames_are_equally_likely_to_start_a_window():
  starts, _ = places(500, 600, 1000)
  counts = np.bincount((starts - 500) // 10, minlength=10)
  # 100 / 64 windows a pass, ten frames a bin; deviations of some 12.
  np.testing.assert_allclose(counts, 1000 * 10 / 64, atol=50)
  assert counts.sum() == pytest.approx(1000 * 100 / 64, rel=0.03)


def test_windows_of_a_pass_do_not_overlap():
  starts, _ = places(0, 700, 700, number=1)
  assert (np.diff(np.sort(starts)) == 64).all() and len(starts) >= 10


def test_a_context_is_all_that_precedes_or_short_as_often_as_asked_for():
  starts, contexts = places(0, 300, 300)
  np.testing.assert_array_equal(contexts, np.minimum(starts, 48))
  starts, contexts = places(300, 600, 600, share=0.3)
  assert np.mean(contexts < 48) == pytest.approx(0.3, abs=0.03)
  # Those that are short are of any length.
  counts = np.bincount(contexts[contexts < 48], minlength=48)
  assert counts.min() > 0 and counts.max() < 4 * counts.mean()


def test_windows_are_a_function_of_the_seed():
  def starts(seed):
    windows = train_windows(pieces_of(SONG, piece_frames=300), seed)
    return [int(window["first_frame"]) for window in windows]

  assert starts(1) == starts(1) != starts(2)


def test_windows_are_taken_from_many_pieces_in_turn():
  songs = [make_song(10 + i, 100 * HOP) for i in range(4)]
  lengths = LENGTHS | {"targets": 10}
  pieces = pieces_of(*songs, piece_frames=100)
  ids = [w["id"] for w in train_windows(pieces, lengths=lengths)]
  assert all(len(set(ids[i : i + 4])) == 4 for i in range(0, 36, 4))
  one_by_one = train_windows(pieces, lengths=lengths, open_pieces=1)
  assert len({window["id"] for window in one_by_one[:9]}) == 1


def test_a_song_shorter_than_a_window_has_one_and_an_empty_one_none():
  short = make_song(7, 9 * HOP)
  empty = make_song(8, 0)
  [window] = train_windows(pieces_of(empty, short))
  assert window["id"] == b"song7"
  assert len(window["targets"]) == 9 - window["first_frame"]
  [segment] = segments_of(pieces_of(empty, short))
  assert len(segment["targets"]) == 9


def test_windows_longer_than_what_pieces_keep_are_refused():
  lengths = LENGTHS | {"targets_context": 257}
  with pytest.raises(ValueError, match="at most 256 frames, got 257"):
    train_windows(pieces_of(SONG), lengths=lengths)


def test_a_whole_song_has_all_tokens_frames_and_samples():
  [song] = preprocessors.whole_songs(
    dataset_of(SONG), max_tokens=1024, segment_frames=64
  ).as_numpy_iterator()
  samples = base.audio_from_example(SONG)
  np.testing.assert_allclose(song["audio"], samples, atol=1e-7)
  np.testing.assert_allclose(song["targets"], log_mel_of(SONG), atol=1e-4)
  segments = segments_of(pieces_of(SONG), lengths=LENGTHS | {"inputs": 1024})
  assert song["inputs"].shape == (9, 1024)
  for tokens, segment in zip(song["inputs"], segments, strict=True):
    expected = segment["inputs"]
    np.testing.assert_array_equal(tokens[: len(expected)], expected)
    assert not tokens[len(expected) :].any()


def test_other_vocabularies_have_other_tokens():
  vocabulary = notes.Vocabulary(velocity_bins=32)
  first, *_ = segments_of(pieces_of(SONG), vocabulary=vocabulary)
  expected = notes.tokenize_segments(
    base.notes_from_example(SONG),
    vocabulary=vocabulary,
    segment_frames=64,
    song_frames=523,
  )[0]
  np.testing.assert_array_equal(first["inputs"], expected)
