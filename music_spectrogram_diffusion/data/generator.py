"""Procedural pieces: endless, seeded training music for the default model.

A fifth of the pieces are random notes, which teach every pitch of every
instrument; the others have a key, chords, motifs, parts and sections.
"""

from collections.abc import Iterator
import dataclasses

from jaxtyping import Bool, Float64, Int32
import numpy as np

from music_spectrogram_diffusion.data import drum_patterns, patterns
from music_spectrogram_diffusion.notes import Notes, trim_overlaps

GENERATOR_VERSION = 3
"""Goes up whenever a seed gives another piece than before."""

RANGES = {
  0: (28, 96),
  4: (32, 96),
  8: (60, 103),
  16: (36, 96),
  24: (40, 81),
  26: (40, 86),
  29: (34, 86),
  32: (24, 57),
  33: (21, 57),
  40: (55, 100),
  41: (48, 88),
  42: (36, 76),
  43: (28, 57),
  46: (28, 98),
  47: (36, 60),
  48: (32, 92),
  50: (36, 92),
  52: (43, 81),
  55: (48, 76),
  56: (54, 84),
  57: (38, 72),
  58: (28, 58),
  60: (38, 77),
  61: (38, 81),
  64: (49, 81),
  66: (44, 76),
  67: (36, 69),
  68: (58, 91),
  69: (52, 81),
  70: (34, 74),
  71: (50, 91),
  73: (60, 96),
  80: (40, 93),
  88: (40, 88),
}
"""Usual pitches (lowest, highest) of the first program of each Slakh class."""

_WHOLE_RANGE = (21, 108)
MEAN_DURATION_S = 45.0

# Programs that usually take a role; any program takes any role now and then.
_BASS = (32, 33, 33, 43, 58, 70, 67, 57, 80, 0, 47)
_CHORDS = (0, 4, 16, 24, 26, 29, 46, 8, 61, 52, 48, 50, 55)
_PAD = (48, 50, 52, 88, 16, 61, 60, 40, 42, 71)
_ARPEGGIO = (0, 4, 8, 24, 26, 46, 71, 73, 80, 16)
_REPEATED = (47, 48, 40, 42, 0, 24, 56, 16, 33, 80)
_PEDALLED = frozenset({0, 4, 8, 24, 46})
_FASTEST = 176.0  # Beats a minute.
_SOFTEST = 12
_WRITTEN_VELOCITIES = (64, 80, 90, 100, 110, 127)
_LOW_HALF, _HIGH_HALF = (0.0, 0.55), (0.45, 1.0)


@dataclasses.dataclass(frozen=True)
class _Part:
  """A program (None for the drum kit) and what it plays.

  Attributes:
    program: Slakh class program, or None.
    writer: Makes the notes, in beats.
    region: The part of the program's range that is used, as fractions.
  """

  program: int | None
  writer: patterns.Writer
  region: tuple[float, float] = (0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class _Performance:
  """How all parts of a piece are played.

  Attributes:
    beat_times: Time of each beat, in seconds.
    beats_per_bar: Beats in a bar.
    swing: How much later than written the middle of a beat comes, in beats.
    lead_in_s: Silence before the first bar.
    dynamics: Velocity at each beat, above or below each part's level; None
      where every part keeps to one velocity, as scores that were never played.
  """

  beat_times: Float64[np.ndarray, " beats"]
  beats_per_bar: int
  swing: float
  lead_in_s: float
  dynamics: Float64[np.ndarray, " beats"] | None


def generate_piece(seed: int, duration_s: float | None = None) -> Notes:
  """Composes the piece of a seed.

  Args:
    seed: Not negative; different seeds give independent pieces.
    duration_s: Length, in seconds; by default the seed draws 30 to 60.

  Returns:
    Notes of Slakh class programs and drums within `duration_s`, sorted by
    onset, without overlaps of equal notes.
  """
  rng = np.random.default_rng([GENERATOR_VERSION, seed])
  drawn_s = rng.uniform(2 / 3, 4 / 3) * MEAN_DURATION_S
  duration_s = drawn_s if duration_s is None else duration_s
  if rng.random() < 0.2:
    notes = _random_notes(rng, duration_s)
  else:
    notes = _song(rng, duration_s)
  notes = notes[notes.onset < duration_s - 0.02]
  offset = np.minimum(notes.offset, duration_s)
  notes = dataclasses.replace(
    notes, offset=np.maximum(offset, notes.onset + 0.02)
  )
  return trim_overlaps(notes[np.argsort(notes.onset, kind="stable")])


def _random_notes(rng: np.random.Generator, duration_s: float) -> Notes:
  """Notes at random times, of one to four random programs, maybe drums."""
  parts = []
  programs = rng.choice(list(RANGES), size=rng.integers(1, 5), replace=False)
  drums = rng.random() < 0.3
  rate = np.exp(rng.uniform(np.log(2.0), np.log(12.0)))  # Notes a second.
  for program in programs.tolist() + [None] * drums:
    size = max(rng.poisson(rate * duration_s / (len(programs) + drums)), 1)
    onset = rng.uniform(0, duration_s, size)
    if rng.random() < 0.3:  # Chords: several notes begin together.
      onset = rng.choice(onset[: -(-size // 3)], size)
    shortest, longest = np.log(0.06), np.log(rng.choice([0.5, 2.0, 8.0]))
    length = np.exp(rng.uniform(shortest, longest, size))
    if program is None:
      low, high, length = 35, rng.choice([59, 81]), 0.1
    else:
      low, high = RANGES[program] if rng.random() < 0.7 else _WHOLE_RANGE
    parts.append(
      Notes.from_columns(
        onset=onset,
        offset=onset + length,
        pitch=rng.integers(low, high + 1, size),
        velocity=rng.integers(_SOFTEST, 128, size),
        program=program or 0,
        is_drum=program is None,
      )
    )
  return Notes.concatenate(parts)


def _song(rng: np.random.Generator, duration_s: float) -> Notes:
  """A piece with a key, chords, parts and sections."""
  num_bars = int(np.ceil(duration_s * _FASTEST / 60 / 3)) + 1
  harmony = patterns.Harmony.random(rng, num_bars)
  parts = _parts(rng)
  playing = _form(rng, len(parts), num_bars)
  written = [
    (part, rows)
    for part, rows in _write(rng, parts, harmony, playing)
    if len(rows)
  ]
  if not written:
    return _song(rng, duration_s)
  num_beats = num_bars * harmony.beats_per_bar
  density = sum(len(rows) for _, rows in written) / num_beats
  beat_times = _beat_times(rng, num_beats, _tempo(rng, density))
  performance = _Performance(
    beat_times=beat_times,
    beats_per_bar=harmony.beats_per_bar,
    swing=rng.choice([0.0, 0.0, 0.0, 0.08, 0.16]),
    lead_in_s=rng.choice([0.0, 0.0, rng.uniform(0, 3)]),
    dynamics=_dynamics(rng, len(beat_times)) if rng.random() < 0.8 else None,
  )
  return Notes.concatenate(
    [_perform(rng, part, rows, performance) for part, rows in written]
  )


def _write(
  rng: np.random.Generator,
  parts: list[_Part],
  harmony: patterns.Harmony,
  playing: Bool[np.ndarray, "parts bars"],
) -> Iterator[tuple[_Part, Float64[np.ndarray, "notes 4"]]]:
  """Each part with its notes, in beats, of the bars that it plays in."""
  tune = None  # The first melody, for others to double.
  for part, bars in zip(parts, playing, strict=True):
    low, high = _region(rng, part)
    is_melody = part.writer is patterns.melody
    if is_melody and tune is not None and rng.random() < 0.35:
      rows = patterns.doubled(rng, harmony, tune, low, high)
    else:
      rows = part.writer(rng, harmony, low, high)
      tune = rows if is_melody and len(rows) else tune
    bar = np.int64(rows[:, 0] // harmony.beats_per_bar)
    yield part, rows[bars[np.minimum(bar, len(bars) - 1)]]


def _parts(rng: np.random.Generator) -> list[_Part]:
  """Casts a piece: a band, a rock band, an ensemble, a solo or drums alone."""
  kind = rng.choice(
    ["band", "rock", "ensemble", "solo", "drums"],
    p=[0.42, 0.15, 0.18, 0.2, 0.05],
  )
  anyone = list(RANGES)

  def cast(programs):
    return int(rng.choice(anyone if rng.random() < 0.25 else programs))

  groove = rng.choice([drum_patterns.groove] * 3 + [drum_patterns.percussion])
  drums = _Part(None, groove)
  if kind == "drums":
    return [drums, _Part(None, drum_patterns.percussion)]
  if kind == "solo":
    program = int(rng.choice(anyone))
    low = rng.choice(
      [
        patterns.bass,
        patterns.chords,
        patterns.arpeggio,
        patterns.pad,
        patterns.counter_melody,
        patterns.repeated_notes,
      ]
    )
    high = rng.choice([patterns.melody, patterns.melody, patterns.chords])
    if rng.random() < 0.55:
      return [_Part(program, rng.choice([high, low, patterns.melody]))]
    return [_Part(program, low, _LOW_HALF), _Part(program, high, _HIGH_HALF)]
  if kind == "ensemble":
    writers = [patterns.melody, patterns.melody, patterns.melody, patterns.pad]
    writers += [patterns.bass, patterns.arpeggio, patterns.chords]
    writers += [patterns.counter_melody, patterns.repeated_notes]
    programs = rng.choice(anyone, size=rng.integers(2, 7))
    return [_Part(int(p), rng.choice(writers)) for p in programs]
  if kind == "rock":
    parts = [
      drums,
      _Part(cast([33, 33, 32]), patterns.bass),
      _Part(cast([29, 29, 29, 26]), patterns.power_chords, _LOW_HALF),
      _Part(cast([26, 29, 16, 24]), patterns.chords),
      _Part(cast([29, 80, 52, 64, 26]), patterns.melody, _HIGH_HALF),
    ]
    return parts[: rng.integers(3, 6)]
  optional = [
    _Part(cast(_BASS), patterns.bass, (0.0, 0.8)),
    _Part(cast(_CHORDS), patterns.chords),
    _Part(cast(anyone), patterns.melody, _HIGH_HALF),
    _Part(cast(anyone), rng.choice([patterns.melody, patterns.counter_melody])),
    _Part(cast(_PAD), patterns.pad),
    _Part(cast(_ARPEGGIO), patterns.arpeggio),
    _Part(cast(_REPEATED), patterns.repeated_notes),
    drums,
  ]
  weights = np.array([0.16, 0.14, 0.16, 0.09, 0.08, 0.08, 0.05, 0.24])
  size = rng.choice([2, 3, 4, 5, 5, 6])
  chosen = rng.choice(len(optional), size=size, replace=False, p=weights)
  return [optional[i] for i in chosen]


def _region(rng: np.random.Generator, part: _Part) -> tuple[int, int]:
  """Lowest and highest pitch for a part, at least two octaves if possible."""
  if part.program is None:
    return 35, 81
  low, high = RANGES[part.program]
  if rng.random() < 0.08:
    low, high = _WHOLE_RANGE
  start, end = part.region
  width = max(end - start, min(24 / (high - low), 1.0))
  start = min(start, 1 - width)
  return round(low + start * (high - low)), round(
    low + (start + width) * (high - low)
  )


def _tempo(rng: np.random.Generator, density: float) -> float:
  """Beats a minute, for a piece of so many notes a beat."""
  tempo = np.exp(rng.uniform(np.log(54), np.log(_FASTEST)))
  sparsest, densest = rng.uniform(1, 12), rng.uniform(15, 30)  # Notes a second.
  tempo = np.clip(tempo, 60 * sparsest / density, 60 * densest / density)
  return float(min(tempo, _FASTEST))


def _beat_times(
  rng: np.random.Generator, num_beats: int, tempo: float
) -> Float64[np.ndarray, " beats"]:
  """Time of each beat, in seconds, with rubato and maybe a new tempo."""
  seconds = np.full(num_beats, 60 / tempo)
  if rng.random() < 0.3:
    drift = np.cumsum(rng.normal(0, rng.uniform(0.005, 0.03), num_beats))
    seconds *= np.exp(np.clip(drift, -0.3, 0.3))
  if rng.random() < 0.1:
    seconds[rng.integers(num_beats) :] *= rng.uniform(0.7, 1.4)
  return np.concatenate([[0.0], np.cumsum(seconds)])


def _form(
  rng: np.random.Generator, num_parts: int, num_bars: int
) -> Bool[np.ndarray, "parts bars"]:
  """Which part plays in which bar."""
  num_sections = -(-num_bars // 4)
  if rng.random() < 0.3:
    playing = np.ones((num_parts, num_sections), bool)
  else:
    playing = rng.random((num_parts, num_sections)) < 0.82
    playing[rng.integers(num_parts, size=num_sections), range(num_sections)] = 1
  if rng.random() < 0.15:
    playing[:, rng.integers(num_sections)] = False
  bars = np.repeat(playing, 4, axis=1)[:, :num_bars]
  if rng.random() < 0.2:  # Now and then everybody rests for a bar.
    bars = bars & (rng.random(num_bars) > 0.12)
  return bars


def _dynamics(
  rng: np.random.Generator, num_beats: int
) -> Float64[np.ndarray, " beats"]:
  """Swells, steps of loudness, or neither: velocity at each beat."""
  if rng.random() < 0.4:
    return np.zeros(num_beats)
  knots = np.arange(0, num_beats + 16, rng.choice([4, 8, 16]))
  depth = rng.uniform(8, 35)
  heights = depth * rng.uniform(-1, 1, len(knots))
  beats = np.arange(num_beats)
  if rng.random() < 0.3:
    return heights[np.searchsorted(knots, beats, side="right") - 1]
  return np.interp(beats, knots, heights)


def _perform(
  rng: np.random.Generator,
  part: _Part,
  rows: Float64[np.ndarray, "notes 4"],
  performance: _Performance,
) -> Notes:
  """Plays written notes: tempo, swing, articulation, touch and small errors."""
  start, length, pitch, accent = rows.T
  beat_times = performance.beat_times
  beats = np.arange(len(beat_times))

  def seconds(beat):
    return np.interp(beat, beats, beat_times)

  offbeat = np.isclose(start % 1, 0.5)
  onset = seconds(start + performance.swing * offbeat)
  end = seconds(start + length)
  articulation = rng.choice(
    [rng.uniform(0.3, 0.55), rng.uniform(0.6, 0.9), rng.uniform(0.9, 1.04)],
    p=[0.15, 0.35, 0.5],
  )
  if part.writer in (patterns.pad, patterns.counter_melody):
    articulation = rng.uniform(0.9, 1.0)
  touch = rng.uniform(0.95, 1.05, len(rows))
  offset = onset + np.maximum((end - onset) * articulation * touch, 0.05)
  if part.program in _PEDALLED and rng.random() < 0.25:  # Until the next bar.
    bar = performance.beats_per_bar
    offset = np.maximum(offset, seconds((start // bar + 1) * bar) - 0.03)
  jitter_s = rng.choice([0.0, rng.uniform(0.002, 0.018)])
  onset = np.maximum(onset + rng.normal(0, jitter_s, len(rows)), 0)
  lead_in_s = performance.lead_in_s
  return Notes.from_columns(
    onset=onset + lead_in_s,
    offset=np.maximum(offset, onset + 0.03) + lead_in_s,
    pitch=np.int32(pitch),
    velocity=_velocities(rng, start, accent, performance.dynamics),
    program=part.program or 0,
    is_drum=part.program is None,
  )


def _velocities(rng, start, accent, dynamics) -> Int32[np.ndarray, " notes"]:
  """How loud a part's notes are, by their beats and accents."""
  if dynamics is None:
    return np.full(len(start), rng.choice(_WRITTEN_VELOCITIES), np.int32)
  level = rng.uniform(45, 122)
  velocity = level + accent * rng.choice([0.0, 1.0, 2.0])
  velocity += np.interp(start, np.arange(len(dynamics)), dynamics)
  velocity += rng.normal(0, rng.choice([0.0, 2.0, 6.0]), len(start))
  return np.int32(np.clip(velocity, _SOFTEST, 127))
