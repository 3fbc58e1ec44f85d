"""The verb `render`: MIDI files to audio files."""

from collections.abc import Callable, Iterator
import contextlib
import hashlib
import json
from pathlib import Path
import time
from typing import Annotated

import typer

import music_spectrogram_diffusion
from music_spectrogram_diffusion.cli import console, outputs


def render(
  inputs: Annotated[
    list[Path],
    typer.Argument(
      metavar="MIDI",
      help="MIDI files, or folders to search for them.",
      show_default=False,
    ),
  ],
  output: Annotated[
    Path | None,
    typer.Option(
      "--output",
      "-o",
      help="Audio file for one input, else a folder.  [default: beside MIDI]",
      show_default=False,
    ),
  ] = None,
  model: Annotated[
    str | None,
    typer.Option(
      help="Model directory, diffusers pipeline, t5x checkpoint, or a name of"
      " `spec-diff models list`.  [default: the embedded model]"
    ),
  ] = None,
  steps: Annotated[
    int | None,
    typer.Option(min=1, help="Sampling steps.  [default: the model's]"),
  ] = None,
  sampler: Annotated[
    str | None,
    typer.Option(help="ddpm or ddim.  [default: the model's]"),
  ] = None,
  guidance: Annotated[
    float | None,
    typer.Option(help="Guidance weight, 1 for none.  [default: the model's]"),
  ] = None,
  inverter: Annotated[
    str | None,
    typer.Option(
      help="griffin-lim, an ONNX file, a SavedModel, or a model with an"
      " inverter.  [default: the model's]"
    ),
  ] = None,
  seed: Annotated[
    int, typer.Option(min=0, help="The same seed gives the same audio.")
  ] = 0,
  format: Annotated[
    str | None,
    typer.Option(help="wav, flac, mp3 or ogg.  [default: as OUTPUT, or wav]"),
  ] = None,
  plot: Annotated[
    bool, typer.Option("--plot", help="Also draw notes and spectrogram (PNG).")
  ] = False,
  overwrite: Annotated[
    bool, typer.Option("--overwrite", help="Replace files that exist.")
  ] = False,
) -> None:
  """Render MIDI files to audio.

  A JSON file beside each audio file says what made it. A file that cannot be
  rendered is reported, the others are rendered, and the exit code is 2.
  """
  from music_spectrogram_diffusion import audio

  jobs, problems = outputs.plan(
    inputs,
    output,
    format=format,
    formats=audio.FORMATS,
    with_plot=plot,
    overwrite=overwrite,
  )
  for problem in problems:
    console.complain(problem)
  if jobs:
    from music_spectrogram_diffusion import inference

    with console.warnings_as_lines(model or ""):
      synthesizer = inference.Synthesizer.from_pretrained(
        model, inverter=inverter
      )
    facts = {"inverter": inverter or type(synthesizer.inverter).__name__}
    settings = {"steps": steps, "sampler": sampler, "guidance": guidance}
    given = {k: v for k, v in settings.items() if v is not None}
    for job in jobs:
      try:
        with console.warnings_as_lines(job.source):
          _render_file(
            job,
            synthesizer,
            given | {"seed": seed},
            facts,
            plot=plot,
            overwrite=overwrite,
          )
      except (ValueError, OSError) as error:
        if console.debugging():
          raise
        problems.append(console.reason(error, job.source))
        console.complain(problems[-1])
  if problems:
    raise typer.Exit(2)


def _render_file(
  job, synthesizer, settings, more_facts, *, plot, overwrite
) -> None:
  """Renders one file; an interrupt leaves what was rendered, and exits 130."""
  from music_spectrogram_diffusion import audio, notes
  from music_spectrogram_diffusion.cli import plotting

  start = time.perf_counter()
  piece = notes.read_midi(job.source)
  job.audio.parent.mkdir(parents=True, exist_ok=True)
  config = synthesizer.spectrogram_config
  overview = plotting.MelOverview(config.n_mels)
  writer = audio.AudioWriter(job.audio, config.sample_rate, overwrite=overwrite)
  interrupted = False
  try:
    with writer, _progress(job.source.name) as advance:
      for segment in synthesizer.stream(piece, **settings):
        writer.write(segment.samples)
        overview.append(segment.log_mel)
        advance(segment, writer.num_samples / config.sample_rate)
  except KeyboardInterrupt:
    interrupted = True
  duration_s = writer.num_samples / config.sample_rate
  if interrupted and not writer.num_samples:
    console.say("Interrupted; nothing was rendered yet.")
    raise typer.Exit(130)

  if writer.num_clipped:
    console.say(
      f"warning: {job.audio}: clipped {writer.num_clipped} samples beyond 1."
    )
  facts = (
    _facts(job, synthesizer, settings)
    | more_facts
    | {
      "sample_rate": config.sample_rate,
      "duration_s": duration_s,
      "complete": not interrupted,
    }
  )
  outputs.write_whole(job.sidecar, json.dumps(facts, indent=2).encode() + b"\n")
  if interrupted:
    console.say(f"Interrupted; {job.audio} holds the first {duration_s:.1f} s.")
    raise typer.Exit(130)
  if plot:
    figure = plotting.draw_rendering(
      piece,
      overview.columns(),
      frames_per_column=overview.frames_per_column,
      config=config,
      title=job.source.name,
    )
    outputs.write_whole(job.plot, plotting.png(figure))
  spent_s = time.perf_counter() - start
  print(f"{job.audio}: {duration_s:.1f} s of audio in {spent_s:.1f} s")


def _facts(job, synthesizer, settings) -> dict[str, object]:
  """What the sidecar says of how the audio came about."""
  with job.source.open("rb") as file:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
  return {
    "input": job.source.name,
    "input_sha256": digest,
    "output": job.audio.name,
    "version": music_spectrogram_diffusion.__version__,
    "model_hash": synthesizer.model_hash,
    "settings": dict(synthesizer.defaults) | settings,
  }


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Callable]:
  """Shows on stderr how far a file is; gives what to call on each segment."""
  import rich.console
  import rich.progress

  terminal = rich.console.Console(stderr=True)
  with rich.progress.Progress(
    rich.progress.TextColumn("{task.description}", markup=False),
    rich.progress.BarColumn(),
    rich.progress.MofNCompleteColumn(),
    rich.progress.TextColumn(
      "segments, {task.fields[audio_s]:.0f} s of audio,"
    ),
    rich.progress.TimeRemainingColumn(compact=True),
    rich.progress.TextColumn("left"),
    console=terminal,
    disable=not terminal.is_terminal,
    transient=True,
  ) as progress:
    task = progress.add_task(name, total=None, audio_s=0.0)

    def advance(segment, audio_s: float) -> None:
      progress.update(
        task,
        completed=segment.index + 1,
        total=segment.num_segments,
        audio_s=audio_s,
      )

    yield advance
