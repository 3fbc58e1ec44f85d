import numpy as np
import pytest

from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.data import generator, piece_sources


def write_song(path, onset, **columns):
  onset = np.asarray(onset, np.float64)
  defaults = dict(
    offset=onset + 0.5, pitch=60, velocity=90, program=40, is_drum=False
  )
  song = notes_lib.Notes.from_columns(onset, **(defaults | columns))
  notes_lib.write_midi(song, path)
  return song


@pytest.fixture
def short_pieces(monkeypatch):
  note = notes_lib.Notes.from_columns([0.0], [1.0], [60], [90])
  monkeypatch.setattr(generator, "generate_piece", lambda seed: note)


def drawn(source, count=60):
  return [source(np.random.default_rng(seed)) for seed in range(count)]


def test_without_a_folder_the_generator_makes_all():
  assert piece_sources.with_songs(None, 0.5) is piece_sources.generated


def test_songs_make_up_their_share(tmp_path, short_pieces):
  for name in ("a", "b"):
    write_song(tmp_path / f"{name}.mid", [0.0, 1.0])
  names = [
    piece.name for piece in drawn(piece_sources.with_songs(tmp_path, 0.3), 200)
  ]
  songs = [name for name in names if name.startswith("midi_")]
  assert set(songs) == {"midi_a", "midi_b"}
  assert 0.2 < len(songs) / len(names) < 0.4


def test_a_piece_is_the_same_by_the_same_random_numbers(tmp_path):
  write_song(tmp_path / "a.mid", np.arange(0, 90, 0.5))
  source = piece_sources.with_songs(tmp_path, 1.0)
  first, again = (source(np.random.default_rng(7)).notes for _ in range(2))
  for name, column in vars(first).items():
    np.testing.assert_array_equal(getattr(again, name), column)


def test_an_excerpt_is_a_part_of_the_song_in_another_key_and_tempo(tmp_path):
  onset = np.arange(0, 120, 0.5)
  song = write_song(tmp_path / "a.mid", onset, pitch=40 + np.arange(240) % 40)
  keys, gaps, louder = set(), set(), set()
  for piece in drawn(piece_sources.with_songs(tmp_path, 1.0)):
    notes = piece.notes
    assert notes.onset.min() >= 0 and notes.offset.max() <= 45
    steps = np.diff(notes.pitch)
    assert set(steps.tolist()) <= {1, -39}  # As in the song.
    place = notes.onset[1:]
    gaps.add(round(float(np.diff(place).mean()), 3))
    keys.add(int(notes.pitch.max()) - int(song.pitch.max()))
    louder.add(int(notes.velocity[0]) - 90)
  assert min(keys) == -5 and max(keys) == 5 and len(keys) == 11
  assert 0.5 / 1.2 - 1e-3 <= min(gaps) < 0.45 < 0.55 < max(gaps) <= 0.601
  assert min(louder) < -8 and max(louder) > 8


def test_what_sounds_at_the_start_of_an_excerpt_begins_there(tmp_path):
  held = write_song(
    tmp_path / "a.mid", [0.0, 100.0], offset=[100.0, 110.0], pitch=[50, 90]
  )
  assert len(held) == 2
  source = piece_sources.with_songs(tmp_path, 1.0)
  starts = [p.notes.onset[p.notes.onset == 0] for p in drawn(source, 20)]
  assert all(len(start) == 1 for start in starts)


def test_drums_keep_their_pitches_and_are_not_held_over(tmp_path):
  write_song(
    tmp_path / "a.mid",
    np.arange(0, 90, 0.25),
    pitch=36,
    program=0,
    is_drum=True,
  )
  for piece in drawn(piece_sources.with_songs(tmp_path, 1.0), 20):
    assert set(piece.notes.pitch.tolist()) == {36}
    assert 45 / 0.25 / 1.2 - 2 <= len(piece.notes) <= 45 / 0.25 * 1.2 + 1


def test_extreme_pitches_stay_within_midi(tmp_path):
  write_song(tmp_path / "a.mid", [0.0, 1.0], pitch=[0, 127])
  for piece in drawn(piece_sources.with_songs(tmp_path, 1.0), 20):
    assert piece.notes.pitch.tolist() == [0, 127]


def test_files_without_notes_are_left_out_with_a_warning(tmp_path):
  write_song(tmp_path / "good.mid", [0.0])
  (tmp_path / "broken.mid").write_bytes(b"MThd, and no more")
  source = piece_sources.with_songs(tmp_path, 1.0)
  with pytest.warns(UserWarning, match="Left out .*broken.mid"):
    names = {piece.name for piece in drawn(source, 20)}
  assert names == {"midi_good"}


def test_nothing_to_play_is_an_error(tmp_path):
  with pytest.raises(ValueError, match="found no folder"):
    piece_sources.with_songs(tmp_path / "nowhere", 0.5)
  with pytest.raises(ValueError, match="share of 0 to 1, got 2.0"):
    piece_sources.WithSongs((tmp_path,), 2.0)
  (tmp_path / "broken.mid").write_bytes(b"no MIDI")
  source = piece_sources.with_songs(tmp_path, 1.0)
  with (
    pytest.warns(UserWarning, match="Left out"),
    pytest.raises(ValueError, match="MIDI files with notes, such as .*broken"),
  ):
    source(np.random.default_rng(0))
