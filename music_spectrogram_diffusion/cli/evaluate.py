"""The verb `evaluate`: the paper's table for models, on prepared songs."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
from pathlib import Path
import re
from typing import Annotated

import typer

from music_spectrogram_diffusion.cli import console, outputs

REPORT = "report.md"


def evaluate(
  task: Annotated[
    list[str],
    typer.Option(
      help="Dataset, task or mixture, such as maestro or urmp:validation; or a"
      " folder of recordings with MIDI files of their names. Repeat it.",
      show_default=False,
    ),
  ],
  output: Annotated[
    Path,
    typer.Option(
      "--output",
      "-o",
      metavar="DIR",
      help="Folder of the results; the same command goes on in it.",
      show_default=False,
    ),
  ],
  model: Annotated[
    list[str] | None,
    typer.Option(
      help="As of `render`. Repeat it.  [default: the embedded model]",
      show_default=False,
    ),
  ] = None,
  split: Annotated[str, typer.Option(help="Of tasks without one.")] = "test",
  embedding: Annotated[
    list[str] | None,
    typer.Option(
      metavar="SPEC",
      help="vggish=DIR, trill=DIR (SavedModels, or their handles on TF-Hub),"
      " clap=FILE.onnx, or log-mel-statistics. Repeat it."
      "  [default: log-mel-statistics]",
      show_default=False,
    ),
  ] = None,
  transcriber: Annotated[
    str | None,
    typer.Option(
      metavar="SPEC",
      help="mt3=CHECKPOINT_DIR, 'command=PROGRAM {wav} {midi}', such as"
      " 'command=basic-pitch {dir} {wav}', or midi=FOLDER."
      "  [default: none, and no F1]",
      show_default=False,
    ),
  ] = None,
  songs: Annotated[
    int | None,
    typer.Option(min=1, help="Only the first so many of each dataset."),
  ] = None,
  steps: Annotated[
    int | None,
    typer.Option(min=1, help="Sampling steps.  [default: the model's]"),
  ] = None,
  sampler: Annotated[
    str | None, typer.Option(help="As of `render`.  [default: the model's]")
  ] = None,
  spacing: Annotated[
    str | None, typer.Option(help="As of `render`.  [default: the model's]")
  ] = None,
  end_time: Annotated[
    float | None, typer.Option(help="As of `render`.  [default: the model's]")
  ] = None,
  guidance: Annotated[
    float | None,
    typer.Option(help="Guidance weight, 1 for none.  [default: the model's]"),
  ] = None,
  guidance_interval: Annotated[
    tuple[float, float] | None,
    typer.Option(
      metavar="LOW HIGH", help="As of `render`.  [default: the model's]"
    ),
  ] = None,
  inverter: Annotated[
    str | None, typer.Option(help="As of `render`.  [default: the model's]")
  ] = None,
  follow_notes: Annotated[
    bool | None,
    typer.Option(
      "--follow_notes/--no_follow_notes",
      help="As --follow-notes of `render`.",
    ),
  ] = None,
  seed: Annotated[
    int, typer.Option(min=0, help="The same seed gives the same audio.")
  ] = 0,
  save_audio: Annotated[
    bool, typer.Option("--save_audio", help="Keep renderings, as wav files.")
  ] = False,
  data_dir: Annotated[
    str | None,
    typer.Option(
      "--data_dir",
      help="Folder of prepared datasets.  [default: $SPEC_DIFF_DATA_DIR]",
    ),
  ] = None,
  module: Annotated[
    str, typer.Option(help="Module that registers tasks.")
  ] = "music_spectrogram_diffusion.tasks",
  beam_runner: Annotated[
    str | None,
    typer.Option(
      "--beam_runner",
      help="DirectRunner, DataflowRunner, FlinkRunner or SparkRunner.",
    ),
  ] = None,
  beam_option: Annotated[
    list[str] | None,
    typer.Option(
      "--beam_option",
      metavar="FLAG",
      help="For Beam, such as --beam_option=--direct_num_workers=2. Repeat it.",
      show_default=False,
    ),
  ] = None,
) -> None:
  """Evaluate models on whole songs, as the paper does.

  Writes results.jsonl (a line a song), report.md and pictures into DIR. A run
  that was stopped goes on by the same command. What cannot be measured is told
  in a line, and the rest goes on; the exit code is 2 where something that was
  asked for is missing, or a model has failed on all songs.
  """
  try:
    from music_spectrogram_diffusion import evaluation
  except ModuleNotFoundError as error:
    raise ValueError(
      f"Evaluation needs {error.name}:"
      " `pip install 'music-spectrogram-diffusion[eval]'`."
    ) from error

  if re.match(r"\w{2,}:/", output.as_posix()):  # As a path, of one slash.
    raise ValueError(
      f"Expected a folder that this machine and all workers see, got {output};"
      " mount the bucket."
    )
  settings = {
    "steps": steps,
    "sampler": sampler,
    "spacing": spacing,
    "end_time": end_time,
    "guidance": guidance,
    "guidance_interval": guidance_interval,
  }
  plan = evaluation.Plan(
    tasks=tuple(task),
    models=tuple(model or [None]),
    split=split,
    embeddings=tuple(embedding or evaluation.DEFAULT_EMBEDDINGS),
    transcriber=transcriber,
    inverter=inverter,
    follow_notes=follow_notes,
    settings={k: v for k, v in settings.items() if v is not None},
    seed=seed,
    max_songs=songs,
    keep_audio=save_audio,
    data_dir=data_dir,
    module=module,
  )
  with console.warnings_as_lines("evaluation"):
    sources = plan.sources()
    counts = [source.num_songs() for source in sources]
    measures, missing = plan.find_measures()
    for line in missing:
      console.say(f"warning: {line}")
    facts = plan.facts(measures)
    store = evaluation.ResultStore(output, facts)
    results = evaluation.run(
      plan,
      sources,
      measures,
      store,
      runner=beam_runner,
      options=tuple(beam_option or ()),
    )
    unmeasured = []
    interrupted = False
    try:
      with _progress(counts, len(store)) as advance:
        for result in results:
          advance(result.record)
    except KeyboardInterrupt:
      interrupted = True
    if len(store):
      models = list(plan.model_names())
      summary = _report(output, store, facts, models)
      unmeasured = [name for name in models if not summary.systems.get(name)]
    if interrupted:
      console.say(
        f"Interrupted; {output} holds {len(store)} songs, and the same command"
        " goes on."
      )
      raise typer.Exit(130)
    if not len(store):
      raise ValueError(f"Expected songs in {', '.join(task)}, found none.")
  if missing or unmeasured:
    raise typer.Exit(2)


def _report(output: Path, store, facts, models: Sequence[str]):
  """Writes the report and its pictures, and prints and gives the tables."""
  import jax

  from music_spectrogram_diffusion import evaluation
  from music_spectrogram_diffusion.cli import plotting

  summary = evaluation.summarize(store)
  figures = {
    "by_dataset": evaluation.draw_metrics(summary.by_dataset, "By dataset"),
    "by_instrument": evaluation.draw_metrics(
      summary.by_instrument, "By instrument, weighted by its share of notes"
    ),
  }
  for model in models:
    figure = evaluation.draw_songs(store, model)
    if figure is not None:
      figures[f"songs_{model}"] = figure
  for name, figure in figures.items():
    outputs.write_whole(output / f"{name}.png", plotting.png(figure))
  device = jax.devices()[0].device_kind
  text = evaluation.markdown(summary, facts | {"this report's device": device})
  outputs.write_whole(output / REPORT, text.encode())
  for table in evaluation.tables(summary):
    console.show(_rich_table(table))
  for line in summary.problems:
    console.say(f"warning: {line}")
  print(f"{output / REPORT}: {summary.num_songs} songs")
  return summary


def _rich_table(table):
  import rich.box
  import rich.table

  shown = rich.table.Table(
    title=table.title, title_justify="left", box=rich.box.SIMPLE
  )
  for place, heading in enumerate(table.header):
    shown.add_column(heading, justify="right" if place else "left")
  for row in table.rows:
    shown.add_row(*row)
  return shown


@contextlib.contextmanager
def _progress(counts, num_done: int) -> Iterator[Callable]:
  """Shows on stderr how far the songs are; gives what to call on records."""
  with console.progress("songs") as progress:
    task = progress.add_task(
      "evaluating",
      total=None if None in counts else sum(counts),
      completed=num_done,
    )

    def advance(record) -> None:
      progress.update(task, advance=1, description=record["key"])

    yield advance
