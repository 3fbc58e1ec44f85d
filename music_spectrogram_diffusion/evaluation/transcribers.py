"""What listens: audio in, the notes that it heard out.

Transcribers are plug-ins, found by a line such as `mt3=...` or `command=...`.
"""

from collections.abc import Callable
import contextlib
import dataclasses
import functools
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import tempfile
from typing import Any, Protocol, runtime_checkable

import jax
from jax import numpy as jnp
from jaxtyping import Float32
import numpy as np

from music_spectrogram_diffusion import audio, checkpoints, models, notes

_TIMEOUT_S = 1800.0
_BATCH = 8  # Segments that MT3 hears at once.
_MOST_TOLD = 200  # Characters of what a command has said, in an error.


class TranscriptionError(ValueError):
  """A transcriber is missing, or could not transcribe a song."""


@runtime_checkable
class Transcriber(Protocol):
  """Anything that hears notes.

  Attributes:
    name: What reports call it.
  """

  @property
  def name(self) -> str: ...

  def __call__(
    self, samples: Float32[np.ndarray, " samples"], song_id: str
  ) -> notes.Notes:
    """Transcribes a song.

    Args:
      samples: Mono audio in [-1, 1], at the rate of `audio.SpectrogramConfig`.
      song_id: What the song is called.

    Raises:
      TranscriptionError: It cannot; other songs may fare better.
    """
    ...


def find_transcriber(spec: str) -> Transcriber:
  """Makes the transcriber that a line of the form KIND=VALUE names.

  Args:
    spec: `mt3=CHECKPOINT`, the folder of MT3's released weights;
      `command=COMMAND {wav} {midi}`, a program that `CommandTranscriber` runs;
      or `midi=FOLDER`, where MIDI files lie already, called like the songs.

  Raises:
    TranscriptionError: There is none of that kind, or it is not there.
  """
  kind, separator, value = spec.partition("=")
  if not separator or not value.strip() or kind not in _KINDS:
    forms = " or ".join(form for form, _ in _KINDS.values())
    raise TranscriptionError(
      f"Expected a transcriber as {forms}, got {spec!r}."
    )
  _, make = _KINDS[kind]
  return make(value.strip())


@dataclasses.dataclass(frozen=True, eq=False)
class Mt3Transcriber:
  """Listens by the network of Gardner et al. 2022.

  Attributes:
    model: What hears.
    parameters: The model's.
  """

  model: models.TranscriptionModel
  parameters: dict[str, Any]
  name: str = "mt3"

  @classmethod
  def from_checkpoint(cls, path: str | os.PathLike) -> "Mt3Transcriber":
    """Loads the released weights."""
    if not pathlib.Path(path).is_dir():
      raise TranscriptionError(
        f"Expected the checkpoint of MT3 at {path}, found none; it can be"
        " copied by `gsutil -m cp -r gs://mt3/checkpoints/mt3 FOLDER`."
      )
    try:
      return cls(*checkpoints.load_mt3_checkpoint(path))
    except checkpoints.CheckpointError as error:
      raise TranscriptionError(str(error)) from error

  def __call__(
    self, samples: Float32[np.ndarray, " samples"], song_id: str
  ) -> notes.Notes:
    """Transcribes a song; see `Transcriber`."""
    _check_finite(samples, song_id)
    model = self.model
    heard = []
    num_segments = model.num_segments(len(samples))
    for start in range(0, num_segments, _BATCH):
      # Past the end the last one is heard again, so that shapes do not change.
      frames = [
        model.features(samples, min(segment, num_segments - 1))
        for segment in range(start, start + _BATCH)
      ]
      tokens = model.predict(self._on_device, jnp.asarray(np.stack(frames)))
      heard.extend(np.asarray(tokens))
    return notes.read_transcript(
      heard[:num_segments],
      vocabulary=model.vocabulary,
      segment_frames=model.network.segment_frames,
      frame_rate=model.spectrogram.frame_rate,
    )

  @functools.cached_property
  def _on_device(self) -> dict[str, Any]:
    return jax.device_put(self.parameters)


@dataclasses.dataclass(frozen=True)
class CommandTranscriber:
  """Runs a program for each song.

  Attributes:
    command: The program and its arguments, quoted as for a shell, though none
      is started. In them `{wav}` stands for the file to read, `{midi}` for the
      one to write. A program that chooses the name itself is given `{dir}`, an
      empty folder, in which one MIDI file is looked for.
    timeout_s: Seconds after which it is stopped, with all that it has started.
  """

  command: str
  timeout_s: float = _TIMEOUT_S

  def __post_init__(self):
    try:
      arguments = shlex.split(self.command)
    except ValueError as error:
      raise TranscriptionError(
        f"Cannot read the transcriber's command {self.command!r}: {error}."
      ) from error
    if not arguments or shutil.which(arguments[0]) is None:
      raise TranscriptionError(
        f"Cannot find the program of the transcriber {self.command!r}; install"
        " it, or give its path."
      )
    text = " ".join(arguments)
    if "{wav}" not in text or not ("{midi}" in text or "{dir}" in text):
      raise TranscriptionError(
        "Expected a transcriber's command with {wav} for the file to read and"
        f" {{midi}} or {{dir}} for what to write, got {self.command!r}."
      )

  @property
  def name(self) -> str:
    """The program without its folders and arguments."""
    return pathlib.Path(shlex.split(self.command)[0]).name

  def __call__(
    self, samples: Float32[np.ndarray, " samples"], song_id: str
  ) -> notes.Notes:
    """Transcribes a song; see `Transcriber`."""
    _check_finite(samples, song_id)
    with tempfile.TemporaryDirectory(prefix="transcriber-") as scratch:
      folder = pathlib.Path(scratch) / "out"
      folder.mkdir()
      wav = pathlib.Path(scratch) / "song.wav"
      midi = folder / "song.mid"
      sample_rate = audio.SpectrogramConfig().sample_rate
      with audio.AudioWriter(wav, sample_rate) as writer:
        writer.write(samples)
      places = {"{wav}": wav, "{midi}": midi, "{dir}": folder}
      self._run([_fill(part, places) for part in shlex.split(self.command)])
      written = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in notes.MIDI_SUFFIXES
      )
      if len(written) != 1:
        raise TranscriptionError(
          f"Expected the transcriber {self.name} to write one MIDI file,"
          f" found {len(written)} for {song_id}."
        )
      try:
        return notes.read_midi(written[0])
      except notes.MidiError as error:
        raise TranscriptionError(
          f"What the transcriber {self.name} wrote for {song_id} cannot be"
          f" read: {error}"
        ) from error

  def _run(self, arguments: list[str]) -> None:
    """Runs the program to its end, which has to be a good one."""
    try:
      process = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
      )
    except OSError as error:
      raise TranscriptionError(
        f"Cannot start the transcriber {arguments[0]}: {error.strerror}."
      ) from error
    try:
      said, _ = process.communicate(timeout=self.timeout_s)
    except subprocess.TimeoutExpired as error:
      raise TranscriptionError(
        f"The transcriber {self.name} took more than {self.timeout_s:g} s and"
        " was stopped."
      ) from error
    finally:
      if process.returncode is None:  # Interrupted, or out of time.
        _stop(process)
    if process.returncode:
      lines = said.decode(errors="replace").split("\n")
      last = next((line for line in reversed(lines) if line.strip()), "nothing")
      raise TranscriptionError(
        f"The transcriber {self.name} failed with exit code"
        f" {process.returncode}; it said: {last.strip()[:_MOST_TOLD]}"
      )


@dataclasses.dataclass(frozen=True)
class MidiFolder:
  """Takes transcriptions that have been made before.

  Attributes:
    folder: Where they lie, each as the song's id with a suffix of MIDI files.
  """

  folder: pathlib.Path

  def __post_init__(self):
    if not self.folder.is_dir():
      raise TranscriptionError(
        f"Expected a folder of transcriptions at {self.folder}, found none."
      )

  @property
  def name(self) -> str:
    """The folder's own name."""
    return self.folder.name

  def __call__(
    self, samples: Float32[np.ndarray, " samples"], song_id: str
  ) -> notes.Notes:
    """Looks a song up; see `Transcriber`."""
    for suffix in notes.MIDI_SUFFIXES:
      path = self.folder / f"{song_id}{suffix}"
      if path.is_file():
        try:
          return notes.read_midi(path)
        except notes.MidiError as error:
          raise TranscriptionError(str(error)) from error
    raise TranscriptionError(
      f"Expected the transcription of {song_id} as"
      f" {self.folder / song_id}{notes.MIDI_SUFFIXES[0]}, found none."
    )


def _check_finite(
  samples: Float32[np.ndarray, " samples"], song_id: str
) -> None:
  if not np.isfinite(samples).all():
    raise TranscriptionError(
      f"Expected finite samples to transcribe for {song_id}, got NaN or"
      " infinity."
    )


def _expand(path: str) -> pathlib.Path:
  # No shell expands what stands after KIND=.
  return pathlib.Path(path).expanduser()


def _fill(argument: str, places: dict[str, pathlib.Path]) -> str:
  for mark, path in places.items():
    argument = argument.replace(mark, str(path))
  return argument


def _stop(process: subprocess.Popen) -> None:
  """Ends a program and all that it has started."""
  with contextlib.suppress(ProcessLookupError):
    os.killpg(process.pid, signal.SIGKILL)
  process.communicate()


# By kind: what a line looks like, and what is made of the part after "=".
_KINDS: dict[str, tuple[str, Callable[[str], Transcriber]]] = {
  "mt3": (
    "mt3=CHECKPOINT",
    lambda path: Mt3Transcriber.from_checkpoint(_expand(path)),
  ),
  "command": ("'command=PROGRAM {wav} {midi}'", CommandTranscriber),
  "midi": ("midi=FOLDER", lambda path: MidiFolder(_expand(path))),
}
