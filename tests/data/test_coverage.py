import numpy as np
import pytest

from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.data import coverage


def piece(onset, offset, pitch, **columns):
  columns = dict(velocity=90, program=40, is_drum=False) | columns
  return notes_lib.Notes.from_columns(onset, offset, pitch, **columns)


def test_notes_are_counted_by_class_of_program_and_pitch():
  found = coverage.cover(
    [piece([0, 1, 2], [1, 2, 3], [60, 60, 64], program=[41, 1, 41])]
  )
  assert found.pitches[41, [60, 64]].tolist() == [1, 1]
  assert found.pitches[0, 60] == 1  # Bright Acoustic Piano is a piano.
  assert found.pitches.sum() == 3
  assert found.parts[2] == 1 and not found.solos.any()


def test_drums_have_hits_and_no_lengths():
  drums = piece([0, 1], [9, 9], [36, 38], program=0, is_drum=True)
  found = coverage.cover([drums])
  assert found.drums[[36, 38]].tolist() == [1, 1]
  assert not found.lengths.any() and found.at_once_s[1:].sum() == 0
  assert found.num_with_drums == 1 and found.parts[1] == 1
  assert not found.solos.any()


def test_who_plays_alone_is_counted():
  found = coverage.cover([piece([0], [1], [60]), piece([0], [1], [60])])
  assert found.solos[40] == 2 and found.parts[1] == 2


def test_time_is_counted_by_how_many_notes_sound():
  found = coverage.cover([piece([1, 2, 5], [4, 3, 6], [60, 64, 67])])
  np.testing.assert_allclose(found.at_once_s[:3], [2, 3, 1])
  assert found.at_once_s.sum() == pytest.approx(found.duration_s) == 6


def test_a_note_that_ends_where_another_begins_is_one_at_a_time():
  found = coverage.cover([piece([0, 1], [1, 2], [60, 62])])
  np.testing.assert_allclose(found.at_once_s[:3], [0, 2, 0])


def test_segments_are_counted_by_what_begins_in_them():
  found = coverage.cover([piece([0, 1, 12], [1, 2, 13], [60, 62, 64])])
  assert found.segment_notes[[0, 1, 2]].tolist() == [1, 1, 1]
  tokens = notes_lib.tokenize_segments(
    piece([0, 1, 12], [1, 2, 13], [60, 62, 64]),
    vocabulary=notes_lib.Vocabulary(),
  )
  lengths = [len(segment) for segment in tokens]
  assert np.flatnonzero(found.segment_tokens).tolist() == sorted(set(lengths))


def test_lengths_are_counted_between_their_bounds():
  found = coverage.cover([piece([0, 0, 0], [0.15, 6, 500], [60, 62, 64])])
  edges = found.length_edges_s
  for length in (0.15, 6):
    assert found.lengths[np.searchsorted(edges, length) - 1] == 1
  assert found.lengths[-1] == 1 and found.num_long == 2


def test_pieces_without_notes_are_counted():
  empty = piece([], [], [])
  found = coverage.cover([empty])
  assert found.num_pieces == 1 and found.parts[0] == 1
  assert found.segment_notes[0] == 1
  assert dict(found.facts())["notes over 5 s"] == "0 %"


def test_quantiles_are_those_of_the_values():
  values = np.random.default_rng(0).integers(0, 50, 1001)
  counts = np.bincount(values, minlength=60)
  for share in (0.1, 0.5, 0.9):
    assert coverage.quantile(counts, share) == np.quantile(
      values, share, method="inverted_cdf"
    )
  assert coverage.quantile(np.zeros(4), 0.5) == 0


def test_a_folder_of_midi_files_is_read_with_its_subfolders(tmp_path):
  (tmp_path / "inner").mkdir()
  for path in (tmp_path / "a.mid", tmp_path / "inner" / "b.MID"):
    notes_lib.write_midi(piece([0], [1], [60]), path)
  (tmp_path / "broken.mid").write_bytes(b"no MIDI")
  with pytest.warns(UserWarning, match="Left out .*broken.mid"):
    assert coverage.cover(coverage.pieces_of(tmp_path)).num_pieces == 2


def test_a_folder_without_pieces_is_an_error(tmp_path):
  with pytest.raises(ValueError, match="Expected MIDI files"):
    list(coverage.pieces_of(tmp_path))
