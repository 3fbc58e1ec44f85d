"""The verb `render`: MIDI files to audio files."""

from collections.abc import Callable, Iterator
import contextlib
from pathlib import Path
from typing import Annotated

import typer

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
    typer.Option(help="Sampling steps.  [default: the model's]"),
  ] = None,
  sampler: Annotated[
    str | None,
    typer.Option(help="ddpm, ddim, dpm or sde-dpm.  [default: the model's]"),
  ] = None,
  spacing: Annotated[
    str | None,
    typer.Option(
      help="How the steps lie: even in time or logsnr, or karras."
      "  [default: the model's]"
    ),
  ] = None,
  end_time: Annotated[
    float | None,
    typer.Option(
      help="Noise time at which the steps end, 0 to below 1."
      "  [default: the model's]"
    ),
  ] = None,
  guidance: Annotated[
    float | None,
    typer.Option(help="Guidance weight, 1 for none.  [default: the model's]"),
  ] = None,
  guidance_interval: Annotated[
    tuple[float, float] | None,
    typer.Option(
      metavar="LOW HIGH",
      help="Guide at these noise times only, 0 to 1; steps outside cost half."
      "  [default: the model's]",
    ),
  ] = None,
  overlap: Annotated[
    int | None,
    typer.Option(
      help="Frames over which segments are crossfaded.  [default: the model's]"
    ),
  ] = None,
  inverter: Annotated[
    str | None,
    typer.Option(
      help="griffin-lim, an ONNX file, a SavedModel, or a model with an"
      " inverter.  [default: the model's]"
    ),
  ] = None,
  follow_notes: Annotated[
    bool | None,
    typer.Option(
      "--follow-notes/--no-follow-notes",
      help="Tell the inverter the notes, for clean tones.  [default: the fast"
      " inverter yes, others no]",
    ),
  ] = None,
  dtype: Annotated[
    str | None,
    typer.Option(
      help="float32, or bfloat16: faster on GPUs and newer CPUs."
      "  [default: the model's]"
    ),
  ] = None,
  seed: Annotated[
    int, typer.Option(min=0, help="The same seed gives the same audio.")
  ] = 0,
  variations: Annotated[
    int,
    typer.Option(
      help="Renderings of each file, with seeds from --seed on; their names end"
      " in the seed."
    ),
  ] = 1,
  batch_size: Annotated[
    int,
    typer.Option(
      help="Songs or variations at a time; meant for GPUs, takes more memory."
    ),
  ] = 1,
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
  verbose: Annotated[
    bool, typer.Option("--verbose", "-v", help="Say how much memory it took.")
  ] = False,
) -> None:
  """Render MIDI files to audio.

  A JSON file beside each audio file says what made it. A file that cannot be
  rendered is reported, the others are rendered, and the exit code is 2.
  """
  from music_spectrogram_diffusion import audio

  for option, number in (
    ("batch-size", batch_size),
    ("variations", variations),
  ):
    if number < 1:
      raise ValueError(f"Expected --{option} of 1 or more, got {number}.")
  jobs, problems = outputs.plan(
    inputs,
    output,
    format=format,
    formats=audio.FORMATS,
    with_plot=plot,
    overwrite=overwrite,
    seeds=range(seed, seed + variations),
  )
  for problem in problems:
    console.complain(problem)
  if jobs:
    from music_spectrogram_diffusion import inference

    with console.warnings_as_lines(model or ""):
      synthesizer = inference.Synthesizer.from_pretrained(
        model, inverter=inverter, follow_notes=follow_notes, dtype=dtype
      )
    settings = {
      "steps": steps,
      "sampler": sampler,
      "guidance": guidance,
      "end_time": end_time,
      "spacing": spacing,
      "guidance_interval": guidance_interval,
      "overlap": overlap,
    }
    given = {k: v for k, v in settings.items() if v is not None}
    synthesizer.check_settings(**given)
    facts = {
      "model_hash": synthesizer.model_hash,
      "dtype": synthesizer.model.network.dtype,
      "inverter": inverter or synthesizer.inverter_name,
      "follow_notes": synthesizer.follows_notes,
      "settings": dict(synthesizer.defaults) | given,
    }
    given.pop("overlap", None)
    renderer = _Renderer(
      jobs,
      synthesizer,
      facts,
      plot=plot,
      overwrite=overwrite,
      overlap=overlap,
    )
    with console.warnings_as_lines(model or ""):
      renderer.run(problems, batch_size=batch_size, settings=given)
    if verbose or batch_size > 1:
      console.say(f"memory: {inference.peak_memory()}")
  if problems:
    raise typer.Exit(2)


class _Renderer:
  """Renders songs, some at a time, each to its own files."""

  def __init__(self, jobs, synthesizer, facts, **options):
    self._synthesizer = synthesizer
    self._facts = facts
    self._options = options
    self._waiting = iter(jobs)
    self._playing = {}  # {song: its rendering}

  def run(self, problems, *, batch_size, settings) -> None:
    """Renders all songs; a line for each that fails is added to `problems`.

    An interrupt leaves what was rendered of each, and exits 130.
    """
    from music_spectrogram_diffusion import inference

    songs = self._songs(problems)
    try:
      while True:  # Until nothing fails.
        try:
          with _progress() as show:
            for song, segment in self._synthesizer.stream_batch(
              songs, batch_size=batch_size, **settings
            ):
              self._take(song, segment, show, problems)
          return
        except inference.BatchTooLargeError:
          raise
        except (ValueError, OSError) as error:
          if not self._playing:  # No song's fault: the next one fails too.
            raise
          for rendering in self._discard(error):
            self._report(error, rendering.job, problems)
    except KeyboardInterrupt as interrupt:
      self._leave(interrupt)
      raise typer.Exit(130) from None
    except BaseException as error:
      self._discard(error)
      raise

  def _songs(self, problems):
    """Opens songs as the synthesizer asks for them."""
    from music_spectrogram_diffusion.cli import rendering

    for job in self._waiting:
      try:
        with console.warnings_as_lines(job.source):
          opened = rendering.Rendering(job, self._synthesizer, **self._options)
      except (ValueError, OSError) as error:
        self._report(error, job, problems)
        continue
      self._playing[opened.song] = opened
      yield opened.song

  def _take(self, song, segment, show, problems) -> None:
    """Writes the next segment of a song, or ends it."""
    rendering = self._playing.get(song)
    if rendering is None:  # It has failed.
      return
    show(rendering, segment)
    try:
      if segment is not None:
        rendering.append(segment)
        return
      rendering.finish(self._facts, complete=True)
    except (ValueError, OSError) as error:
      rendering.fail(error)
      self._report(error, rendering.job, problems)
      song.is_wanted = False
      show(rendering, None)
    del self._playing[song]

  def _discard(self, error):
    """Ends what is being rendered, without files; returns what that was."""
    ended = list(self._playing.values())
    self._playing.clear()
    with contextlib.ExitStack() as all_of_them:  # Even if one cannot be ended.
      for rendering in ended:
        all_of_them.callback(rendering.fail, error)
    return ended

  def _report(self, error, job, problems) -> None:
    if console.debugging():
      raise error
    problems.append(console.reason(error, job.source))
    console.complain(problems[-1])

  def _leave(self, interrupt) -> None:
    """Keeps what there is of the songs that were interrupted."""
    begun = [r for r in self._discard(interrupt) if r.duration_s]
    for rendering in begun:
      rendering.finish(self._facts, complete=False)
      console.say(
        f"Interrupted; {rendering.job.audio} holds the first"
        f" {rendering.duration_s:.1f} s."
      )
    if not begun:
      console.say("Interrupted; nothing was rendered yet.")


@contextlib.contextmanager
def _progress() -> Iterator[Callable]:
  """Shows on stderr how far songs are; gives what to call on each segment."""
  unit = "segments, {task.fields[audio_s]:.0f} s of audio"
  with console.progress(unit) as progress:
    tasks = {}

    def show(rendering, segment) -> None:
      """Says how far a song is; None for its end."""
      if rendering not in tasks:
        name = rendering.job.audio.name
        tasks[rendering] = progress.add_task(name, total=None, audio_s=0.0)
      if segment is None:
        progress.remove_task(tasks.pop(rendering))
        return
      progress.update(
        tasks[rendering],
        completed=segment.index + 1,
        total=segment.num_segments,
        audio_s=rendering.duration_s,
      )

    yield show
