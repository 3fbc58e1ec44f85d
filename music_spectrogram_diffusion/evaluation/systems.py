"""What is evaluated: anything that makes audio of a song.

A model, or its inverter on the recording's own spectrogram.
"""

from collections.abc import Iterator, Mapping
import dataclasses
from typing import Any, Protocol, runtime_checkable
import zlib

from jaxtyping import Float32
import numpy as np

from music_spectrogram_diffusion import audio, inference, inverter, notes
from music_spectrogram_diffusion.evaluation import realtime
from music_spectrogram_diffusion.evaluation.songs import Song

GROUND_TRUTH = "ground truth"
"""The recordings' row."""

THROUGH_INVERTER = "ground truth through the inverter"

_SAMPLE_RATE = audio.SpectrogramConfig().sample_rate
_CHUNK_FRAMES = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Rendering:
  """A system's audio of a song.

  Attributes:
    samples: At the rate of `audio.SpectrogramConfig`.
    timing: How long it took; None where nothing was made.
  """

  samples: Float32[np.ndarray, " samples"]
  timing: realtime.Timing | None = None


@runtime_checkable
class System(Protocol):
  """Makes audio of songs.

  Attributes:
    name: Of its row in tables.
  """

  @property
  def name(self) -> str: ...

  def __call__(self, song: Song) -> Rendering:
    """Renders a song; the same song in the same way, in whatever order."""
    ...


@dataclasses.dataclass(frozen=True, eq=False)
class ThroughInverter:
  """The recording's spectrogram, inverted: what a model reaches at best.

  Attributes:
    inverter: A model's.
    name: Of its row.
  """

  inverter: inverter.Inverter
  name: str = THROUGH_INVERTER

  def __call__(self, song: Song) -> Rendering:
    """Inverts the spectrogram chunk by chunk, as a model would give it.

    The inverter is told the notes, as a model tells it.
    """
    timed = realtime.TimedInverter(self.inverter)
    config = timed.config
    samples = audio.resample(song.samples, _SAMPLE_RATE, config.sample_rate)
    log_mel = audio.log_mel(samples, config)
    starts = range(0, len(log_mel), _CHUNK_FRAMES)
    chunks = [log_mel[start : start + _CHUNK_FRAMES] for start in starts]
    inverted = np.concatenate(
      list(timed.stream(chunks, notes.to_slakh_classes(song.notes)))
    )
    # No model was waited for: spectrograms cost nothing here.
    timing = dataclasses.replace(timed.timing(), mel_s=0.0)
    return _at_common_rate(inverted, config, timing)


@dataclasses.dataclass(frozen=True, eq=False)
class ModelSystem:
  """A synthesizer that renders songs whole, segment upon segment.

  Attributes:
    name: Of its row.
    synthesizer: Plays the notes.
    settings: For `Synthesizer.stream`, without the seed.
    seed: Of the run; each song has one of its own, made of this and its name.
  """

  name: str
  synthesizer: inference.Synthesizer
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  seed: int = 0

  def __call__(self, song: Song) -> Rendering:
    """Renders the song's notes."""
    timed = realtime.TimedInverter(self.synthesizer.inverter)
    synthesizer = dataclasses.replace(self.synthesizer, inverter=timed)
    seed = (self.seed + zlib.crc32(song.key.encode())) % 2**32
    samples = synthesizer(song.notes, **self.settings, seed=seed)
    return _at_common_rate(samples, timed.config, timed.timing())


def systems_of_models(
  synthesizers: Mapping[str, inference.Synthesizer],
  settings: Mapping[str, Any],
  seed: int,
) -> Iterator[System]:
  """The rows of a table: inverters, and then the models.

  Args:
    synthesizers: By the names of their rows.
    settings: For all of them.
    seed: As of `ModelSystem`.
  """
  for name, synthesizer in synthesizers.items():
    row = THROUGH_INVERTER
    if len(synthesizers) > 1:
      row = f"{THROUGH_INVERTER} of {name}"
    yield ThroughInverter(synthesizer.inverter, row)
  for name, synthesizer in synthesizers.items():
    yield ModelSystem(name, synthesizer, settings, seed)


def _at_common_rate(samples, config, timing) -> Rendering:
  """At the rate of all metrics."""
  resampled = audio.resample(samples, config.sample_rate, _SAMPLE_RATE)
  return Rendering(resampled, timing)
