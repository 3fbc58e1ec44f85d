"""Facts about `evaluation.frechet`."""

import io

import numpy as np
import pytest
from scipy import linalg

from music_spectrogram_diffusion.evaluation import frechet

Statistics = frechet.GaussianStatistics


def gaussian(mean, covariance, count=1000):
  """Statistics of `count` embeddings with just this mean and covariance."""
  mean, covariance = np.asarray(mean, float), np.asarray(covariance, float)
  return Statistics(count, mean, covariance * (count - 1))


def textbook(a, b):
  """|m_a - m_b|^2 + tr(A + B - 2 sqrtm(A B)), by SciPy."""
  root = linalg.sqrtm(a.covariance @ b.covariance).real
  spread = np.trace(a.covariance + b.covariance - 2 * root)
  return np.square(a.mean - b.mean).sum() + spread


def random_sets(dims, seed=0):
  """Embeddings of two sets that overlap in part."""
  rng = np.random.default_rng(seed)
  mix = rng.normal(size=(dims, dims))
  a = rng.normal(size=(5 * dims, dims)) @ mix
  other = mix + 0.3 * rng.normal(size=mix.shape)
  b = rng.normal(size=(4 * dims, dims)) @ other + rng.normal(size=dims)
  return a.astype(np.float32), b.astype(np.float32)


def test_the_distance_of_independent_dimensions_is_that_of_their_deviations():
  a = gaussian([1.0, 2.0], np.diag([4.0, 9.0]))
  b = gaussian([4.0, 6.0], np.diag([1.0, 25.0]))
  # Means: 3^2 + 4^2. Deviations: (2 - 1)^2 + (3 - 5)^2.
  np.testing.assert_allclose(frechet.frechet_distance(a, b), 30, rtol=1e-12)


@pytest.mark.parametrize("dims", [1, 2, 17, 64])
def test_the_distance_is_that_of_the_textbook(dims):
  a, b = (Statistics.of(embeddings) for embeddings in random_sets(dims))
  expected = textbook(a, b)
  np.testing.assert_allclose(
    frechet.frechet_distance(a, b), expected, rtol=1e-6
  )
  np.testing.assert_allclose(
    frechet.frechet_distance(b, a), expected, rtol=1e-6
  )


@pytest.mark.filterwarnings("ignore:The .* has 3 embeddings")
def test_sets_that_fill_no_space_keep_an_exact_distance():
  # Deviations of 1 along the first axis, and of 2 along the last: nothing of
  # one is in the other, so that only the traces are left.
  a = Statistics.of(np.array([[-1.0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]))
  b = Statistics.of(np.array([[0, 0, 0, -2.0], [0, 0, 0, 0], [0, 0, 0, 2]]))
  np.testing.assert_allclose(frechet.frechet_distance(a, b), 1 + 4, rtol=1e-12)
  # In one direction they compare as deviations do: (2 - 1)^2.
  c = Statistics.of(2 * np.array([[-1.0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]))
  np.testing.assert_allclose(frechet.frechet_distance(a, c), 1, rtol=1e-12)


def test_the_distance_of_equal_sets_is_zero_and_none_is_negative():
  embeddings, _ = random_sets(32)
  a = Statistics.of(embeddings)
  assert frechet.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
  for scale in (1e-12, 1e-9, 1e-6):
    near = Statistics.of(embeddings * (1 + scale))
    assert 0 <= frechet.frechet_distance(a, near) < 1e-6


def test_statistics_do_not_depend_on_how_embeddings_are_cut(monkeypatch):
  monkeypatch.setattr(frechet, "_BLOCK_EMBEDDINGS", 7)
  # A mean this far out leaves nothing of a sum of squares less one of means.
  embeddings = np.random.default_rng(0).normal(size=(50, 3)) + 1e8
  parts = np.split(embeddings, [0, 1, 20, 20, 41])
  one_by_one = Statistics.empty(3)
  for part in parts:
    one_by_one = one_by_one.update(part)
  merged = Statistics.empty(3)
  for part in reversed(parts):
    merged = Statistics.of(part).merge(merged)
  for statistics in (one_by_one, merged, Statistics.of(embeddings)):
    assert statistics.count == 50
    np.testing.assert_allclose(
      statistics.mean, embeddings.mean(axis=0), rtol=1e-15
    )
    np.testing.assert_allclose(
      statistics.covariance, np.cov(embeddings.T), rtol=1e-6, atol=1e-8
    )


def test_statistics_survive_a_file():
  statistics = Statistics.of(random_sets(4)[0])
  file = io.BytesIO()
  np.savez(file, **statistics.to_arrays())
  file.seek(0)
  back = Statistics.from_arrays(np.load(file))
  assert back.count == statistics.count
  np.testing.assert_array_equal(back.mean, statistics.mean)
  np.testing.assert_array_equal(back.scatter, statistics.scatter)


@pytest.mark.filterwarnings("ignore:The estimate has 2 embeddings")
def test_what_has_no_gaussian_is_named():
  one = Statistics.of(np.ones((1, 3)))
  many = Statistics.of(np.random.default_rng(0).normal(size=(9, 3)))
  with pytest.raises(ValueError, match="two embeddings.*got 1 of the estimate"):
    frechet.frechet_distance(many, one)
  with pytest.raises(ValueError, match="got 0 of the reference"):
    frechet.frechet_distance(Statistics.empty(3), many)
  with pytest.raises(ValueError, match="of 3 dimensions.*got 2"):
    frechet.frechet_distance(many, Statistics.of(np.eye(2)))
  with pytest.raises(ValueError, match="NaN or infinity in number 1 of 3"):
    many.update(np.array([[0.0, 0, 0], [0, np.nan, 0], [np.inf, 0, 0]]))
  with pytest.raises(ValueError, match="of 3 dimensions, got 2"):
    many.update(np.eye(2))
  with pytest.raises(ValueError, match="of 3 dimensions, got 2"):
    many.merge(Statistics.of(np.eye(2)))


def test_fewer_embeddings_than_dimensions_are_warned_of():
  rng = np.random.default_rng(0)
  few, enough = (Statistics.of(rng.normal(size=(n, 8))) for n in (8, 9))
  with pytest.warns(UserWarning, match="estimate has 8 embeddings of 8 dim"):
    frechet.frechet_distance(enough, few)


def songs(num_songs, rng):
  """References and estimates in one dimension, each song with a level."""
  for _ in range(num_songs):
    level, offset = rng.normal(), 0.5 + 0.5 * rng.normal()
    reference = level + 0.3 * rng.normal(size=(20, 1))
    estimate = level + offset + 0.3 * rng.normal(size=(20, 1))
    yield Statistics.of(reference), Statistics.of(estimate)


def distance_of_all(pairs):
  total = [Statistics.empty(1), Statistics.empty(1)]
  for pair in pairs:
    total = [a.merge(b) for a, b in zip(total, pair, strict=True)]
  return frechet.frechet_distance(*total)


def test_an_interval_holds_what_other_songs_would_give():
  rng = np.random.default_rng(0)
  pieces = [list(songs(25, rng)) for _ in range(40)]
  expected = np.mean([distance_of_all(piece) for piece in pieces])
  intervals = [
    frechet.bootstrap(
      iter(piece), num_songs=25, num_resamples=50, confidence=0.9, seed=i
    )
    for i, piece in enumerate(pieces)
  ]
  held = np.mean([one.low <= expected <= one.high for one in intervals])
  # 0.9 with a standard error of 0.05; percentiles of few songs are narrow.
  assert 0.78 <= held <= 0.99


def test_the_bounds_are_distances_of_the_songs_that_can_be_drawn():
  pairs = [
    (gaussian([0.0], [[1.0]]), gaussian([5.0], [[1.0]])),
    (gaussian([1.0], [[1.0]]), gaussian([9.0], [[2.0]])),
  ]
  interval = frechet.bootstrap(pairs, num_songs=2, num_resamples=200)
  # Of two songs, one draw in two is both, and one in four either, twice.
  twice = [pair for pair in pairs for _ in range(2)]
  possible = [distance_of_all(twice[:2]), distance_of_all(twice[2:])]
  possible.append(distance_of_all(pairs))
  width = interval.high - interval.low
  np.testing.assert_allclose(width, np.ptp(possible), rtol=1e-9)


def test_songs_that_are_all_alike_leave_no_doubt():
  (pair,) = songs(1, np.random.default_rng(0))
  interval = frechet.bootstrap([pair] * 50, num_songs=50, num_resamples=10)
  # Repeating a set changes its covariance by next to nothing.
  np.testing.assert_allclose(
    [interval.low, interval.high], distance_of_all([pair] * 50), rtol=1e-6
  )
  assert interval.confidence == 0.95


def test_the_same_seed_gives_the_same_interval():
  pairs = list(songs(5, np.random.default_rng(0)))
  bootstrap = frechet.bootstrap
  assert bootstrap(pairs, num_songs=5) == bootstrap(iter(pairs), num_songs=5)
  assert bootstrap(pairs, num_songs=5) != bootstrap(pairs, num_songs=5, seed=1)


@pytest.mark.filterwarnings("ignore:The .* has .* embeddings")
def test_draws_are_as_exact_as_need_be_where_songs_fill_no_space():
  rng = np.random.default_rng(0)
  pairs = []
  for _ in range(20):  # More than are added at once.
    plane = rng.normal(size=(2, 4, 3)) @ rng.normal(size=(2, 3, 30))
    pairs.append(tuple(Statistics.of(embeddings) for embeddings in plane))
  interval = frechet.bootstrap(pairs, num_songs=20, num_resamples=40)
  total = [Statistics.empty(30), Statistics.empty(30)]
  for pair in pairs:
    total = [a.merge(b) for a, b in zip(total, pair, strict=True)]
  distance = frechet.frechet_distance(*total)
  assert interval.low < distance < interval.high
  # Twelve dimensions at most vary in four songs, and less in a draw of them.
  few = frechet.bootstrap(pairs[:4], num_songs=4, num_resamples=40)
  assert 0 <= few.low < few.high < 10 * distance


def test_songs_without_embeddings_take_part_in_no_gaussian():
  pair = Statistics.empty(1), Statistics.empty(1)
  pairs = [pair, *songs(3, np.random.default_rng(0))]
  interval = frechet.bootstrap(pairs, num_songs=4)
  assert np.isfinite([interval.low, interval.high]).all()
  with pytest.raises(ValueError, match="at least two embeddings in all"):
    frechet.bootstrap([pair] * 3, num_songs=3)


def test_songs_that_are_not_there_are_named():
  pairs = list(songs(3, np.random.default_rng(0)))
  with pytest.raises(ValueError, match="two songs to draw, got 1"):
    frechet.bootstrap(pairs[:1], num_songs=1)
  for wrong in (2, 4):
    with pytest.raises(ValueError, match=f"{wrong} songs to draw.*got 3"):
      frechet.bootstrap(pairs, num_songs=wrong)
