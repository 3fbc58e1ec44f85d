"""Songs, systems and measures that are small and known."""

import dataclasses

import numpy as np
import pytest

from music_spectrogram_diffusion import notes
from music_spectrogram_diffusion.evaluation import songs

RATE = 16_000


@pytest.fixture
def tone():
  """Makes a song of a few seconds: a steady tone, and one note a second."""

  def make(id="a", *, dataset="tones", seconds=4, level=0.1, program=0):
    time_s = np.arange(seconds * RATE) / RATE
    samples = (level * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)
    onset = np.arange(seconds, dtype=np.float64)
    piece = notes.Notes.from_columns(onset, onset + 0.5, 69, 90, program)
    return songs.Song(dataset, id, samples, piece)

  return make


@dataclasses.dataclass
class Level:
  """Embeds each second as its root mean square and its peak."""

  name: str = "level"

  def __call__(self, samples):
    seconds = samples[: len(samples) // RATE * RATE].reshape(-1, RATE)
    rms = np.sqrt(np.square(seconds).mean(axis=1))
    return np.stack([rms, np.abs(seconds).max(axis=1)], axis=1)


@pytest.fixture
def level():
  return Level()


@pytest.fixture
def a_system():
  """Makes a system of a name and of a function from songs to samples."""
  from music_spectrogram_diffusion.evaluation import systems

  @dataclasses.dataclass
  class Fake:
    name: str
    samples: object
    timing: object = None

    def __call__(self, song):
      samples = np.asarray(self.samples(song), np.float32)
      return systems.Rendering(samples, self.timing)

  return Fake
