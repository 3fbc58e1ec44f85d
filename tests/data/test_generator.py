import collections
import functools

import numpy as np

from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.data import generator

NUM_PIECES = 300


@functools.cache
def pieces():
  return [generator.generate_piece(seed) for seed in range(NUM_PIECES)]


def test_a_seed_gives_one_piece_and_seeds_differ():
  first, second = pieces()[:2]
  again = generator.generate_piece(0)
  for name, column in vars(first).items():
    np.testing.assert_array_equal(getattr(again, name), column)
  assert len(first) != len(second) or (first.pitch != second.pitch).any()


def test_notes_are_within_the_piece_and_within_midi():
  for seed, notes in enumerate(pieces()[:100]):
    assert (np.diff(notes.onset) >= 0).all(), seed
    assert (notes.onset >= 0).all() and (notes.offset > notes.onset).all()
    assert notes.duration_s <= 60
    assert ((notes.pitch >= 21) & (notes.pitch <= 108)).all()
    assert ((notes.velocity >= 20) & (notes.velocity <= 127)).all()
    drums = notes[notes.is_drum]
    assert ((drums.pitch >= 35) & (drums.pitch <= 81)).all()
    assert not drums.program.any()


def test_the_duration_can_be_set():
  for seed in range(20):
    assert generator.generate_piece(seed, 10.0).duration_s <= 10


def test_equal_notes_do_not_overlap():
  for notes in pieces()[:100]:
    trimmed = notes_lib.trim_overlaps(notes)
    np.testing.assert_array_equal(trimmed.offset, notes.offset)


def test_programs_are_the_first_of_the_slakh_classes():
  assert set(generator.RANGES) == set(notes_lib.SLAKH_CLASSES.values())
  for notes in pieces()[:50]:
    assert set(notes.program.tolist()) <= set(generator.RANGES) | {0}


def test_every_program_plays_often_and_alone_at_times():
  played, alone = collections.Counter(), collections.Counter()
  for notes in pieces():
    programs = np.unique(notes.program[~notes.is_drum]).tolist()
    played.update(programs)
    if len(programs) == 1 and not notes.is_drum.any():
      alone.update(programs)
  assert set(played) == set(generator.RANGES)
  assert min(played.values()) >= 5
  assert len(alone) >= 30


def test_every_drum_of_the_kit_is_struck():
  struck = np.concatenate([n.pitch[n.is_drum] for n in pieces()])
  hits = np.bincount(struck, minlength=128)
  assert hits[35:60].min() >= 20
  assert (hits[60:82] > 0).all()


def test_notes_are_short_and_long_soft_and_loud_low_and_high():
  every = notes_lib.Notes.concatenate(pieces())
  pitched = every[~every.is_drum]
  length = pitched.offset - pitched.onset
  assert np.mean(length < 0.1) > 0.05
  assert np.mean(length > 5) > 0.003
  assert set(range(21, 109)) <= set(pitched.pitch.tolist())
  assert np.quantile(every.velocity, 0.05) < 60
  assert np.quantile(every.velocity, 0.95) > 105


def test_segments_are_as_dense_as_real_ones():
  per_segment = np.concatenate(
    [
      np.bincount(np.int64(notes.onset / 5.12), minlength=7)[:-1]
      for notes in pieces()
    ]
  )
  assert 35 < np.median(per_segment) < 65
  assert np.quantile(per_segment, 0.9) < 140
  assert np.mean(per_segment > 192) < 0.02
  assert 0 < np.mean(per_segment == 0) < 0.05  # Silence is music too.
