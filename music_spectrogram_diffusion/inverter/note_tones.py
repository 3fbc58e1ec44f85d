"""Tones of notes: their harmonics, as loud as a spectrogram says.

A sum of sinusoids at known pitches, as in Serra and Smith 1990 and Engel et al.
2020 (https://arxiv.org/abs/2001.04643), by wavetables. Phases run from each
onset, so any part of a song can be drawn alone. Pitches are those of equal
temperament at 440 Hz.
"""

from jaxtyping import Float, Float32
import numpy as np

from music_spectrogram_diffusion import audio, notes

# Found on held-out pieces: with higher harmonics, audio is farther from the
# original. benchmarks/inverter has the table.
_MOST_HARMONICS = 12
_HIGHEST_HZ = 3000.0

_ATTACK_S = 0.005  # Before the onset; the spectrogram says how it begins.
# What sounds on after the offset steps back behind others, to 1/e in this time,
_DECAY_S = 0.1
_RELEASE_S = 0.5  # and ends,
_FADE_S = 0.1  # without a click.

_TABLE_BITS = 9
_TABLE_SIZE = 2**_TABLE_BITS
_WITHIN_MASK = np.uint32(2 ** (32 - _TABLE_BITS) - 1)


class NoteTones:
  """Draws the tones of a song's notes.

  Args:
    played: The notes; drums have no tones.
    config: The features of the spectrogram; frames overlap by half.
  """

  def __init__(self, played: notes.Notes, config: audio.SpectrogramConfig):
    pitch_hz = 440.0 * 2.0 ** ((played.pitch - 69.0) / 12.0)
    is_heard = ~played.is_drum & (pitch_hz < 0.5 * config.sample_rate)
    played, self._pitch_hz = played[is_heard], pitch_hz[is_heard]
    self._config = config
    rate = config.sample_rate
    self._onset = np.rint(played.onset * rate).astype(np.int64)
    self._start = self._onset - round(_ATTACK_S * rate)
    self._release = np.rint(played.offset * rate).astype(np.int64)
    self._stop = self._release + round(_RELEASE_S * rate)
    # A sinusoid's peak in a spectrum is so many times its amplitude.
    self._peak = np.float32(0.5 * audio.window(config).sum())
    # In turns. Equal phases would make pulses of the tones.
    shape = len(self._onset), _MOST_HARMONICS
    self._phase = np.random.default_rng(0).random(shape)

  def __len__(self) -> int:
    """How many notes have tones."""
    return len(self._onset)

  def draw(
    self,
    magnitude: Float[np.ndarray, "frames bins"],
    first_frame: int,
  ) -> Float32[np.ndarray, " samples"]:
    """Draws the samples between the centres of frames.

    Harmonics are as loud as sinusoids of such magnitudes. Between two frames,
    one goes in a straight line from what one has at its frequency to what the
    other has.

    Args:
      magnitude: Linear magnitudes, of consecutive frames, 2 at least.
      first_frame: Where the first one lies in the song; may be negative.

    Returns:
      A hop less than there are frames, from the centre of the first one on,
      which is the beginning of the hop after it.
    """
    hop = self._config.hop_length
    first_hop = first_frame + 1
    num_hops = len(magnitude) - 1
    # Of each note, the hops that it touches.
    begin = np.maximum(self._start // hop - first_hop, 0)
    end = np.minimum(-(-self._stop // hop) - first_hop, num_hops)
    hops = np.zeros((num_hops, hop), np.float32)
    for note in np.flatnonzero(begin < end):
      part = slice(begin[note], end[note])
      tone = self._draw_note(
        note, magnitude[part.start : part.stop + 1], first_hop + part.start
      )
      hops[part] += tone
    return hops.ravel()

  def _draw_note(self, note, magnitude, first_hop):
    """A note's samples [hops, samples of a hop], between two frames each."""
    config = self._config
    pitch_hz = self._pitch_hz[note]
    highest_hz = min(_HIGHEST_HZ, 0.5 * config.sample_rate)
    number = int(np.clip(highest_hz // pitch_hz, 1, _MOST_HARMONICS))
    harmonics = np.arange(1, number + 1)
    bins = harmonics * pitch_hz * config.n_fft / config.sample_rate
    waves = _waves(harmonics, self._phase[note, :number])
    tables = (_at(magnitude, bins) / self._peak) @ waves

    # The place in a period, in whole numbers of 1/2**32: they run over as
    # phases do, and are the same wherever drawing begins.
    num_hops, hop = len(magnitude) - 1, config.hop_length
    step = np.uint32(round(pitch_hz / config.sample_rate * 2**32))
    start = first_hop * hop - int(self._onset[note])
    turns = np.arange(num_hops * hop, dtype=np.uint32) * step
    turns += np.uint32(start * int(step) % 2**32)
    turns = turns.reshape(num_hops, hop)
    column = turns >> np.uint32(32 - _TABLE_BITS)
    place = (turns & _WITHIN_MASK).astype(np.float32) * np.float32(
      2.0 ** (_TABLE_BITS - 32)
    )
    width = tables.shape[1]
    row = np.arange(num_hops, dtype=np.uint32)[:, None] * np.uint32(width)
    index = (row + column).astype(np.intp)
    flat = tables.ravel()

    def look_up(index):
      value = flat[index]
      return value + place * (flat[index + 1] - value)

    now, then = look_up(index), look_up(index + width)
    tone = now + (np.arange(hop, dtype=np.float32) / hop) * (then - now)
    self._shape(note, tone.ravel(), first_hop * hop)
    return tone

  def _shape(self, note, tone, start):
    """Lets a tone rise before the onset, and fall after the offset."""
    onset, release = self._onset[note] - start, self._release[note] - start
    if onset > 0:
      attack = self._onset[note] - self._start[note]
      times = np.arange(min(onset, len(tone)), dtype=np.float32)
      tone[: len(times)] *= np.maximum((times - (onset - attack)) / attack, 0.0)
    first = max(release, 0)
    if first < len(tone):
      times = np.arange(first - release, len(tone) - release, dtype=np.float32)
      decay = np.float32(-1.0 / (_DECAY_S * self._config.sample_rate))
      fade = np.float32(1.0 / (_FADE_S * self._config.sample_rate))
      left = (self._stop[note] - self._release[note] - times) * fade
      tone[first:] *= np.exp(times * decay) * np.clip(left, 0.0, 1.0)


def _at(magnitude, places):
  """Magnitudes [frames, harmonics] between bins of the transform."""
  below = np.minimum(places.astype(np.int64), magnitude.shape[1] - 2)
  part = places - below
  low, high = magnitude[:, below], magnitude[:, below + 1]
  return ((1.0 - part) * low + part * high).astype(np.float32)


def _waves(harmonics, phase):
  """One period of each harmonic, and its first sample once more."""
  turns = np.arange(_TABLE_SIZE + 1) / _TABLE_SIZE
  angle = 2.0 * np.pi * (harmonics[:, None] * turns + phase[:, None])
  return np.cos(angle.astype(np.float32))
