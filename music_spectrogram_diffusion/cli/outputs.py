"""Which files a rendering makes, and writing them whole or not at all."""

from collections.abc import Sequence
import dataclasses
import itertools
import os
from pathlib import Path

from music_spectrogram_diffusion.cli import console


@dataclasses.dataclass(frozen=True)
class Job:
  """A MIDI file and where its rendering goes.

  Attributes:
    source: The MIDI file.
    audio: The audio file to write.
    seed: Of its rendering.
  """

  source: Path
  audio: Path
  seed: int = 0

  @property
  def sidecar(self) -> Path:
    """JSON beside the audio: what made it."""
    return self.audio.with_suffix(".json")

  @property
  def plot(self) -> Path:
    """Picture beside the audio."""
    return self.audio.with_suffix(".png")


def plan(
  inputs: Sequence[Path],
  output: Path | None,
  *,
  format: str | None,
  formats: Sequence[str],
  with_plot: bool,
  overwrite: bool,
  seeds: Sequence[int] = (0,),
) -> tuple[list[Job], list[str]]:
  """Decides what is rendered to where, before anything is rendered.

  Args:
    inputs: MIDI files, and folders that are searched with their subfolders,
      but not for hidden files, such as those that macOS leaves beside others.
    output: Audio file for a single MIDI file, else a folder, in which the
      subfolders of an input folder are repeated; None is beside each input.
    format: Audio format; None takes the suffix of `output`, else the first.
    formats: Names of the audio formats, which are also their suffixes.
    with_plot: Whether a picture is written too.
    overwrite: Whether existing files may be replaced.
    seeds: Of the variations of each input; several are named after theirs.

  Returns:
    What can be rendered, and a line for each that can not.

  Raises:
    ValueError: `format` or `output` cannot be meant.
  """
  single = _single_file(inputs, output, formats)
  if single and format is None:
    format = single.suffix[1:].lower()
  format = format or formats[0]
  if format not in formats:
    raise ValueError(
      f"Expected a format of {', '.join(formats)}; got {format}."
    )
  if single and single.suffix[1:].lower() != format:
    raise ValueError(
      f"Expected {output} to end in .{format}, as --format says."
    )

  jobs, problems = [], []
  makers: dict[Path, Path] = {}
  for (source, folder), seed in itertools.product(
    _sources(inputs, problems), seeds
  ):
    audio = single or (
      (source.parent if output is None else output / folder)
      / f"{source.stem}.{format}"
    )
    if len(seeds) > 1:
      audio = audio.with_name(f"{audio.stem}-{seed}.{format}")
    job = Job(source, audio, seed)
    if makers.get(audio) == source:  # Given twice, as a file and its folder.
      continue
    if audio in makers:
      problems.append(
        f"{source}: {audio} is already made from {makers[audio]};"
        " rename one, or render them to different folders."
      )
    elif problem := _collision(job, with_plot, overwrite):
      problems.append(problem)
    else:
      makers[audio] = source
      jobs.append(job)
  return jobs, problems


def write_whole(path: Path, data: bytes) -> None:
  """Writes a file under a temporary name, then renames it.

  Raises:
    OSError: It cannot be written; nothing is left of it then.
  """
  part = path.with_name(f".{path.name}.{os.getpid()}.part")
  try:
    part.write_bytes(data)
    part.replace(path)
  except OSError as error:
    raise OSError(error.errno, error.strerror, str(path)) from error
  finally:
    part.unlink(missing_ok=True)


def _single_file(inputs, output, formats) -> Path | None:
  """The output where it is a file, None where it is a folder."""
  if output is None or output.is_dir() or not output.suffix:
    return None
  if output.suffix[1:].lower() not in formats:
    raise ValueError(
      f"Expected an output that ends in .{', .'.join(formats)}, or a folder;"
      f" got {output}."
    )
  if len(inputs) != 1 or inputs[0].is_dir():
    raise ValueError(f"Expected a folder for several inputs; got {output}.")
  return output


def _sources(inputs, problems):
  """Yields (MIDI file, its folder under the input that it comes from)."""
  from music_spectrogram_diffusion import notes

  for path in inputs:
    if path.is_dir():
      found = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in notes.MIDI_SUFFIXES
        and not file.name.startswith(".")
        and file.is_file()
      )
      if not found:
        suffixes = ", ".join(notes.MIDI_SUFFIXES)
        problems.append(f"{path}: found no MIDI file here ({suffixes}).")
      yield from ((file, file.parent.relative_to(path)) for file in found)
    elif path.is_file():
      yield path, Path()
    else:
      problems.append(
        console.reason(FileNotFoundError(2, "No such file", path))
      )


def _collision(job, with_plot, overwrite) -> str | None:
  targets = [job.audio, job.sidecar] + [job.plot] * with_plot
  for target in targets:
    if target.exists() and target.samefile(job.source):
      return f"{job.source}: would be replaced by its rendering; use --output."
    if target.exists() and not overwrite:
      return f"{job.source}: {target} exists; use --overwrite or --output."
  return None
