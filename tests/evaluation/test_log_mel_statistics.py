"""Facts about `evaluation.log_mel_statistics`."""

import functools

import numpy as np
import pytest
from scipy import signal

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.evaluation import (
  distances,
  frechet,
  log_mel_statistics,
)

CONFIG = audio.SpectrogramConfig()
RATE = CONFIG.sample_rate
EMBED = log_mel_statistics.LogMelStatistics()


@functools.cache
def song(seed, semitones=0.0, seconds=6):
  """Plucked notes over a beat of noise."""
  rng = np.random.default_rng(seed)
  samples = np.zeros(seconds * RATE + RATE)
  for _ in range(4 * seconds):
    onset, pitch = rng.integers(seconds * RATE), rng.integers(-20, 20)
    time = np.arange(int(RATE * rng.uniform(0.2, 1))) / RATE
    hz = 440 * 2 ** ((pitch + semitones) / 12) * np.arange(1, 9)
    hz = hz[hz < 7500, None]
    note = (np.sin(2 * np.pi * hz * time) / (hz / hz[0])).sum(axis=0)
    note *= 0.08 * np.exp(-3 * time) * np.minimum(time / 0.01, 1)
    samples[onset : onset + len(note)] += note
  for onset in range(0, seconds * RATE, RATE // 2):
    hit = 0.1 * rng.normal(size=800) * np.exp(-np.arange(800) / 150)
    samples[onset : onset + 800] += hit
  return samples[: seconds * RATE].astype(np.float32)


def noisy(seed, level):
  noise = np.random.default_rng(1).normal(size=len(song(seed)))
  return song(seed) + (level * noise).astype(np.float32)


def muffled(seed, edge_hz):
  sections = signal.butter(6, edge_hz, fs=RATE, output="sos")
  return signal.sosfilt(sections, song(seed)).astype(np.float32)


def smeared(seed, seconds):
  """A room that rings: noise that decays, of the same energy."""
  decay = np.exp(-np.arange(int(4 * seconds * RATE)) / (seconds * RATE))
  room = decay * np.random.default_rng(2).normal(size=len(decay))
  room /= np.linalg.norm(room)
  samples = song(seed)
  return signal.fftconvolve(samples, room)[: len(samples)].astype(np.float32)


@pytest.mark.parametrize(
  "degrade, amounts",
  [
    (noisy, (0, 1e-4, 1e-3, 1e-2, 1e-1)),
    (muffled, (7000, 5000, 3000, 1500, 700)),
    (smeared, (0.02, 0.05, 0.1, 0.2, 0.4)),
    (song, (0, 0.25, 0.5, 1, 2)),  # Semitones.
  ],
  ids=["noise", "low-pass", "time smear", "pitch shift"],
)
def test_the_more_audio_is_degraded_the_farther_it_is(degrade, amounts):
  seeds = (0, 1)
  references = [EMBED(song(seed)) for seed in seeds]
  reconstruction, frechets = [], []
  for amount in amounts:
    estimates = [EMBED(degrade(seed, amount)) for seed in seeds]
    pairs = zip(references, estimates, strict=True)
    reconstruction.append(
      np.mean([distances.reconstruction_distance(*pair) for pair in pairs])
    )
    sets = (
      frechet.GaussianStatistics.of(np.concatenate(embeddings))
      for embeddings in (references, estimates)
    )
    with pytest.warns(UserWarning, match="12 embeddings of 128 dimensions"):
      frechets.append(frechet.frechet_distance(*sets))
  for growing in (reconstruction, frechets):
    assert (np.diff(growing) > 0).all(), growing


def test_a_level_in_nats_counts_for_the_share_of_levels():
  # Noise far above silence: only the 64 of 128 dimensions that are levels move.
  noise = np.random.default_rng(0).normal(size=2 * RATE).astype(np.float32)
  quiet = noise * np.float32(np.exp(-0.5))
  distance = distances.reconstruction_distance(EMBED(noise), EMBED(quiet))
  np.testing.assert_allclose(distance, 0.5 * (64 / 128) ** 0.5, rtol=1e-3)


def test_what_nobody_hears_makes_no_difference():
  silence = np.zeros(RATE, np.float32)
  hum = 1e-6 * np.random.default_rng(0).normal(size=RATE).astype(np.float32)
  np.testing.assert_array_equal(EMBED(silence), EMBED(hum))


@pytest.mark.parametrize("seconds, windows", [(0, 0), (0.99, 0), (2.5, 2)])
def test_each_whole_second_is_one_embedding(seconds, windows):
  embeddings = EMBED(np.zeros(int(seconds * RATE), np.float32))
  assert embeddings.shape == (windows, 128)
  assert embeddings.dtype == np.float32


def test_a_window_does_not_depend_on_its_neighbours_but_by_their_rims():
  samples = song(0, seconds=3)
  changed = samples.copy()
  changed[2 * RATE :] = 0
  np.testing.assert_array_equal(EMBED(samples)[:1], EMBED(changed)[:1])


def test_its_name_is_its_own():
  assert EMBED.name == "log-mel-statistics"
