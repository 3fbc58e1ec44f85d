"""What of the original an inverter would have to know, in note F1.

  python benchmarks/inverter/oracles.py

Inverters that are told something of the original audio, beside those that are
not. See "What is missing" in README.md.
"""

import argparse
from collections.abc import Callable
import functools

import candidates
import jax
from jax import numpy as jnp
from jaxtyping import Float, Float32
import numpy as np
import quality

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.inverter import griffin_lim, sinusoids, stft

_QUIET = 1e-5
"""Amplitude of a bin without a sinusoid."""


def main():
  arguments = _parse_arguments()
  config = audio.SpectrogramConfig()
  pieces = quality.load_pieces(arguments.pieces, arguments.seconds, config)
  embedded = candidates.build(str(candidates.embedded()))
  played = quality.play(pieces, {"embedded": embedded})
  rng = np.random.default_rng(0)

  def slightly_wrong(deviation):
    return deviation + rng.normal(0.0, 0.1, deviation.shape)

  oracles = {
    "true phases, magnitudes of the mel bins": with_true_phases,
    "true peaks as sinusoids": with_true_peaks,
    "the same, 0.1 bins off": functools.partial(
      with_true_peaks, change=slightly_wrong
    ),
    "the same, at the centres of bins": functools.partial(
      with_true_peaks, change=np.zeros_like
    ),
  }
  for row, oracle in oracles.items():
    played[row] = {
      piece.name: oracle(piece.samples, piece.log_mel, config)
      for piece in pieces
    }
  measured = quality.measure(
    pieces,
    played,
    output=arguments.output,
    python=arguments.transcriber,
    config=config,
  )
  original = quality.mean(measured[quality.ORIGINAL], "note_f1")
  print("|  | log-mel distance, nats | note F1 | of the original's |")
  print("| --- | --- | --- | --- |")
  for row, scores in measured.items():
    f1 = quality.mean(scores, "note_f1")
    distance = quality.mean(scores, "log_mel_distance")
    print(f"| {row} | {distance:.3f} | {f1:.3f} | {f1 / original:.3f} |")


def with_true_phases(
  samples: Float[np.ndarray, " samples"],
  log_mel: Float[np.ndarray, "frames mel_bins"],
  config: audio.SpectrogramConfig,
) -> Float32[np.ndarray, " samples"]:
  """Magnitudes that the mel bins suggest, with the phases of the audio."""
  padded = stft.pad_end(jnp.asarray(samples)[None], config)
  spectrum = np.asarray(stft.stft(padded, config)[0])
  magnitudes = np.asarray(
    griffin_lim.mel_to_linear(jnp.exp(jnp.asarray(log_mel)), config)
  )
  shared = min(len(spectrum), len(magnitudes))
  spectrum = spectrum[:shared]
  turned = spectrum / np.maximum(np.abs(spectrum), 1e-9)
  inverted = stft.inverse_stft(
    jnp.asarray(magnitudes[:shared] * turned), config
  )
  return _fit(np.asarray(inverted), len(samples))


def with_true_peaks(
  samples: Float[np.ndarray, " samples"],
  log_mel: Float[np.ndarray, "frames mel_bins"],
  config: audio.SpectrogramConfig,
  change: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> Float32[np.ndarray, " samples"]:
  """The fast inverter's sinusoids alone, at the peaks of the audio's spectra.

  Args:
    samples: The audio.
    log_mel: Of the audio; its length alone counts.
    config: The features.
    change: What becomes of the frequencies, in bins from the centres.
  """
  magnitude, deviation = peaks(samples, len(log_mel), config)
  is_peak = magnitude > 0
  deviation = np.where(is_peak, change(deviation), 0.0)
  deviation = np.clip(deviation, -sinusoids.FARTHEST, sinusoids.FARTHEST)
  # The height of a lobe where it is cut by its bin.
  height = np.sinc(deviation) / (1 - deviation**2)
  amplitude = np.where(is_peak, magnitude, _QUIET) / height
  nothing = jnp.zeros((1, *magnitude.shape))
  spectra = sinusoids.Spectra(
    log_gain=jnp.log(jnp.asarray(amplitude, jnp.float32))[None],
    deviation=jnp.asarray(deviation, jnp.float32)[None],
    real=nothing,
    imaginary=nothing,
  )
  start = jax.random.uniform(jax.random.key(0), (1, magnitude.shape[1]))
  phases = sinusoids.running_phases(spectra.deviation, start, config)
  drawn = sinusoids.draw(spectra, jnp.ones_like(nothing), phases, config)
  return _fit(np.asarray(drawn)[0], len(samples))


def peaks(
  samples: Float[np.ndarray, " samples"],
  num_frames: int,
  config: audio.SpectrogramConfig,
) -> tuple[Float[np.ndarray, "frames bins"], Float[np.ndarray, "frames bins"]]:
  """Peaks of the spectra under a window as long as the transform.

  Returns:
    Magnitudes, 0 where is no peak; and how far the frequency is from the centre
    of the bin, in bins (Auger and Flandrin 1995, eq. 24).
  """
  before = (config.n_fft - config.win_length) // 2
  power, deviation = (
    np.asarray(x)[0]
    for x in sinusoids.reassigned(
      jnp.pad(jnp.asarray(samples)[None], ((0, 0), (before, 0))),
      num_frames,
      config,
    )
  )
  around = np.pad(power, ((0, 0), (1, 1)))
  is_peak = (power > around[:, :-2]) & (power > around[:, 2:])
  is_peak &= np.abs(deviation) < sinusoids.FARTHEST
  return np.where(is_peak, np.sqrt(power), 0.0), deviation


def _fit(samples, length):
  """Cuts samples, or adds zeros."""
  return np.pad(samples, (0, max(0, length - len(samples))))[:length]


def _parse_arguments():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  quality.add_arguments(parser, seconds=10.0)
  return parser.parse_args()


if __name__ == "__main__":
  main()
