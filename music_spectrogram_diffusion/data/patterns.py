"""What one part of a generated piece plays: melodies, chords, basses, pads.

A writer returns an array [notes, 4] of (start, length, pitch, accent): start
and length in beats, accent in MIDI velocity steps around the part's level.
"""

from collections.abc import Callable
import dataclasses

from jaxtyping import Float64
import numpy as np

SCALES = (
  (0, 2, 4, 5, 7, 9, 11),
  (0, 2, 3, 5, 7, 8, 10),
  (0, 2, 3, 5, 7, 8, 11),
  (0, 2, 3, 5, 7, 9, 10),
  (0, 2, 4, 5, 7, 9, 10),
)
_PROGRESSIONS = (
  (0, 4, 5, 3),
  (0, 3, 4, 0),
  (5, 3, 0, 4),
  (0, 5, 1, 4),
  (1, 4, 0, 0),
  (0, 0, 3, 4),
  (0, 6, 3, 0),
)


@dataclasses.dataclass(frozen=True)
class Harmony:
  """The chords under a piece, one a bar.

  Attributes:
    tonic: Pitch class of the key, 0 to 11.
    scale: Seven semitone offsets of the scale from the tonic.
    roots: Scale degree (0 to 6) of the root of each bar's chord.
    chord_size: Notes of a chord, stacked in thirds.
    beats_per_bar: Beats in a bar.
  """

  tonic: int
  scale: tuple[int, ...]
  roots: tuple[int, ...]
  chord_size: int
  beats_per_bar: int

  @classmethod
  def random(cls, rng: np.random.Generator, num_bars: int) -> "Harmony":
    """Draws a key and a progression that repeats, now and then changing."""
    loops = [
      rng.integers(7, size=4)
      if rng.random() < 0.25
      else np.array(_PROGRESSIONS[rng.integers(len(_PROGRESSIONS))])
      for _ in range(2)
    ]
    form = rng.permutation([0, 0, 0, 1]) if num_bars > 8 else [0]
    roots = [r for i in range(num_bars) for r in loops[form[i % len(form)]]]
    return cls(
      tonic=int(rng.integers(12)),
      scale=SCALES[rng.integers(len(SCALES))],
      roots=tuple(int(root) for root in roots[:num_bars]),
      chord_size=int(rng.choice([3, 3, 3, 4])),
      beats_per_bar=int(rng.choice([4, 4, 4, 3])),
    )

  def scale_pitches(self, low: int, high: int) -> list[int]:
    """Pitches of the key from `low` to `high`, both included."""
    classes = {(self.tonic + step) % 12 for step in self.scale}
    return [pitch for pitch in range(low, high + 1) if pitch % 12 in classes]

  def chord_classes(self, bar: int) -> list[int]:
    """Pitch classes of a bar's chord, the root first."""
    degrees = self.roots[bar] + 2 * np.arange(self.chord_size)
    return [(self.tonic + self.scale[d % 7]) % 12 for d in degrees]

  def chord_pitches(self, bar: int, low: int, high: int) -> list[int]:
    """Pitches of a bar's chord from `low` to `high`, both included."""
    classes = self.chord_classes(bar)
    return [pitch for pitch in range(low, high + 1) if pitch % 12 in classes]

  def bass_pitch(self, bar: int, low: int, degree: int = 0) -> int:
    """The lowest pitch not below `low` of a bar's chord note."""
    return low + (self.chord_classes(bar)[degree] - low) % 12


Writer = Callable[
  [np.random.Generator, Harmony, int, int], Float64[np.ndarray, "notes 4"]
]


def rhythm(
  rng: np.random.Generator, beats: int, shortest: float, rest: float = 0.1
) -> list[tuple[float, float]]:
  """Draws a bar as (start, length) cells, by splitting it again and again.

  Args:
    rng: Source of randomness.
    beats: Length of the bar, in beats.
    shortest: Where most of the splitting ends, in beats.
    rest: Probability that a cell is silent.
  """

  def split(start, length):
    if length <= shortest / 2 or rng.random() < 0.5 * (length <= shortest):
      return [(start, length)]
    if length <= 1.5 * shortest and rng.random() < 0.6:
      return [(start, length)]
    if length == 3 or (length == 1 and rng.random() < 0.06):
      thirds = rng.random() < 0.6 or length == 1
      parts = [length / 3] * 3 if thirds else [2.0, 1.0]
    elif rng.random() < 0.15:
      parts = [0.75 * length, 0.25 * length]
    else:
      parts = [length / 2] * 2
    cells = []
    for part in parts:
      cells += split(start, part)
      start += part
    return cells

  return [cell for cell in split(0.0, float(beats)) if rng.random() >= rest]


def melody(
  rng: np.random.Generator, harmony: Harmony, low: int, high: int
) -> Float64[np.ndarray, "notes 4"]:
  """A line that walks the scale, on a motif that returns with variations."""
  pitches = harmony.scale_pitches(low, high)
  shortest = rng.choice([0.25, 0.5, 0.5, 0.5, 1.0, 1.0, 2.0])
  rest = rng.choice([0.0, 0.1, 0.25])
  repeats = rng.choice([0.05, 0.1, 0.6])  # How often a pitch is struck again.
  leaps = rng.choice([0.05, 0.2])
  motifs = [rhythm(rng, harmony.beats_per_bar, shortest, rest) for _ in "ab"]
  steps = [rng.integers(-2, 3, size=64) for _ in motifs]
  place = rng.integers(len(pitches))
  rows = []
  for bar in range(len(harmony.roots)):
    motif = bar % 2 if rng.random() < 0.8 else rng.integers(2)
    cells = motifs[motif]
    if rng.random() < 0.2:
      cells = rhythm(rng, harmony.beats_per_bar, shortest, rest)
    chord = harmony.chord_classes(bar)
    for i, (start, length) in enumerate(cells):
      step = 0 if rng.random() < repeats else steps[motif][i % 64]
      if rng.random() < leaps:
        step = rng.integers(-7, 8)
      place = int(np.clip(place + step, 0, len(pitches) - 1))
      if place in (0, len(pitches) - 1) and rng.random() < 0.7:
        place = rng.integers(len(pitches))
      if start % 2 == 0:  # Strong beats lean on the chord.
        near = range(max(place - 2, 0), min(place + 3, len(pitches)))
        tones = [k for k in near if pitches[k] % 12 in chord]
        place = min(tones, key=lambda k: abs(k - place), default=place)
      accent = 6.0 if start % 2 == 0 else rng.normal(0, 4)
      beat = bar * harmony.beats_per_bar + start
      rows.append((beat, length, pitches[place], accent))
  return as_rows(rows)


def bass(
  rng: np.random.Generator, harmony: Harmony, low: int, high: int
) -> Float64[np.ndarray, "notes 4"]:
  """Roots and fifths: held, walking, in octaves, or pumped in eighths."""
  beats = harmony.beats_per_bar
  pump = [(i * 0.5, 0.5) for i in range(2 * beats)]
  walk = [(float(i), 1.0) for i in range(beats)]
  own = rhythm(rng, beats, float(rng.choice([0.5, 1.0])))
  cells = [pump, walk, own, own, [(0.0, float(beats))]][rng.integers(5)]
  choices = [[0], [0, 0, 2], [0, 1, 2]][rng.integers(3)]
  octaves = rng.choice([0.0, 0.3])
  low += int(rng.integers(0, max(min(10, high - low - 12), 1)))
  rows = []
  for bar in range(len(harmony.roots)):
    for start, length in cells:
      degree = 0 if start == 0 else int(rng.choice(choices))
      pitch = harmony.bass_pitch(bar, low, degree)
      if rng.random() < octaves and pitch + 12 <= high:
        pitch += 12
      rows.append((bar * beats + start, length, pitch, 5.0 * (start == 0)))
  return as_rows(rows)


def _voicing(rng, harmony, bar, low, high, center) -> list[int]:
  """Three to five neighbouring chord notes about a centre pitch."""
  pitches = harmony.chord_pitches(bar, low, high)
  pitches.sort(key=lambda pitch: abs(pitch - center))
  return sorted(pitches[: harmony.chord_size + rng.integers(0, 2)])


def chords(
  rng: np.random.Generator, harmony: Harmony, low: int, high: int
) -> Float64[np.ndarray, "notes 4"]:
  """Chords on a rhythm of one bar; some are strummed."""
  beats = harmony.beats_per_bar
  cells = rhythm(rng, beats, float(rng.choice([0.5, 1.0, 1.0, 2.0, 4.0])), 0.2)
  strum = rng.choice([0.0, 0.0, 0.02, 0.05])  # Beats from string to string.
  center = rng.integers(low + 3, max(high - 3, low + 4))
  rows = []
  for bar in range(len(harmony.roots)):
    voices = _voicing(rng, harmony, bar, low, high, center)
    for start, length in cells:
      for i, pitch in enumerate(voices):
        late = i * min(strum, length / 8)
        beat = bar * beats + start + late
        rows.append((beat, length - late, pitch, 4.0 * (start == 0)))
  return as_rows(rows)


def power_chords(
  rng: np.random.Generator, harmony: Harmony, low: int, high: int
) -> Float64[np.ndarray, "notes 4"]:
  """Root, fifth and octave in driving rhythms: dense rock."""
  beats = harmony.beats_per_bar
  eighths = [(i * 0.5, 0.5) for i in range(2 * beats)]
  own = rhythm(rng, beats, float(rng.choice([0.25, 0.5])), 0.15)
  cells = eighths if rng.random() < 0.4 else own
  rows = []
  for bar in range(len(harmony.roots)):
    root = harmony.bass_pitch(bar, low)
    for start, length in cells:
      for interval in (0, 7, 12)[: rng.integers(2, 4)]:
        pitch = min(root + interval, high)
        rows.append((bar * beats + start, length, pitch, 6.0 * (start == 0)))
  return as_rows(rows)


def pad(
  rng: np.random.Generator, harmony: Harmony, low: int, high: int
) -> Float64[np.ndarray, "notes 4"]:
  """Held chords whose common notes are tied over the bars."""
  beats = harmony.beats_per_bar
  center = rng.integers(low + 3, max(high - 3, low + 4))
  hold = int(rng.choice([1, 1, 2, 4]))  # Bars to a chord.
  tied = rng.random() < 0.6
  rows, sounding = [], {}
  for bar in range(0, len(harmony.roots), hold):
    length = beats * min(hold, len(harmony.roots) - bar)
    now = {}
    for pitch in _voicing(rng, harmony, bar, low, high, center):
      if tied and pitch in sounding:
        now[pitch] = sounding[pitch]
        rows[now[pitch]][1] += length
      else:
        now[pitch] = len(rows)
        rows.append([bar * beats, length, pitch, 0.0])
    sounding = now
  return as_rows(rows)


def arpeggio(
  rng: np.random.Generator, harmony: Harmony, low: int, high: int
) -> Float64[np.ndarray, "notes 4"]:
  """Broken chords, up, down, up and down or in any order."""
  beats = harmony.beats_per_bar
  step = float(rng.choice([0.25, 0.5, 0.5, 0.5, 1 / 3, 1 / 3, 1.0]))
  ring = rng.choice([1.0, 1.0, 2.0, 4.0])  # Steps that a note sounds.
  span = int(rng.choice([12, 19, 24]))
  low = int(rng.integers(low, max(high - span, low) + 1))
  order = rng.integers(4)
  rows = []
  for bar in range(len(harmony.roots)):
    pitches = harmony.chord_pitches(bar, low, min(low + span, high))
    turns = [pitches, pitches[::-1], pitches + pitches[-2:0:-1]]
    turns.append(rng.permutation(pitches).tolist())
    cycle = turns[order]
    for i in range(round(beats / step)):
      beat = bar * beats + i * step
      rows.append((beat, ring * step, cycle[i % len(cycle)], 6.0 * (i == 0)))
  return as_rows(rows)


def counter_melody(
  rng: np.random.Generator, harmony: Harmony, low: int, high: int
) -> Float64[np.ndarray, "notes 4"]:
  """A slow second line through the chords, off the strong beats, with ties.

  It turns about and takes the next chord note on its way, at times by a
  passing note; where the note it has belongs to the next chord, it may be held.
  """
  beats = float(harmony.beats_per_bar)
  entries = ((0.5, beats), (1.0, beats), (0.0, beats / 2), (1.0, 2.0))
  entry, turn = entries[rng.integers(len(entries))]
  turns, holds = rng.choice([0.2, 0.5]), rng.choice([0.1, 0.5])
  scale = harmony.scale_pitches(low, high)
  pitch = scale[rng.integers(len(scale))]
  direction = rng.choice([-1, 1])
  rows = []
  for bar in range(len(harmony.roots)):
    for start, end in ((entry, turn), (turn, beats)):
      if end <= start:
        continue
      if rng.random() < turns:
        direction = -direction
      tones = harmony.chord_pitches(bar, low, high)
      if pitch in tones and rows and rng.random() < holds:
        rows[-1][1] = bar * beats + end - rows[-1][0]
        continue
      onward = [tone for tone in tones if (tone - pitch) * direction > 0]
      if not onward:
        direction = -direction
      onward = onward or [tone for tone in tones if tone != pitch] or tones
      before = pitch
      pitch = min(onward, key=lambda tone: abs(tone - before))
      rows.append([bar * beats + start, end - start, pitch, 0.0])
      passing = [
        p for p in scale if min(before, pitch) < p < max(before, pitch)
      ]
      if passing and end - start >= 2 and rng.random() < 0.3:
        rows[-1][1] -= 1.0
        last = passing[rng.integers(len(passing))]
        rows.append([bar * beats + end - 1, 1.0, last, -3.0])
  return as_rows(rows)


def repeated_notes(
  rng: np.random.Generator, harmony: Harmony, low: int, high: int
) -> Float64[np.ndarray, "notes 4"]:
  """One to three chord notes struck again and again: pulses, tremolos."""
  beats = harmony.beats_per_bar
  step = float(rng.choice([0.25, 1 / 3, 0.5, 0.5, 0.5]))
  size = int(rng.choice([1, 1, 1, 2, 3]))
  rest = rng.choice([0.0, 0.0, 0.3])  # Share of beats that are silent.
  center = rng.integers(low, high + 1)
  rows = []
  for bar in range(len(harmony.roots)):
    voices = _voicing(rng, harmony, bar, low, high, center)[:size]
    sounding = rng.random(beats) >= rest
    for i in range(round(beats / step)):
      beat = i * step
      if sounding[int(beat + 1e-6)]:
        accent = 6.0 * (abs(beat - round(beat)) < 1e-6) - 3
        for pitch in voices:
          rows.append((bar * beats + beat, step, pitch, accent))
  return as_rows(rows)


def doubled(
  rng: np.random.Generator,
  harmony: Harmony,
  tune: Float64[np.ndarray, "notes 4"],
  low: int,
  high: int,
) -> Float64[np.ndarray, "kept 4"]:
  """Another part's notes: in unison or octaves, thirds or sixths, or later.

  Args:
    rng: Source of randomness.
    harmony: The chords.
    tune: What the other part plays.
    low: Lowest pitch; what is below is left out, after moving all by octaves.
    high: Highest pitch, likewise.
  """
  start, length, pitch, accent = tune.T
  scale = np.array(harmony.scale_pitches(0, 127))
  steps = int(rng.choice([0, 0, 2, 5]))  # Down the scale.
  place = np.searchsorted(scale, pitch).clip(steps, len(scale) - 1)
  pitch = scale[place - steps] if steps else pitch
  octaves = np.rint(((low + high) / 2 - np.median(pitch)) / 12)
  pitch = pitch + 12 * octaves
  late = float(rng.choice([0, 0, 0, 1])) * harmony.beats_per_bar
  rows = np.stack([start + late, length, pitch, accent], axis=1)
  ends = len(harmony.roots) * harmony.beats_per_bar
  return rows[(pitch >= low) & (pitch <= high) & (rows[:, 0] < ends)]


def as_rows(rows: list) -> Float64[np.ndarray, "notes 4"]:
  """Notes of a list, which may be empty, as an array."""
  return np.array(rows, np.float64).reshape(-1, 4)
