"""What the rendering of one song writes: audio, facts and a picture."""

import contextlib
import hashlib
import json
import time
from typing import Any

import music_spectrogram_diffusion
from music_spectrogram_diffusion import audio, notes
from music_spectrogram_diffusion.cli import console, outputs, plotting


class Rendering:
  """A song that is being rendered, and its files.

  Attributes:
    job: Where it comes from and where it goes.
    song: What the synthesizer plays.
  """

  def __init__(
    self,
    job: outputs.Job,
    synthesizer: Any,
    *,
    plot: bool,
    overwrite: bool,
    overlap: int | None = None,
  ):
    """Reads the song and opens the audio file.

    Args:
      job: Where it comes from and where it goes.
      synthesizer: What plays it.
      plot: Whether a picture is drawn.
      overwrite: Whether files may be replaced.
      overlap: Frames that segments share; None for the synthesizer's default.

    Raises:
      ValueError: The song cannot be read.
      OSError: The audio cannot be written.
    """
    self.job = job
    self._start = time.perf_counter()
    self._notes = notes.read_midi(job.source)
    self.song = synthesizer.prepare(self._notes, seed=job.seed, overlap=overlap)
    job.audio.parent.mkdir(parents=True, exist_ok=True)
    self._config = synthesizer.spectrogram_config
    self._overview = plotting.MelOverview(self._config.n_mels) if plot else None
    self._writer = audio.AudioWriter(
      job.audio, self._config.sample_rate, overwrite=overwrite
    )
    self._files = contextlib.ExitStack()
    self._files.enter_context(self._writer)

  @property
  def duration_s(self) -> float:
    """How much audio there is so far."""
    return self._writer.num_samples / self._config.sample_rate

  def append(self, segment: Any) -> None:
    """Writes the next segment."""
    self._writer.write(segment.samples)
    if self._overview is not None:
      self._overview.append(segment.log_mel)

  def fail(self, error: BaseException) -> None:
    """Ends without a file; with what there is, after KeyboardInterrupt."""
    self._files.__exit__(type(error), error, error.__traceback__)

  def finish(self, facts: dict[str, Any], *, complete: bool) -> None:
    """Closes the audio, and writes what is said of it and drawn."""
    if complete:
      self._files.close()
    if self._writer.num_clipped:
      console.say(
        f"warning: {self.job.audio}: clipped {self._writer.num_clipped} samples"
        " beyond 1."
      )
    facts = (
      _file_facts(self.job)
      | facts
      | {
        "sample_rate": self._config.sample_rate,
        "duration_s": self.duration_s,
        "complete": complete,
      }
    )
    facts["settings"] = facts["settings"] | {"seed": self.job.seed}
    outputs.write_whole(
      self.job.sidecar, json.dumps(facts, indent=2).encode() + b"\n"
    )
    if not complete:
      return
    if self._overview is not None:
      figure = plotting.draw_rendering(
        self._notes,
        self._overview.columns(),
        frames_per_column=self._overview.frames_per_column,
        config=self._config,
        title=self.job.source.name,
      )
      outputs.write_whole(self.job.plot, plotting.png(figure))
    spent_s = time.perf_counter() - self._start
    print(
      f"{self.job.audio}: {self.duration_s:.1f} s of audio in {spent_s:.1f} s"
    )


def _file_facts(job: outputs.Job) -> dict[str, Any]:
  """What the sidecar says of the files."""
  with job.source.open("rb") as file:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
  return {
    "input": job.source.name,
    "input_sha256": digest,
    "output": job.audio.name,
    "version": music_spectrogram_diffusion.__version__,
  }
