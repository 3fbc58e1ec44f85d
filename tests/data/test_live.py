import itertools
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tinysoundfont")

from music_spectrogram_diffusion import audio, notes
from music_spectrogram_diffusion.data import (
  generator,
  live,
  piece_sources,
  windows,
)

SINE = Path(__file__).with_name("sine.sf2")  # By make_sine_soundfont.py.
CONFIG = audio.SpectrogramConfig(n_mels=16)


def live_windows(**settings):
  cutter = windows.WindowCutter(
    vocabulary=notes.Vocabulary(),
    config=CONFIG,
    max_tokens=settings.pop("max_tokens", 1024),
    segment_frames=64,
  )
  defaults = dict(
    batch_size=3,
    num_workers=0,
    windows_per_piece=2,
    pieces_per_block=2,
    blocks_ahead=0,
  )
  return live.LiveWindows(SINE, cutter, **(defaults | settings))


@pytest.fixture
def short_pieces(monkeypatch):
  whole = generator.generate_piece
  monkeypatch.setattr(
    generator, "generate_piece", lambda seed: whole(seed, 4.0)
  )


def assert_equal(batch, other):
  assert batch.keys() == other.keys()
  for name, value in batch.items():
    np.testing.assert_array_equal(value, other[name])


def test_it_goes_on_from_any_state(short_pieces):
  batches = live_windows()
  walked, states = [], []
  for batch in itertools.islice(batches, 4):
    walked.append(batch)
    states.append(batches.get_state())
  for after in (0, 2):
    again = live_windows()
    again.set_state(states[after])
    assert_equal(next(again), walked[after + 1])


def test_a_batch_is_as_the_models_take_it(short_pieces):
  batch = next(live_windows())
  assert {name: value.shape for name, value in batch.items()} == {
    "note_tokens": (3, 1024),
    "context": (3, 64, 16),
    "context_mask": (3, 64),
    "targets": (3, 64, 16),
    "targets_mask": (3, 64),
    "ids": (3,),
  }
  assert (batch["targets"] > CONFIG.mel_range[0]).any()


def test_hosts_and_seeds_have_pieces_of_their_own(short_pieces):
  seen = [
    set(next(live_windows(batch_size=4, **settings))["ids"])
    for settings in (
      dict(),
      dict(host_index=0, host_count=2),
      dict(host_index=1, host_count=2),
      dict(seed=1),
    )
  ]
  assert seen[1].isdisjoint(seen[2]) and seen[0].isdisjoint(seen[3])


def test_songs_among_the_pieces_change_nothing_about_resuming(
  short_pieces, tmp_path
):
  song = notes.Notes.from_columns(np.arange(8.0), np.arange(8.0) + 1, 60, 90)
  notes.write_midi(song, tmp_path / "song.mid")
  settings = dict(pieces=piece_sources.with_songs(tmp_path, 0.5))
  batches = live_windows(**settings)
  walked = [next(batches) for _ in range(3)]
  again = live_windows(**settings)
  again.set_state(b"6")
  assert_equal(next(again), walked[2])
  ids = np.concatenate([batch["ids"] for batch in walked]).tolist()
  assert 0 < sum(name == "midi_song" for name in ids) < len(ids)


def test_a_block_is_replayed_in_another_order_and_resumed_there(short_pieces):
  settings = dict(batch_size=4, replays=3)  # A batch is a block.
  batches = live_windows(**settings)
  walked = [next(batches) for _ in range(4)]
  for batch in walked[:3]:
    assert sorted(batch["ids"]) == sorted(walked[0]["ids"])
  assert set(walked[3]["ids"]).isdisjoint(walked[0]["ids"])
  assert len({batch["targets"].tobytes() for batch in walked[:3]}) > 1
  again = live_windows(**settings)
  again.set_state(b"8")
  assert_equal(next(again), walked[2])
  assert_equal(next(again), walked[3])


def test_too_many_tokens_everywhere_is_an_error(monkeypatch):
  held = notes.Notes.from_columns([0.0], [4.0], [60], [90])
  monkeypatch.setattr(generator, "generate_piece", lambda seed: held)
  monkeypatch.setattr(live, "_MAX_TRIES", 2)
  with pytest.raises(ValueError, match="at most 2 tokens"):
    next(live_windows(max_tokens=2))


def test_a_soundfont_that_is_not_there_is_an_error_at_once():
  with pytest.raises(ValueError, match="nowhere.sf2"):
    live.LiveWindows("nowhere.sf2", live_windows()._settings[1], batch_size=1)


def test_workers_make_the_same_batches_and_take_no_device():
  here, there = live_windows(), live_windows(num_workers=1, blocks_ahead=1)
  try:
    for _ in range(2):
      assert_equal(next(there), next(here))
    # JAX in a worker would take the memory of the GPU that is trained on.
    devices = "__import__('jax')._src.xla_bridge._backends"
    assert not there._workers.submit(eval, devices).result()
  finally:
    there.close()
