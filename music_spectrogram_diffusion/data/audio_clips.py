"""Random clips of audio files: what an inverter is trained on."""

from collections.abc import Iterator
import dataclasses
import functools
import os
from pathlib import Path
import warnings

from jaxtyping import Float32
import numpy as np
import soundfile

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.notes import Notes

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".aif", ".aiff")
_MAX_DRAWS = 100
_LOUDEST = 1000.0  # Files of floats may be loud, but not as loud as that.
_MARGIN_S = 0.02  # For the edges of a clip that is resampled.
SILENCE = 1e-4
"""Peak below which a clip teaches nothing: 16 bits' noise is 3e-5."""


@dataclasses.dataclass(frozen=True)
class ClipBatches:
  """Batches of random clips of the audio files of a folder.

  Every second of audio is as likely as any other. Files may be of any rate,
  any number of channels and any length; shorter ones lie anywhere in a clip of
  silence. Clips that are all silent are not taken, and what cannot be read is
  left out with a warning, once. A batch is a function of its number.

  Attributes:
    directory: Searched recursively; it must not change while it is in use.
    sample_rate: Rate of the clips, in Hz.
    clip_samples: Samples of a clip.
    batch_size: Clips of a batch.
    gain_db: Range that the level of each clip is changed by, at random.
    seed: Another seed gives other clips.
    first_clip: Number of the first clip of a batch: hosts that share a batch
      have theirs one after the other.

  Raises:
    ValueError: There is no audio, clips have no length, or gains no range.
  """

  directory: str | os.PathLike
  sample_rate: int
  clip_samples: int
  batch_size: int
  gain_db: tuple[float, float] = (0.0, 0.0)
  seed: int = 0
  first_clip: int = 0

  def __post_init__(self):
    _check(self.clip_samples, "sample", self.gain_db)
    if not self._files:
      raise ValueError(
        f"Expected audio ({', '.join(AUDIO_SUFFIXES)}) in {self.directory},"
        " found none that can be read."
      )

  def batch(self, step: int) -> dict[str, Float32[np.ndarray, "batch samples"]]:
    """The batch of a step: `audio` [batch, samples] in about [-1, 1].

    Raises:
      ValueError: Nothing but silence is found.
    """
    clips = [
      self._draw(np.random.default_rng([self.seed, step, self.first_clip + i]))
      for i in range(self.batch_size)
    ]
    return {"audio": np.stack(clips)}

  @functools.cached_property
  def _files(self) -> list[tuple[Path, float]]:
    """Paths that can be read, and their duration in seconds."""
    return list(_readable(Path(self.directory)))

  @functools.cached_property
  def _ends(self) -> np.ndarray:
    """Running total of the durations."""
    return np.cumsum([duration_s for _, duration_s in self._files])

  def _draw(self, rng: np.random.Generator) -> Float32[np.ndarray, " samples"]:
    clip_s = self.clip_samples / self.sample_rate
    for _ in range(_MAX_DRAWS):
      place = rng.random() * self._ends[-1]
      index = int(np.searchsorted(self._ends, place, side="right"))
      path, duration_s = self._files[min(index, len(self._files) - 1)]
      # Before the file, where it is shorter than a clip.
      start_s = rng.random() * (duration_s - clip_s)
      clip = _read_clip(path, start_s, self.clip_samples, self.sample_rate)
      if clip is not None and np.abs(clip).max() >= SILENCE:
        gain_db = rng.uniform(*self.gain_db)
        return np.float32(clip * 10 ** (gain_db / 20))
    raise ValueError(
      f"Expected sounding audio in {self.directory}; {_MAX_DRAWS} clips were"
      " silent, not finite, far too loud or could not be read."
    )


@dataclasses.dataclass(frozen=True)
class ClipCutter:
  """Cuts clips out of pieces that are played while one trains.

  Attributes:
    config: Gives the sample rate and the length of a frame.
    clip_frames: Length of a clip, in frames.
    gain_db: Range that the level of each clip is changed by, at random.

  Raises:
    ValueError: Clips have no length, or gains no range.
  """

  config: audio.SpectrogramConfig
  clip_frames: int
  gain_db: tuple[float, float] = (0.0, 0.0)

  def __post_init__(self):
    _check(self.clip_frames, "frame", self.gain_db)

  @property
  def wanted(self) -> str:
    """What it can use of a piece, in words."""
    return "clips that are not silent"

  def cut_piece(
    self,
    rng: np.random.Generator,
    notes: Notes,
    samples: Float32[np.ndarray, " samples"],
    count: int,
  ) -> Iterator[dict[str, np.ndarray]]:
    """Yields clips, `audio` [samples], at random; fewer where it is silent."""
    del notes
    length = self.clip_frames * self.config.hop_length
    missing = max(0, length - len(samples))
    before = int(rng.integers(missing + 1))
    samples = np.pad(samples, (before, missing - before))
    for _ in range(2 * count):
      start = int(rng.integers(len(samples) - length + 1))
      clip = samples[start : start + length]
      if np.abs(clip).max() >= SILENCE:
        gain_db = rng.uniform(*self.gain_db)
        yield {"audio": np.float32(clip * 10 ** (gain_db / 20))}


def _check(length, unit, gain_db):
  """Raises an error where clips have no length or gains no range."""
  if length < 1:
    raise ValueError(f"Expected clips of 1 {unit} or more, got {length}.")
  low, high = gain_db
  if low > high:
    raise ValueError(
      f"Expected gain_db from a lower to a higher level, got {low} to {high}."
    )


def _readable(directory: Path) -> Iterator[tuple[Path, float]]:
  """Yields audio files and their durations; warns of what is none."""
  for path in sorted(directory.rglob("*")):
    if path.suffix.lower() not in AUDIO_SUFFIXES or not path.is_file():
      continue
    try:
      info = soundfile.info(path)
    except (OSError, soundfile.SoundFileError) as error:
      warnings.warn(f"Left out {path}: {error}", stacklevel=2)
      continue
    if info.frames:
      yield path, info.frames / info.samplerate
    else:
      warnings.warn(f"Left out {path}: it has no samples.", stacklevel=2)


def _read_clip(
  path: Path, start_s: float, num_samples: int, sample_rate: int
) -> Float32[np.ndarray, " samples"] | None:
  """A clip as mono at the given rate; None where that cannot be used.

  Before the file (`start_s` below 0) and after it is silence.
  """
  before = min(round(max(0.0, -start_s) * sample_rate), num_samples - 1)
  start_s = max(0.0, start_s)
  num_samples -= before
  try:
    with soundfile.SoundFile(path) as file:
      rate = file.samplerate
      margin_s = 0.0 if rate == sample_rate else _MARGIN_S
      early_s = min(start_s, margin_s)
      file.seek(min(round((start_s - early_s) * rate), file.frames))
      wanted_s = early_s + num_samples / sample_rate + margin_s
      block = file.read(round(wanted_s * rate), dtype="float32", always_2d=True)
  except (OSError, soundfile.SoundFileError) as error:
    warnings.warn(f"Left out clips of {path}: {error}", stacklevel=2)
    return None
  if not np.abs(block).max(initial=0.0) <= _LOUDEST:  # Or not finite.
    warnings.warn(
      f"Left out clips of {path}: expected samples in about [-1, 1], found some"
      f" that are not finite or beyond {_LOUDEST:g}.",
      stacklevel=2,
    )
    return None
  clip = audio.resample(block.mean(axis=1), rate, sample_rate)
  clip = clip[round(early_s * sample_rate) :][:num_samples]
  return np.pad(clip, (before, num_samples - len(clip)))
