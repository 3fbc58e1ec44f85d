import collections
import functools

import numpy as np
import pytest

from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.data import (
  coverage,
  drum_patterns,
  generator,
  patterns,
)

NUM_PIECES = 200


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
    assert ((notes.velocity >= 12) & (notes.velocity <= 127)).all()
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


@functools.cache
def covered():
  return coverage.cover(pieces())


def parts_of(num_pieces):
  for seed in range(num_pieces):
    yield generator._parts(np.random.default_rng(seed))


def test_a_fifth_of_the_pieces_are_random_notes(monkeypatch):
  one = notes_lib.Notes.from_columns([0.0], [1.0], [60], [90])
  made = []
  for name in ("_random_notes", "_song"):
    monkeypatch.setattr(
      generator, name, lambda *_, name=name: made.append(name) or one
    )
  for seed in range(500):
    generator.generate_piece(seed)
  assert 0.15 < made.count("_random_notes") / 500 < 0.25


def test_every_program_plays_all_of_its_range():
  played = covered().pitches > 0
  for program, (low, high) in generator.RANGES.items():
    assert played[program, low : high + 1].mean() > 0.85, program
  assert played[:, 21:109].any(axis=0).all()


def test_everything_that_music_is_made_of_is_written():
  written = {part.writer for parts in parts_of(200) for part in parts}
  assert written == {
    patterns.arpeggio,
    patterns.bass,
    patterns.chords,
    patterns.counter_melody,
    patterns.melody,
    patterns.pad,
    patterns.power_chords,
    patterns.repeated_notes,
    drum_patterns.groove,
    drum_patterns.percussion,
  }


def test_pieces_have_one_to_six_parts():
  parts = covered().parts
  assert parts[1:7].min() > 0.04 * NUM_PIECES
  assert parts.sum() == parts[1:7].sum()


def test_every_program_plays_alone():
  cast = [{part.program for part in parts} for parts in parts_of(1500)]
  alone = [next(iter(programs)) for programs in cast if len(programs) == 1]
  assert set(alone) == {None, *generator.RANGES}
  assert np.count_nonzero(covered().solos) > 20


def test_every_program_plays_often():
  played = collections.Counter()
  for notes in pieces():
    played.update(np.unique(notes.program[~notes.is_drum]).tolist())
  assert set(played) == set(generator.RANGES)
  assert min(played.values()) >= 5


def test_every_drum_of_the_kit_is_struck():
  assert covered().drums[35:60].min() >= 20
  assert (covered().drums[60:82] > 0).all()
  assert 0.3 < covered().num_with_drums / NUM_PIECES < 0.6


def test_rock_is_dense():
  dense = 0
  for notes in pieces():
    rocks = notes.is_drum.any() and (notes.program == 29).any()
    dense += rocks and len(notes) / notes.duration_s > 15
  assert dense >= 5


def test_notes_are_short_and_long_soft_and_loud():
  lengths = np.cumsum(covered().lengths) / covered().lengths.sum()
  assert 0.05 < lengths[coverage.LENGTH_EDGES_S[1:] <= 0.1][-1] < 0.2
  assert 0.003 < covered().num_long / covered().lengths.sum() < 0.02
  quantiles = [coverage.quantile(covered().velocities, q) for q in (0.05, 0.95)]
  assert quantiles[0] < 50 and quantiles[1] > 110


def test_loudness_changes_in_most_pieces_and_is_constant_in_some():
  pitched = [notes[~notes.is_drum] for notes in pieces()]
  spread = np.array([n.velocity.std() for n in pitched if len(n)])
  assert np.mean(spread == 0) > 0.02
  assert np.mean(spread > 10) > 0.4


def test_segments_are_as_dense_as_real_ones():
  """Real ones: 205 tokens and 53 notes in the middle, 90 % under 450."""
  tokens, begun = covered().segment_tokens, covered().segment_notes
  assert 165 < coverage.quantile(tokens, 0.5) < 235
  assert 380 < coverage.quantile(tokens, 0.9) < 490
  assert 38 < coverage.quantile(begun, 0.5) < 62
  # The note list of the default model has 256 places, for held ones as well.
  assert begun[192:].sum() < 0.01 * begun.sum()


def test_there_are_rests_and_silence():
  assert 0.002 < covered().segment_notes[0] / covered().segment_notes.sum()
  silent_s = covered().at_once_s[0] / covered().at_once_s.sum()
  assert 0.03 < silent_s < 0.2
  starts = [notes.onset[0] for notes in pieces()]
  assert 0.1 < np.mean(np.array(starts) > 0.5) < 0.5


def test_notes_are_held_over_the_start_of_segments():
  held = []
  for notes in pieces():
    starts = np.arange(5.12, notes.duration_s, 5.12)[:, None]
    pitched = notes[~notes.is_drum]
    over = (pitched.onset < starts) & (pitched.offset > starts)
    held += over.any(axis=1).tolist()
  assert 0.5 < np.mean(held) < 0.95


def consecutive(notes):
  """Share of the way to the next onset that notes last, and if it is equal."""
  for program in np.unique(notes.program[~notes.is_drum]):
    part = notes[~notes.is_drum & (notes.program == program)]
    gap = np.diff(part.onset)
    apart = gap > 0.05
    yield (
      ((part.offset - part.onset)[:-1][apart] / gap[apart]),
      (np.diff(part.pitch) == 0)[apart],
    )


def test_there_is_legato_and_staccato_and_pitches_are_repeated():
  found = [pair for notes in pieces() for pair in consecutive(notes)]
  lasting, repeated = (
    np.concatenate([pair[i] for pair in found]) for i in range(2)
  )
  assert np.mean(lasting < 0.6) > 0.1
  assert np.mean((lasting > 0.9) & (lasting < 1.1)) > 0.1
  assert 0.05 < np.mean(repeated) < 0.4


def test_timing_is_human_in_some_pieces_and_exact_in_others():
  together, nearly = 0, 0
  for notes in pieces():
    gap = np.diff(notes.onset)
    together += np.mean(gap == 0) > 0.2
    nearly += np.mean((gap > 0) & (gap < 0.01)) > 0.2
  assert together > 0.1 * NUM_PIECES and nearly > 0.1 * NUM_PIECES


def test_there_is_every_key_and_every_tempo():
  rngs = [np.random.default_rng(seed) for seed in range(300)]
  keys = {patterns.Harmony.random(rng, 8).tonic for rng in rngs}
  assert keys == set(range(12))
  tempos = [generator._tempo(rng, 4.0) for rng in rngs]
  assert min(tempos) < 60 and max(tempos) > 165


@pytest.mark.parametrize("density", [0.5, 60.0])
def test_tempo_makes_up_for_very_few_and_very_many_notes_a_beat(density):
  usual, other = (
    np.median(
      [generator._tempo(np.random.default_rng(i), each) for i in range(50)]
    )
    for each in (4.0, density)
  )
  assert (other > usual) == (density < 4)
