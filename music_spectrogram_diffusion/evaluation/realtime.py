"""How fast a model renders: seconds of audio per second, mel and audio apart.

As the paper measures it: one song at a time, a batch of 1. What comes with the
first segment of a song is reported apart, because programs are compiled then.
"""

from collections.abc import Callable, Iterable, Iterator
import dataclasses
import time

from jax import Array
from jaxtyping import Float, Float32
import numpy as np

from music_spectrogram_diffusion import audio, inverter, notes


@dataclasses.dataclass(frozen=True)
class Timing:
  """Seconds that were spent, and what they gave.

  Attributes:
    first_s: Seconds until the first audio was there: a segment's spectrogram,
      its inversion, and compiling both.
    mel_s: Seconds spent on the spectrograms of all further segments.
    mel_audio_s: Seconds of audio that these stand for.
    inversion_s: Seconds spent on inverting all further chunks.
    inverted_audio_s: Seconds of audio that these gave.
  """

  first_s: float = 0.0
  mel_s: float = 0.0
  mel_audio_s: float = 0.0
  inversion_s: float = 0.0
  inverted_audio_s: float = 0.0

  def __add__(self, other: "Timing") -> "Timing":
    """Of both together; `first_s` is the longer one."""
    sums = {
      field.name: getattr(self, field.name) + getattr(other, field.name)
      for field in dataclasses.fields(self)
    }
    return Timing(**sums | {"first_s": max(self.first_s, other.first_s)})

  def factors(self) -> dict[str, float]:
    """Realtime factors: `mel`, `inversion`, and `realtime` for both together.

    Those without a measured second, as of songs of one segment, are left out.
    Both together take the time that a second of audio costs in each.
    """
    costs = {}
    if self.mel_audio_s:
      costs["mel"] = self.mel_s / self.mel_audio_s
    if self.inverted_audio_s:
      costs["inversion"] = self.inversion_s / self.inverted_audio_s
    if len(costs) == 2:
      costs["realtime"] = sum(costs.values())
    return {name: 1.0 / cost for name, cost in costs.items() if cost > 0}


class TimedInverter:
  """An inverter that notes how long its stream works, and waits for frames.

  It stands in for an inverter in a `Synthesizer`: what it waits for then is the
  model.

  Args:
    inner: The inverter.
    clock: Tells seconds.
  """

  def __init__(
    self,
    inner: inverter.Inverter,
    clock: Callable[[], float] = time.perf_counter,
  ):
    self._inner = inner
    self._clock = clock
    self._mel: list[tuple[int, float]] = []  # Frames and seconds of chunks.
    self._inversion: list[tuple[int, float]] = []  # Samples and seconds.

  @property
  def config(self) -> audio.SpectrogramConfig:
    """The features that are inverted."""
    return self._inner.config

  def __call__(
    self,
    log_mel: Float[np.ndarray | Array, "frames mel_bins"],
    played: notes.Notes | None = None,
  ) -> Float32[np.ndarray, " samples"]:
    """Inverts a whole spectrogram, untimed."""
    return self._inner(log_mel, played)

  def stream(
    self,
    chunks: Iterable[Float[np.ndarray | Array, "_ mel_bins"]],
    played: notes.Notes | None = None,
  ) -> Iterator[Float32[np.ndarray, "_"]]:
    """Inverts a spectrogram while it is made; see `inverter.Inverter`."""
    waited_s = 0.0

    def timed_chunks() -> Iterator[np.ndarray]:
      nonlocal waited_s
      iterator = iter(chunks)
      while True:
        start = self._clock()
        chunk = next(iterator, None)
        if chunk is not None:
          chunk = np.asarray(chunk)  # Waits for the device.
        spent_s = self._clock() - start
        waited_s += spent_s
        if chunk is None:
          return
        self._mel.append((len(chunk), spent_s))
        yield chunk

    stream = self._inner.stream(timed_chunks(), played)
    while True:
      start, waited_s = self._clock(), 0.0
      samples = next(stream, None)
      spent_s = self._clock() - start - waited_s
      if samples is None:
        return
      self._inversion.append((len(samples), spent_s))
      yield samples

  def timing(self) -> Timing:
    """What was noted so far."""
    config = self.config
    rest = [np.sum(pairs[1:], axis=0) for pairs in self._pairs()]
    (frames, mel_s), (samples, inversion_s) = rest
    first = [sum(pair[1] for pair in pairs[:1]) for pairs in self._pairs()]
    return Timing(
      first_s=float(sum(first)),
      mel_s=float(mel_s),
      mel_audio_s=float(frames / config.frame_rate),
      inversion_s=float(inversion_s),
      inverted_audio_s=float(samples / config.sample_rate),
    )

  def _pairs(self) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and seconds [chunks, 2] of spectrograms and of audio."""
    return tuple(
      np.array(pairs, np.float64).reshape(-1, 2)
      for pairs in (self._mel, self._inversion)
    )
