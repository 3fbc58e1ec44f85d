"""Whether drums hit: onsets heard in the drums alone against those asked for.

The detector is spectral flux, after Bello et al. 2005 and Böck et al. 2012:
where the compressed mel spectrum rises, in sum over its bins, more than in the
surroundings. Its settings were chosen on the soundfont's audio alone.
"""

import dataclasses

from jaxtyping import Float, Float64
from mir_eval import onset as onsets
import numpy as np

from music_spectrogram_diffusion import audio, notes

TOLERANCE_S = 0.05
"""How far from where it belongs an onset is still right."""

# Hits of several drums that are as close are one onset to the ear.
_UNISON_S = 0.03

_HOP_S = 0.01
_WINDOW_S = 0.04
_LAG_FRAMES = 2  # What a rise is measured over, so that windows hardly overlap.
_COMPRESSION = 100.0  # Magnitudes far below its inverse count linearly.
_PEAK_S = 0.03  # A peak is the highest as far around.
_SURROUNDINGS_S = 0.1
_THRESHOLD = 0.1


@dataclasses.dataclass(frozen=True)
class OnsetScore:
  """How many of the onsets were heard.

  Attributes:
    f1: Harmonic mean of precision and recall.
    asked: Onsets of the notes.
    heard: Onsets that the detector finds.
  """

  f1: float
  asked: int
  heard: int


def score(
  drums: notes.Notes,
  samples: Float[np.ndarray, " samples"],
  config: audio.SpectrogramConfig,
) -> OnsetScore:
  """Compares what is heard in the audio of drums with their notes."""
  asked = hits(drums)
  asked = asked[asked < len(samples) / config.sample_rate]
  heard = find_onsets(samples, config)
  f1 = 0.0
  if len(asked) and len(heard):
    f1, *_ = onsets.f_measure(asked, heard, window=TOLERANCE_S)
  return OnsetScore(float(f1), len(asked), len(heard))


def hits(drums: notes.Notes) -> Float64[np.ndarray, " onsets"]:
  """Onsets of drum notes in seconds; those that are one to the ear, once."""
  kept = []
  for onset in np.sort(drums.onset).tolist():
    if not kept or onset - kept[-1] > _UNISON_S:
      kept.append(onset)
  return np.array(kept)


def find_onsets(
  samples: Float[np.ndarray, " samples"], config: audio.SpectrogramConfig
) -> Float64[np.ndarray, " onsets"]:
  """Onsets in audio, in seconds from its start."""
  flux = spectral_flux(samples, config)
  peak = _windows(flux, round(_PEAK_S / _HOP_S)).max(axis=1)
  mean = _windows(flux, round(_SURROUNDINGS_S / _HOP_S)).mean(axis=1)
  frames = np.flatnonzero((flux == peak) & (flux > mean + _THRESHOLD))
  # It rises most when a hit is in the middle of the window.
  return _apart(frames * _HOP_S + _WINDOW_S / 2)


def spectral_flux(
  samples: Float[np.ndarray, " samples"], config: audio.SpectrogramConfig
) -> Float[np.ndarray, " frames"]:
  """How much the spectrum rises, every 10 ms; the start rises from silence."""
  rate = config.sample_rate
  fine = dataclasses.replace(
    config,
    hop_length=round(_HOP_S * rate),
    win_length=round(_WINDOW_S * rate),
  )
  # What begins with the audio is to rise too.
  lead = np.zeros(_LAG_FRAMES * fine.hop_length, samples.dtype)
  log_mel = audio.log_mel(np.concatenate([lead, samples]), fine)
  # Where audio ends all of a sudden, nothing begins.
  whole = (
    _LAG_FRAMES + max(0, len(samples) - fine.win_length) // fine.hop_length
  )
  level = np.log1p(_COMPRESSION * np.exp(log_mel[: whole + 1]))
  rise = level[_LAG_FRAMES:] - level[:-_LAG_FRAMES]
  return np.maximum(rise, 0.0).mean(axis=1)


def _windows(flux, radius):
  """[frames, 2 * radius + 1]: each frame's surroundings, zeros beyond."""
  padded = np.pad(flux, radius)
  return np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1)


def _apart(times):
  """Leaves out what follows another closer than a peak is wide: a plateau."""
  if not len(times):
    return times
  return times[np.insert(np.diff(times) > _PEAK_S, 0, True)]
