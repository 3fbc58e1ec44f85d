"""Audio files: reading any to mono, and writing one as it is made."""

import os
import pathlib

from jaxtyping import Float, Float32
import numpy as np
import soundfile
import soxr

# libsndfile's names of each format that can be written, and of its encoding.
_ENCODINGS = {
  "wav": ("WAV", "PCM_16"),
  "flac": ("FLAC", "PCM_16"),
  "mp3": ("MP3", "MPEG_LAYER_III"),
  "ogg": ("OGG", "VORBIS"),
}

FORMATS = tuple(_ENCODINGS)

# Samples that are read or encoded at once.
_BLOCK_SAMPLES = 1 << 16


class AudioError(ValueError):
  """An audio file that cannot be read or written; names it and the reason."""


def resample(
  samples: Float32[np.ndarray, " samples"],
  rate_in: int | float,
  rate_out: int | float,
) -> Float32[np.ndarray, " resampled"]:
  """Changes the sample rate, by soxr in its high quality.

  Args:
    samples: Mono audio.
    rate_in: Its sample rate, in Hz.
    rate_out: The sample rate wanted, in Hz.

  Returns:
    Audio of the same duration, rounded to whole samples.
  """
  if rate_in <= 0 or rate_out <= 0:
    raise ValueError(
      f"Expected sample rates above 0 Hz, got {rate_in} and {rate_out} Hz."
    )
  if rate_in == rate_out:
    return samples
  return soxr.resample(samples, rate_in, rate_out)


def read_audio(
  path: str | os.PathLike, sample_rate: int
) -> Float32[np.ndarray, " samples"]:
  """Reads an audio file as mono: the mean of its channels.

  Whatever libsndfile can decode: wav, flac, mp3, ogg and more. The length
  comes from the samples that are there, not from what the header claims.

  Args:
    path: The file.
    sample_rate: Rate in Hz to which the audio is resampled.

  Returns:
    At least one sample, nominally in [-1, 1].

  Raises:
    AudioError: The file is missing, is not audio, is broken, is empty, or
      holds values that are not finite.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise AudioError(f"No such audio file: {path}")
  if not path.is_file():
    raise AudioError(f"Expected an audio file, got a folder: {path}")
  blocks = []
  try:
    with soundfile.SoundFile(path) as file:
      file_rate = file.samplerate
      while len(
        block := file.read(_BLOCK_SAMPLES, dtype="float32", always_2d=True)
      ):
        blocks.append(block.mean(axis=1))
  except (OSError, soundfile.SoundFileError) as error:
    raise AudioError(f"Cannot read {path} as audio: {error}") from error
  if not blocks:
    raise AudioError(f"{path} holds no audio: it has no samples.")
  samples = np.concatenate(blocks)
  if not np.isfinite(samples).all():
    raise AudioError(f"{path} holds samples that are not finite numbers.")
  return resample(samples, file_rate, sample_rate)


class AudioWriter:
  """Writes mono audio to a file, chunk by chunk, in a `with` statement.

  The file appears under its name when the statement ends and not before; it
  grows under a temporary name beside it. Ended by KeyboardInterrupt, it holds
  what was written so far; ended by another exception, nothing is left.

  Samples beyond [-1, 1] are clipped, not limited or scaled; `num_clipped`
  counts them, so that a caller can say so. Integer formats have 16 bits.

  Attributes:
    num_samples: Samples written so far.
    num_clipped: How many of them were clipped.
  """

  def __init__(
    self,
    path: str | os.PathLike,
    sample_rate: int,
    *,
    format: str | None = None,
    overwrite: bool = False,
  ):
    """Checks that the file can be written; touches nothing yet.

    Args:
      path: File to write.
      sample_rate: In Hz.
      format: One of `FORMATS`; by default as the path's suffix says.
      overwrite: Whether a file of this name may be replaced.

    Raises:
      AudioError: The format is not known, or the path cannot be used.
    """
    self._path = pathlib.Path(path)
    self._sample_rate = sample_rate
    self._format = format or self._path.suffix.removeprefix(".").lower()
    if self._format not in FORMATS:
      raise AudioError(
        f"Expected one of the formats {', '.join(FORMATS)} for {self._path},"
        f" got {self._format!r}; name one, or give the file such a suffix."
      )
    if self._path.is_dir():
      raise AudioError(f"Cannot write {self._path}: it is a folder.")
    if self._path.exists() and not overwrite:
      raise AudioError(f"{self._path} exists already and is not overwritten.")
    self.num_samples = 0
    self.num_clipped = 0

  def __enter__(self) -> "AudioWriter":
    name = f".{self._path.name}.{os.getpid()}.part"
    self._part = self._path.with_name(name)
    try:
      flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
      self._descriptor = os.open(self._part, flags, 0o666)
    except OSError as error:
      raise self._error(error.strerror) from error
    container, encoding = _ENCODINGS[self._format]
    try:
      self._file = soundfile.SoundFile(
        self._descriptor,
        "w",
        self._sample_rate,
        1,
        encoding,
        format=container,
        closefd=False,
      )
    except soundfile.SoundFileError as error:
      self._discard()
      raise self._error(str(error)) from error
    return self

  def write(self, samples: Float[np.ndarray, " samples"]) -> None:
    """Appends samples.

    Raises:
      AudioError: The file cannot grow, as on a full disk.
      ValueError: A sample is not a finite number.
    """
    if not np.isfinite(samples).all():
      raise ValueError("Expected finite samples, got NaN or infinity.")
    self.num_clipped += int((np.abs(samples) > 1.0).sum())
    clipped = np.clip(samples, -1.0, 1.0)
    try:
      for start in range(0, len(clipped), _BLOCK_SAMPLES):
        self._file.write(clipped[start : start + _BLOCK_SAMPLES])
    except soundfile.SoundFileError as error:
      self._check_room()
      raise self._error(str(error)) from error
    self.num_samples += len(samples)

  def __exit__(self, kind, value, traceback) -> None:
    interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
    try:
      self._file.close()
      if kind is None or (interrupted and self.num_samples):
        self._check_room()
        self._part.replace(self._path)
    except (OSError, soundfile.SoundFileError) as error:
      if kind is None or interrupted:
        raise self._error(str(error)) from error
    finally:
      self._discard()

  def _check_room(self) -> None:
    """Raises the error that libsndfile meets on a full disk but does not tell.

    It is silent about what it cannot write on closing. Then a further byte
    cannot be written either.
    """
    try:
      size = os.fstat(self._descriptor).st_size
      os.pwrite(self._descriptor, b"\0", size)
      os.ftruncate(self._descriptor, size)
      os.fsync(self._descriptor)
    except OSError as error:
      raise self._error(error.strerror) from error

  def _discard(self) -> None:
    """Removes the temporary file, unless it has got its final name."""
    os.close(self._descriptor)
    self._part.unlink(missing_ok=True)

  def _error(self, reason: str) -> AudioError:
    return AudioError(f"Cannot write {self._path}: {reason.rstrip('.')}.")
