"""The verb `prepare`: raw datasets to what training reads."""

from collections.abc import Callable, Iterator
import contextlib
import functools
from pathlib import Path
import time
from typing import Annotated, Any

import typer

from music_spectrogram_diffusion.cli import console

DATASETS = {
  "maestro": "MAESTRO v3: piano, 199 h",
  "slakh": "Slakh2100 (redux): rendered bands, with instrument subsets",
  "slakh_orig": "Slakh2100 with the songs that it has twice",
  "cerberus4": "Slakh's piano, guitar, bass and drums",
  "cerberus4_orig": "The same, of all of Slakh2100",
  "guitarset": "GuitarSet: solo guitar, 3 h",
  "guitarset_pickup": "GuitarSet with the pickup's recordings as well",
  "musicnet": "MusicNet: chamber music, 34 h",
  "musicnet_em": "MusicNet with the labels of MusicNetEM",
  "urmp": "URMP: chamber pieces, 1.3 h",
}
"""The paper's datasets; `docs/datasets.md` says where to download them."""

_LOG_INTERVAL_S = 60.0  # Where there is no terminal to draw a bar on.

app = typer.Typer(
  no_args_is_help=True,
  rich_markup_mode=None,
  help="Make training data of a dataset, or of files of your own.",
)

DataDir = Annotated[
  str,
  typer.Option(
    "--data_dir",
    envvar="SPEC_DIFF_DATA_DIR",
    help="Folder of all prepared datasets.",
    show_default=False,
  ),
]
WorkDir = Annotated[
  Path | None,
  typer.Option(
    "--work_dir",
    help="Folder for converted songs until the dataset stands; for a remote"
    " --data_dir.  [default: beside the dataset]",
  ),
]
Workers = Annotated[
  int | None,
  typer.Option(min=0, help="Processes.  [default: as many as cores]"),
]


def _add(name: str, description: str) -> None:
  @app.command(name, help=f"Prepare {description}.")
  def prepare(
    data_dir: DataDir,
    manual_dir: Annotated[
      Path,
      typer.Option(
        "--manual_dir",
        help="Folder of the unpacked download.",
        show_default=False,
      ),
    ],
    work_dir: WorkDir = None,
    workers: Workers = None,
  ) -> None:
    run(
      name,
      manual_dir=manual_dir,
      data_dir=data_dir,
      work_dir=work_dir,
      num_workers=workers,
    )


for _name, _description in DATASETS.items():
  _add(_name, _description)


Overwrite = Annotated[
  bool,
  typer.Option("--overwrite", help="Make a dataset that stands again."),
]
Validation = Annotated[
  float,
  typer.Option(min=0, max=1, help="Share of the songs for validation."),
]


@app.command()
def folder(
  data_dir: DataDir,
  audio: Annotated[
    Path,
    typer.Option(
      help="Folder of recordings: wav, flac, mp3, ogg.", show_default=False
    ),
  ],
  midi: Annotated[
    Path,
    typer.Option(
      help="Folder of MIDI files of the same names.", show_default=False
    ),
  ],
  validation: Validation = 0.1,
  keep: Annotated[
    bool, typer.Option("--keep", help="Keep pairs that do not fit, too.")
  ] = False,
  max_lag: Annotated[
    float | None,
    typer.Option(
      "--max_lag",
      min=0,
      help="Most seconds that audio may be early or late.  [default: 0.1]",
      show_default=False,
    ),
  ] = None,
  min_score: Annotated[
    float | None,
    typer.Option(
      "--min_score",
      min=0,
      help="Least correlation of onsets.  [default: 0.04]",
      show_default=False,
    ),
  ] = None,
  overwrite: Overwrite = False,
  work_dir: WorkDir = None,
  workers: Workers = None,
) -> None:
  """Prepare recordings of your own, and MIDI files of what they play.

  Files are paired by name. Pairs whose notes and sound do not lie together are
  left out; pairs.csv beside the data tells of all.
  """
  from music_spectrogram_diffusion import data

  fit = {"min_score": min_score, "max_lag_s": max_lag}
  given = {name: value for name, value in fit.items() if value is not None}
  run(
    "folder",
    manual_dir=audio,
    midi_dir=midi,
    data_dir=data_dir,
    fit=data.FitRules(keep=keep, **given),
    validation_share=validation,
    overwrite=overwrite,
    work_dir=work_dir,
    num_workers=workers,
  )


@app.command()
def soundfont(
  data_dir: DataDir,
  midi: Annotated[
    Path | None, typer.Option(help="Folder of MIDI files to play.")
  ] = None,
  hours: Annotated[
    float, typer.Option(min=0, help="Pieces to compose and play, in hours.")
  ] = 0.0,
  seed: Annotated[int, typer.Option(min=0, help="First seed of these.")] = 0,
  soundfont: Annotated[
    Path | None,
    typer.Option(help="The .sf2 or .sf3.  [default: this machine's]"),
  ] = None,
  synthesizer: Annotated[
    str, typer.Option(help="tinysoundfont or fluidsynth.")
  ] = "tinysoundfont",
  format: Annotated[
    str,
    typer.Option(
      help="examples, for tasks; or arrays, to train without TensorFlow."
    ),
  ] = "examples",
  validation: Validation = 0.1,
  overwrite: Overwrite = False,
  work_dir: WorkDir = None,
  workers: Workers = None,
) -> None:
  """Prepare MIDI files and composed pieces, played on a soundfont."""
  from music_spectrogram_diffusion import data

  run(
    "soundfont",
    data.prepare_soundfont,
    data_dir=data_dir,
    midi_dir=midi,
    soundfont_path=soundfont,
    hours=hours,
    seed=seed,
    format=format,
    synthesizer=synthesizer,
    validation_share=validation,
    overwrite=overwrite,
    work_dir=work_dir,
    num_workers=workers,
  )


def run(
  name: str, prepare: Callable[..., Any] | None = None, **settings: Any
) -> None:
  """Prepares a dataset, with progress, and prints its report.

  Args:
    name: The dataset.
    prepare: What prepares it; by default `data.prepare_dataset`, by its name.
    settings: Arguments of that.
  """
  from music_spectrogram_diffusion import data

  prepare = prepare or functools.partial(data.prepare_dataset, name)
  done = 0
  start_s = time.monotonic()
  try:
    with _progress(name) as advance:

      def on_progress(count: int, total: int, audio_s: float, song: str):
        nonlocal done
        done = count
        advance(count, total, audio_s, song)

      prepared = prepare(on_progress=on_progress, **settings)
  except KeyboardInterrupt:
    console.say(
      f"Interrupted; {done} songs are converted. The same command goes on."
    )
    raise typer.Exit(130) from None
  if not prepared.is_new:
    console.say(f"{prepared.directory} is there already; its report:")
  for line in prepared.problems:
    print(line)
  for split, count in prepared.examples.items():
    hours = prepared.audio_s[split] / 3600
    print(f"{split}: {count} examples, {hours:.2f} h of audio")
  spent_s = time.monotonic() - start_s
  print(f"{prepared.directory}: prepared in {spent_s:.0f} s")


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int, float, str], None]]:
  """Shows on stderr how far a dataset is; gives what to call for each song."""
  told_s = time.monotonic()
  unit = "songs, {task.fields[hours]:.1f} h of audio"
  with console.progress(unit) as progress:
    task = progress.add_task(name, total=None, hours=0.0)

    def advance(done: int, total: int, audio_s: float, song: str) -> None:
      nonlocal told_s
      hours = audio_s / 3600
      progress.update(task, completed=done, total=total, hours=hours)
      now_s = time.monotonic()
      if not progress.console.is_terminal and now_s - told_s > _LOG_INTERVAL_S:
        told_s = now_s
        console.say(f"{done}/{total} songs, {hours:.1f} h of audio ({song})")

    yield advance
