import dataclasses

import numpy as np
import pytest

from music_spectrogram_diffusion import audio, inference, models
from music_spectrogram_diffusion.evaluation import systems


class Quick:
  """As loud as the spectrogram, as a constant a frame."""

  def __init__(self, config):
    self.config = config

  def __call__(self, log_mel, played=None):
    level = np.exp(np.asarray(log_mel).max(axis=1))
    return np.repeat(level, self.config.hop_length).astype(np.float32)

  def stream(self, chunks, played=None):
    yield from map(self, chunks)


@dataclasses.dataclass(frozen=True, eq=False)
class FakeSynthesizer(inference.Synthesizer):
  """Two segments for any song; tells of the seeds that it was given."""

  seeds: list = dataclasses.field(default_factory=list)

  def __call__(self, music, *, seed, steps):
    assert steps == 3
    self.seeds.append(seed)
    shape = (50, self.inverter.config.n_mels)
    segments = [np.zeros(shape, np.float32)] * 2
    return np.concatenate(list(self.inverter.stream(segments)))


@pytest.fixture
def synthesizer():
  model = models.DiffusionModel(network=models.paper_network("small"))
  return FakeSynthesizer(model, {}, Quick(audio.SpectrogramConfig()), "")


def test_the_recording_goes_through_the_inverter_in_its_whole_length(tone):
  config = audio.SpectrogramConfig()
  song = tone(seconds=7)
  whole = Quick(config)(audio.log_mel(song.samples, config))
  rendering = systems.ThroughInverter(Quick(config))(song)
  np.testing.assert_array_equal(rendering.samples, whole)
  assert rendering.timing.mel_s == 0.0
  assert rendering.timing.inverted_audio_s == pytest.approx(7 - 5.12)


def test_audio_of_another_rate_comes_at_the_common_one(tone):
  config = audio.SpectrogramConfig(sample_rate=24_000)
  song = tone(seconds=2)
  rendering = systems.ThroughInverter(Quick(config))(song)
  assert len(rendering.samples) == pytest.approx(len(song.samples), abs=1)


def test_inverters_of_several_models_are_told_apart(synthesizer):
  one, two = {"m": synthesizer}, {"m": synthesizer, "n": synthesizer}
  one = [system.name for system in systems.systems_of_models(one, {}, 0)]
  two = systems.systems_of_models(two, {}, 0)
  assert one == ["ground truth through the inverter", "m"]
  assert [system.name for system in two] == [
    "ground truth through the inverter of m",
    "ground truth through the inverter of n",
    "m",
    "n",
  ]


def test_a_song_has_a_seed_of_its_own_wherever_it_comes(tone, synthesizer):
  system = systems.ModelSystem("m", synthesizer, {"steps": 3}, seed=2**32 - 1)
  for id in ("a", "b", "a"):
    rendering = system(tone(id))
    assert len(rendering.samples) == 2 * 16_000
    assert rendering.timing.mel_audio_s == 1.0
  first, second, again = synthesizer.seeds
  assert first == again != second
  assert 0 <= min(synthesizer.seeds) <= max(synthesizer.seeds) < 2**32
