"""Tones of notes: their harmonics, as loud as a spectrogram says.

A sum of sinusoids at known pitches, as in Serra and Smith 1990 and Engel et al.
2020 (https://arxiv.org/abs/2001.04643). Phases run from each onset, so any
part of a song can be drawn alone; and from the first one's where notes of one
pitch are held together. Pitches are those of equal temperament at 440 Hz.
"""

import itertools

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

# Of a matrix product. Of more, OpenBLAS makes two, whose threads wait for each
# other where the machine has other things to do.
_MOST_ROWS = 16

_MOST_HOPS = 4096  # Of notes that are drawn at once: 5 MB of samples.

_HARMONICS = np.arange(1, _MOST_HARMONICS + 1, dtype=np.uint32)


class NoteTones:
  """Draws the tones of a song's notes.

  Args:
    played: The notes; drums have no tones.
    config: The features of the spectrogram; frames overlap by half.
  """

  def __init__(self, played: notes.Notes, config: audio.SpectrogramConfig):
    pitch_hz = 440.0 * 2.0 ** ((played.pitch - 69.0) / 12.0)
    is_heard = ~played.is_drum & (pitch_hz < 0.5 * config.sample_rate)
    # In the order of pitches, which share the waves of their harmonics.
    order = np.flatnonzero(is_heard)
    order = order[np.lexsort((played.onset[order], played.pitch[order]))]
    played, pitch_hz = played[order], pitch_hz[order]
    self._config = config
    rate = config.sample_rate
    self._onset = np.rint(played.onset * rate).astype(np.int64)
    self._start = self._onset - round(_ATTACK_S * rate)
    self._release = np.rint(played.offset * rate).astype(np.int64)
    self._origin = _origins(played.pitch, self._onset, self._release)
    self._stop = self._release + round(_RELEASE_S * rate)
    # Turns a sample, in whole numbers of 1/2**32: they run over as phases do,
    # and are the same wherever drawing begins.
    self._step = np.rint(pitch_hz / rate * 2**32).astype(np.uint32)
    self._waves = {step: _waves(step, config) for step in set(self._step)}
    harmonic_hz = pitch_hz[:, None] * _HARMONICS
    highest_hz = min(_HIGHEST_HZ, 0.5 * rate)
    # A sinusoid's peak in a spectrum is so many times its amplitude.
    peak = 0.5 * audio.window(config).sum()
    is_drawn = (harmonic_hz <= highest_hz) | (_HARMONICS == 1)
    self._amplitude = (is_drawn / peak).astype(np.float32)
    self._bin = harmonic_hz * config.n_fft / rate
    # Equal phases would make pulses of the tones. Those of a pitch are always
    # the same: notes that are held together do not cancel each other.
    turns = np.random.default_rng(0).random((128, _MOST_HARMONICS))
    self._phase = (turns * 2**32).astype(np.uint32)[played.pitch]

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
    # Of each note, the hops that it touches: rows of all arrays below.
    begin = np.maximum(self._start // hop - first_hop, 0)
    end = np.minimum(-(-self._stop // hop) - first_hop, num_hops)
    drawn = np.flatnonzero(begin < end)
    begin, end = begin[drawn], end[drawn]
    hops = np.zeros((num_hops, hop), np.float32)
    several = max(1, _MOST_HOPS // num_hops)
    for i in range(0, len(drawn), several):
      these = slice(i, i + several)
      self._add(
        hops, drawn[these], begin[these], end[these], magnitude, first_hop
      )
    return hops.ravel()

  def _add(self, hops, drawn, begin, end, magnitude, first_hop):
    """Adds the tones of the notes `drawn` to hops from `begin` to `end`."""
    hop = self._config.hop_length
    last = np.cumsum(end - begin)
    note = np.repeat(drawn, end - begin)
    at = np.arange(len(note)) + np.repeat(end - last, end - begin)
    start = (first_hop + at) * hop - self._onset[note]
    weights = self._weights(note, start, magnitude, at)
    tones = np.empty((len(note), hop), np.float32)
    step = self._step[note]
    for rows in _runs(step, _MOST_ROWS):
      np.matmul(weights[rows], self._waves[step[rows.start]], out=tones[rows])
    self._let_rise(tones, start)
    for target, stop in zip(map(slice, begin, end), last, strict=True):
      hops[target] += tones[stop - (target.stop - target.start) : stop]

  def _weights(self, note, start, magnitude, at):
    """How much of each of `_waves` there is in each hop of a note.

    Args:
      note: Indices of the notes.
      start: Samples from their onsets to the hops.
      magnitude: Of all frames.
      at: Indices of the frames before the hops.
    """
    time = start + self._onset[note] - self._origin[note]
    turns = time.astype(np.uint32) * self._step[note]
    turns = turns[:, None] * _HARMONICS + self._phase[note]
    angle = turns.astype(np.float32) * np.float32(2 * np.pi / 2**32)
    turned = np.concatenate([np.cos(angle), -np.sin(angle)], axis=1)
    bins = self._bin[note]
    now, then = (
      self._amplitude[note]
      * self._falling(note, start + i * self._config.hop_length)
      * _at(magnitude, at + i, bins)
      for i in range(2)
    )
    rise = then - now
    return np.tile(turned, 2) * np.concatenate([now, now, rise, rise], axis=1)

  def _falling(self, note, time):
    """What is left of a note, so many samples after its onset: [notes, 1]."""
    rate = self._config.sample_rate
    length = (self._release - self._onset)[note]
    late = np.maximum(time - length, 0) / rate
    left = np.clip((_RELEASE_S - late) / _FADE_S, 0.0, 1.0)
    return np.float32(np.exp(late / -_DECAY_S) * left)[:, None]

  def _let_rise(self, tones, start):
    """Silences what is before onsets, and lets tones rise to them."""
    early = np.flatnonzero(start < 0)
    time = start[early, None] + np.arange(self._config.hop_length)
    attack = _ATTACK_S * self._config.sample_rate
    tones[early] *= np.clip(1.0 + np.float32(time / attack), 0.0, 1.0)


def _origins(pitch, onset, release):
  """Onsets that the phases of notes run from, in order of pitch and onset.

  One is the note's own, unless others of its pitch are still held. A note that
  is struck again needs the break: without it, its onset is hardly heard.
  """
  apart = pitch.astype(np.int64) * (release.max(initial=0) + 1)
  held_until = np.maximum.accumulate(release + apart)
  is_first = np.ones(len(onset), bool)
  is_first[1:] = (onset + apart)[1:] >= held_until[:-1]
  first = np.maximum.accumulate(np.where(is_first, np.arange(len(onset)), 0))
  return onset[first]


def _waves(step, config):
  """One hop of all harmonics' cosines and sines, level and rising from 0.

  Args:
    step: Turns of the first one in a sample, times 2**32.
    config: The features.

  Returns:
    Array of shape [4 * harmonics, samples].
  """
  time = np.arange(config.hop_length, dtype=np.uint32)
  turns = _HARMONICS[:, None] * (time * step)
  angle = turns * (2 * np.pi / 2**32)
  level = np.concatenate([np.cos(angle), np.sin(angle)])
  rising = level * (time / config.hop_length)
  return np.concatenate([level, rising]).astype(np.float32)


def _at(magnitude, frame, bins):
  """Magnitudes [rows, harmonics] of frames [rows], between their bins."""
  below = np.minimum(bins.astype(np.int64), magnitude.shape[1] - 2)
  part = np.float32(bins - below)
  low, high = (magnitude[frame[:, None], below + i] for i in range(2))
  return low + part * (high - low)


def _runs(values, longest):
  """Slices of equal values that follow each other."""
  edges = np.flatnonzero(np.diff(values)) + 1
  for start, stop in itertools.pairwise([0, *edges, len(values)]):
    for i in range(start, stop, longest):
      yield slice(i, min(i + longest, stop))
