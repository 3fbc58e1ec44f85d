"""What the drums of a generated piece play, as `patterns` has it."""

from jaxtyping import Float64
import numpy as np

from music_spectrogram_diffusion.data import patterns

_KICKS, _SNARES = (35, 36), (37, 38, 39, 40)
_CYMBALS = (42, 44, 46, 51, 53, 54, 59)
_CRASHES = (49, 52, 55, 57)
_TOMS = (41, 43, 45, 47, 48, 50)
_KIT = tuple(range(35, 60))
_LATIN = tuple(range(35, 82))


def groove(
  rng: np.random.Generator, harmony: patterns.Harmony, low: int, high: int
) -> Float64[np.ndarray, "notes 4"]:
  """A drum kit: kick, backbeat, cymbals, fills; `low` and `high` unused."""
  del low, high
  beats = harmony.beats_per_bar
  kick, snare, cymbal = (
    rng.choice(group) for group in (_KICKS, _SNARES, _CYMBALS)
  )
  pulse = float(rng.choice([0.25, 0.5, 0.5, 0.5, 1.0]))
  kicks = {0.0} | {s for s, _ in patterns.rhythm(rng, beats, 0.5, 0.5)}
  bar_rows = [(start, 1, kick, 5) for start in sorted(kicks)]
  bar_rows += [(float(b), 1, snare, 8) for b in range(1, beats, 2)]
  for i in range(round(beats / pulse)):
    bar_rows.append((i * pulse, 1, cymbal, 4 * (i % 2 == 0) - 4))
  for drum in rng.choice(_KIT, size=rng.integers(0, 3)):
    bar_rows += [
      (s, 1, drum, 0) for s, _ in patterns.rhythm(rng, beats, 1.0, 0.4)
    ]
  period = int(rng.choice([4, 8]))
  rows = []
  for bar in range(len(harmony.roots)):
    fill = bar % period == period - 1 and rng.random() < 0.7
    length = beats - fill * int(rng.choice([1, 1, 2]))
    rows += [
      (bar * beats + s, n, p, a) for s, n, p, a in bar_rows if s < length
    ]
    if fill:
      rows += _fill(rng, bar * beats + length, beats - length)
    if bar % period == 0 and rng.random() < 0.6:
      rows.append((bar * beats, 1, rng.choice(_CRASHES), 10))
  return patterns.as_rows(rows)


def _fill(
  rng: np.random.Generator, start: int, length: int
) -> list[tuple[float, float, int, float]]:
  """A run over the drums, or a roll on one, that grows louder."""
  count = length * int(rng.choice([4, 4, 6, 8]))
  drums = rng.choice(_TOMS + _SNARES, size=count)
  if rng.random() < 0.3:
    drums[:] = drums[0]
  return [
    (start + length * i / count, 1.0, drum, 16 * i / count - 4)
    for i, drum in enumerate(drums.tolist())
  ]


def percussion(
  rng: np.random.Generator, harmony: patterns.Harmony, low: int, high: int
) -> Float64[np.ndarray, "notes 4"]:
  """A few drums of any kind, each on its own rhythm of one bar."""
  del low, high
  beats = harmony.beats_per_bar
  drums = rng.choice(_LATIN if rng.random() < 0.4 else _KIT, size=4)
  rows = []
  for drum in drums[: rng.integers(1, 5)]:
    cells = patterns.rhythm(
      rng, beats, float(rng.choice([0.25, 0.5, 1.0])), 0.3
    )
    for bar in range(len(harmony.roots)):
      rows += [(bar * beats + s, n, drum, 5 * (s == 0)) for s, n in cells]
  return patterns.as_rows(rows)
