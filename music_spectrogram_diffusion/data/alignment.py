"""Does a recording play the notes that it is said to play, and when?

What the notes' onsets should add to the spectrum is laid against what the
audio's spectrum gains from frame to frame (its spectral flux), bin by bin, at
every lag. How well the two agree, and where, tells a pair that fits from one
that is shifted and from one of two different pieces. Rhythm alone would not:
two pieces of the same tempo agree every beat.
"""

import dataclasses

from jaxtyping import Float, Float32, Float64
import numpy as np

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.audio import SpectrogramConfig
from music_spectrogram_diffusion.notes import Notes

# Audio that is analysed at once, so that working memory stays small.
_BLOCK_S = 60.0
_NUM_HARMONICS = 8
# Weight of a drum in every bin, where a pitch's fundamental has 1.
_DRUM_WEIGHT = 0.2
# Deviation of the bell that stands for an onset, and how far it is drawn.
_BLUR_S = 0.02
_REACH_S = 0.08
# An onset at frame position p is in the flux of frame p + this: a frame is
# compared with the one before, and a window sees what is in its middle.
_FLUX_FRAMES = -0.5
# Of each frame's mean over the bins this share is taken off, so that chords
# count by their pitches and drums do not outshout them.
_FLATTENING = 0.7
# Peaks this close to the highest are as good; the one nearest to 0 is taken.
_AS_GOOD = 0.95
# Halves of a piece are looked at for a drift of up to this around its lag,
# which they have kept while the correlation there is this share of their best.
_MAX_DRIFT_S = 1.0
_KEPT = 0.7
_MIN_DRIFT_PIECE_S = 20.0
# Less than this is no gain: silence has none.
_ROUNDING = 1e-6
_CONCERT_A_HZ = 440.0


@dataclasses.dataclass(frozen=True)
class Alignment:
  """How a recording lies to its notes.

  Attributes:
    lag_s: By how much the audio comes after the notes where the two agree
      best, in seconds; below 0 where it comes before them.
    score: Correlation there, from 0 to 1. On soundfont renderings, pieces that
      fit have 0.05 to 0.3 and unrelated ones 0.02, one in twenty over 0.04.
      Any two pieces of drums alone are alike, if their beats are.
    drift_s: Lag of the second half less that of the first; 0 for pieces that
      are too short to tell.
  """

  lag_s: float
  score: float
  drift_s: float


def measure_alignment(
  samples: Float[np.ndarray, " samples"],
  notes: Notes,
  *,
  config: SpectrogramConfig,
  max_lag_s: float = 5.0,
) -> Alignment:
  """Finds the lag at which the audio's onsets are those of the notes.

  Args:
    samples: The recording.
    notes: What it is said to play.
    config: How the audio is analysed. The lag is good to about a frame;
      instruments that swell come out later by as much as they do.
    max_lag_s: Lags are tried up to this, in both directions.

  Returns:
    The best lag; all 0 where the audio has no onsets or there are no notes.
  """
  return align_gains(
    onset_gains(samples, config), notes, config=config, max_lag_s=max_lag_s
  )


def align_gains(
  gains: Float32[np.ndarray, "frames mel_bins"],
  notes: Notes,
  *,
  config: SpectrogramConfig,
  max_lag_s: float = 5.0,
) -> Alignment:
  """Like `measure_alignment`, of what `onset_gains` or `mel_gains` gave."""
  strikes = note_strikes(notes, len(gains), config)
  energy = np.sqrt(np.square(gains).sum() * np.square(strikes).sum())
  if not energy:
    return Alignment(lag_s=0.0, score=0.0, drift_s=0.0)
  rate = config.frame_rate
  max_lag = max(min(round(max_lag_s * rate), len(gains) - 1), 0)
  duration_s = len(gains) / rate
  num_blocks = int(np.ceil(duration_s / _BLOCK_S))
  num_blocks = max(num_blocks, 1 + (duration_s >= _MIN_DRIFT_PIECE_S))
  products = _lagged_products(gains, strikes, max_lag, num_blocks)
  scores = products.sum(axis=0) / energy
  peak = _best_peak(scores)
  if scores[peak] <= 0:
    return Alignment(lag_s=0.0, score=0.0, drift_s=0.0)
  drift = 0.0
  if num_blocks > 1:
    middle = num_blocks // 2
    reach = round(_MAX_DRIFT_S * rate)
    early, late = (
      _nearby_peak(half.sum(axis=0), peak, reach)
      for half in (products[:middle], products[middle:])
    )
    drift = late - early
  return Alignment(
    lag_s=float((_refined(scores, peak) - max_lag) / rate),
    score=float(scores[peak]),
    drift_s=float(drift / rate),
  )


def onset_gains(
  samples: Float[np.ndarray, " samples"], config: SpectrogramConfig
) -> Float32[np.ndarray, "frames mel_bins"]:
  """Spectral flux: what each mel bin gains on the frame before, compressed.

  The square root of the magnitudes is compared, so that soft attacks count
  beside loud ones. Bins have a mean of 0 over time.
  """
  num_frames = config.num_frames(len(samples))
  gains = np.zeros((num_frames, config.n_mels), np.float32)
  block = round(_BLOCK_S * config.frame_rate)
  silence = np.full((1, config.n_mels), config.log_floor, np.float32)
  before = np.sqrt(silence)
  for start in range(0, num_frames, block):
    first = start * config.hop_length
    last = first + block * config.hop_length + config.win_length
    log_mel = audio.log_mel(samples[first:last], config)[:block]
    level = np.exp(0.5 * log_mel)
    gains[start : start + block] = np.diff(
      level[: num_frames - start], axis=0, prepend=before
    )
    before = level[-1:]
  return _flattened(np.maximum(gains - _ROUNDING, 0.0))


def mel_gains(
  log_mel: Float[np.ndarray, "frames mel_bins"],
) -> Float32[np.ndarray, "frames mel_bins"]:
  """What `onset_gains` gives, of a spectrogram; the first frame gains nothing.

  Args:
    log_mel: Any part of a natural-log mel spectrogram.
  """
  level = np.exp(0.5 * log_mel.astype(np.float32))
  gains = np.diff(level, axis=0, prepend=level[:1])
  return _flattened(np.maximum(gains - _ROUNDING, 0.0))


def note_strikes(
  notes: Notes, num_frames: int, config: SpectrogramConfig
) -> Float32[np.ndarray, "frames mel_bins"]:
  """What the onsets of notes should look like among `onset_gains`.

  A bell in time for each onset, at the harmonics of its pitch; drums are in
  all bins alike.
  """
  spectra = np.concatenate(
    [
      _pitch_spectra(config),
      np.full((1, config.n_mels), _DRUM_WEIGHT, np.float32),
    ]
  )
  drum = len(spectra) - 1
  position = notes.onset * config.frame_rate + _FLUX_FRAMES
  reach = round(_REACH_S * config.frame_rate)
  inside = (position > -reach) & (position < num_frames + reach - 1)
  position = position[inside]
  row = np.where(notes.is_drum, drum, notes.pitch)[inside]
  nearest = np.rint(position).astype(np.int64)
  # Rows of margin on both sides, so that every bell is whole.
  margin = 2 * reach
  strikes = np.zeros((num_frames + 2 * margin, config.n_mels), np.float32)
  for step in range(-reach, reach + 1):
    distance_s = (nearest + step - position) / config.frame_rate
    height = np.exp(-0.5 * np.square(distance_s / _BLUR_S)).astype(np.float32)
    np.add.at(strikes, nearest + step + margin, height[:, None] * spectra[row])
  return _flattened(np.sqrt(strikes[margin : margin + num_frames]))


def _flattened(values):
  """Without most of each frame's mean over bins, nor any of a bin's mean."""
  values = values - _FLATTENING * values.mean(axis=1, keepdims=True)
  return values - values.mean(axis=0)


def _pitch_spectra(
  config: SpectrogramConfig,
) -> Float32[np.ndarray, "pitches mel_bins"]:
  """Harmonics of each MIDI pitch in mel bins; harmonic h weighs 1 / h."""

  def hz_to_mel(frequency_hz):
    return 1127.0 * np.log1p(frequency_hz / 700.0)

  low, high = hz_to_mel(config.fmin), hz_to_mel(config.fmax)
  harmonic = np.arange(1, _NUM_HARMONICS + 1)
  pitch_hz = _CONCERT_A_HZ * 2.0 ** ((np.arange(128) - 69) / 12)
  mel = hz_to_mel(pitch_hz[:, None] * harmonic)
  # Bin b peaks at edge b + 1 of n_mels + 2 evenly spaced ones.
  position = (mel - low) / (high - low) * (config.n_mels + 1) - 1
  distance = np.abs(position[..., None] - np.arange(config.n_mels))
  weights = np.maximum(1.0 - distance, 0.0) / harmonic[:, None]
  return weights.sum(axis=1).astype(np.float32)


def _lagged_products(
  gains: Float32[np.ndarray, "frames mel_bins"],
  strikes: Float32[np.ndarray, "frames mel_bins"],
  max_lag: int,
  num_blocks: int,
) -> Float64[np.ndarray, "blocks lags"]:
  """Sums of gains[t] * strikes[t - lag], for consecutive blocks of `gains`.

  Column k is for a lag of k - max_lag frames.
  """
  size = -(-len(gains) // num_blocks)
  margin = np.zeros((max_lag, strikes.shape[1]), np.float32)
  strikes = np.concatenate([margin, strikes, margin])
  n_fft = 1 << (size + 2 * max_lag - 1).bit_length()
  products = np.zeros((num_blocks, 2 * max_lag + 1))
  for index in range(num_blocks):
    start = index * size
    block = gains[start : start + size]
    around = strikes[start : start + len(block) + 2 * max_lag]
    spectrum = np.conj(np.fft.rfft(block, n_fft, axis=0))
    spectrum *= np.fft.rfft(around, n_fft, axis=0)
    # Entry j is for strikes that start j frames into `around`: lag backwards.
    found = np.fft.irfft(spectrum.sum(axis=1), n_fft)[: 2 * max_lag + 1]
    products[index] = found[::-1]
  return products


def _best_peak(scores: Float64[np.ndarray, " lags"]) -> int:
  """The peak nearest to lag 0 of those about as high as the highest."""
  padded = np.pad(scores, 1, constant_values=-np.inf)
  is_peak = (scores >= padded[:-2]) & (scores >= padded[2:])
  good = np.flatnonzero(is_peak & (scores >= _AS_GOOD * scores.max()))
  good = good if len(good) else np.array([np.argmax(scores)])
  return int(good[np.argmin(np.abs(good - len(scores) // 2))])


def _nearby_peak(scores, peak: int, reach: int) -> float:
  """Position of the highest of `scores` around `peak`; it, if not far below."""
  start = max(peak - reach, 0)
  around = scores[start : peak + reach + 1]
  best = start + int(np.argmax(around))
  close = scores[max(peak - 1, 0) : peak + 2].max() >= _KEPT * scores[best]
  return float(peak) if close else _refined(scores, best)


def _refined(scores: Float64[np.ndarray, " lags"], peak: int) -> float:
  """Position of the top of the parabola through a peak and its neighbours."""
  if not 0 < peak < len(scores) - 1:
    return float(peak)
  before, top, after = scores[peak - 1 : peak + 2]
  curvature = before - 2 * top + after
  step = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
  return float(peak + step)
