"""Time of the Fréchet distance, beside the textbook's in the same run.

Run as `python benchmarks/evaluation/frechet.py`. Two sets of embeddings become
statistics, and these a distance: ours, a symmetric eigendecomposition, against
np.cov and scipy.linalg.sqrtm of the product, as published implementations have
it. Wall time decides, because both use all cores; CPU time is told too.
"""

import argparse
from collections.abc import Callable, Iterator
import time

import numpy as np
from scipy import linalg

from music_spectrogram_diffusion.evaluation import frechet

Moments = tuple[np.ndarray, np.ndarray]


def random_set(
  num_embeddings: int, dims: int, rng: np.random.Generator
) -> np.ndarray:
  """Float32 embeddings whose dimensions depend on each other."""
  mix = rng.normal(size=(dims, dims)).astype(np.float32) / dims**0.5
  return rng.normal(size=(num_embeddings, dims)).astype(np.float32) @ mix + 1


def fit_textbook(embeddings: np.ndarray) -> Moments:
  """Mean and covariance by NumPy, in float64."""
  embeddings = embeddings.astype(np.float64)
  return embeddings.mean(axis=0), np.cov(embeddings, rowvar=False)


def textbook_distance(a: Moments, b: Moments) -> float:
  """|m_a - m_b|^2 + tr(A + B - 2 sqrtm(A B))."""
  root = linalg.sqrtm(a[1] @ b[1]).real
  return np.square(a[0] - b[0]).sum() + np.trace(a[1] + b[1] - 2 * root)


def timed(function: Callable, *args) -> tuple[object, np.ndarray]:
  """What a call gives, and its wall and CPU seconds."""
  wall, cpu = time.perf_counter(), time.process_time()
  result = function(*args)
  return result, np.array(
    [time.perf_counter() - wall, time.process_time() - cpu]
  )


def measure(
  sets: list[np.ndarray], repeats: int
) -> Iterator[tuple[str, float, np.ndarray, np.ndarray]]:
  """Yields name, distance, and fastest seconds of fitting and of comparing."""
  ways = {
    "ours": (frechet.GaussianStatistics.of, frechet.frechet_distance),
    "cov + sqrtm": (fit_textbook, textbook_distance),
  }
  times = {way: [] for way in ways}
  distances = {}
  # In turns, so that whatever else the machine does is shared.
  for _ in range(repeats):
    for way, (fit, distance) in ways.items():
      fitted, fit_time = timed(lambda fit=fit: [fit(one) for one in sets])
      distances[way], distance_time = timed(distance, *fitted)
      times[way].append((fit_time, distance_time))
  for way in ways:
    fit_time, distance_time = min(times[way], key=lambda pair: sum(pair)[0])
    yield way, distances[way], fit_time, distance_time


def bootstrap_time(embeddings: list[np.ndarray], num_songs: int) -> float:
  """Wall seconds of an interval over songs of equal length."""
  songs = [
    [
      frechet.GaussianStatistics.of(part)
      for part in np.array_split(one, num_songs)
    ]
    for one in embeddings
  ]
  pairs = zip(*songs, strict=True)
  _, seconds = timed(lambda: frechet.bootstrap(pairs, num_songs=num_songs))
  return seconds[0]


def main():
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("--embeddings", type=int, default=100_000)
  parser.add_argument(
    "--dims", type=int, nargs="*", default=[128, 512], help="VGGish, TRILL"
  )
  parser.add_argument("--songs", type=int, default=200)
  parser.add_argument("--repeats", type=int, default=3)
  arguments = parser.parse_args()
  rng = np.random.default_rng(0)
  print(f"Two sets of {arguments.embeddings} embeddings each, float32.")
  for dims in arguments.dims:
    sets = [random_set(arguments.embeddings, dims, rng) for _ in range(2)]
    print(f"\n{dims} dimensions")
    print(f"{'':12} {'fit s':>8} {'distance s':>11} {'all s':>7} {'CPU s':>7}")
    for way, distance, fit, compare in measure(sets, arguments.repeats):
      total = fit + compare
      print(
        f"{way:12} {fit[0]:8.3f} {compare[0]:11.4f} {total[0]:7.3f}"
        f" {total[1]:7.3f}  distance {distance:.9f}",
        flush=True,
      )
    seconds = bootstrap_time(sets, arguments.songs)
    print(f"bootstrap of {arguments.songs} songs, 200 draws: {seconds:.2f} s")


if __name__ == "__main__":
  main()
