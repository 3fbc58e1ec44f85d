"""Paired data without recordings: MIDI files and composed pieces, played.

Either as the examples that tasks read (`soundfont_dataset`), or as songs of
arrays, which are read without TensorFlow (`songs`, `windows`).
"""

from collections.abc import Callable, Sequence
import json
import math
from pathlib import Path

from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.audio import SpectrogramConfig
from music_spectrogram_diffusion.data import generator, songs, soundfont
from music_spectrogram_diffusion.data.builders import loading
from music_spectrogram_diffusion.data.builders import problems as rules
from music_spectrogram_diffusion.data.builders.problems import (
  Problems,
  SongError,
)
from music_spectrogram_diffusion.data.finding import find_files
from music_spectrogram_diffusion.data.prepare import (
  REPORT,
  PreparedDataset,
  prepare_dataset,
)

FORMATS = ("examples", "arrays")
"""What can be written: for tasks, or for `WindowBatches`."""

_ARRAYS_SPLIT = "songs"  # Arrays are not split.


def prepare_soundfont(
  *,
  data_dir: str | Path,
  midi_dir: str | Path | None = None,
  soundfont_path: str | Path | None = None,
  hours: float = 0.0,
  seed: int = 0,
  format: str = "examples",
  synthesizer: str = "tinysoundfont",
  validation_share: float = 0.1,
  work_dir: str | Path | None = None,
  num_workers: int | None = None,
  overwrite: bool = False,
  on_progress: Callable[[int, int, float, str], None] | None = None,
) -> PreparedDataset:
  """Plays MIDI files and generated pieces; what is there already is kept.

  Args:
    data_dir: Where prepared datasets lie; with "arrays", where the songs go.
    midi_dir: Folder of MIDI files, searched with its subfolders.
    soundfont_path: What plays them; by default the soundfont of this machine.
    hours: Audio to generate, about; the seeds count up from `seed`.
    seed: First seed.
    format: One of `FORMATS`.
    synthesizer: "tinysoundfont", or "fluidsynth" where it is installed.
    validation_share: Share of the pieces for validation; arrays have no splits.
    work_dir: As of `prepare_dataset`.
    num_workers: Processes; 0 for none besides this one.
    overwrite: Whether a dataset that stands is made again.
    on_progress: As of `prepare_dataset`.

  Raises:
    ValueError: Nothing is asked for, or something is missing.
  """
  seeds = range(seed, seed + _num_pieces(hours))
  if midi_dir is None and not seeds:
    raise ValueError(
      "Expected a folder of MIDI files (--midi), or hours of pieces to compose"
      " (--hours); got neither."
    )
  if format not in FORMATS:
    raise ValueError(
      f"Expected a format of {', '.join(FORMATS)}; got {format}."
    )
  font = Path(soundfont_path or soundfont.find_soundfont())
  if not font.is_file():
    raise ValueError(f"Expected a soundfont at {font}; found no file there.")
  problems = Problems()
  files = [] if midi_dir is None else _find_midi(midi_dir, problems)
  if format == "examples":
    return prepare_dataset(
      "soundfont",
      manual_dir=font.parent if midi_dir is None else midi_dir,
      data_dir=data_dir,
      work_dir=work_dir,
      num_workers=num_workers,
      overwrite=overwrite,
      on_progress=on_progress,
      soundfont=font,
      with_midi=midi_dir is not None,
      seeds=seeds,
      synthesizer=synthesizer,
      validation_share=validation_share,
    )
  if synthesizer != "tinysoundfont" or overwrite or work_dir is not None:
    raise ValueError(
      "Expected no other synthesizer, no work directory and no overwriting with"
      " the format arrays; use the format examples."
    )
  return _prepare_arrays(
    Path(data_dir), files, seeds, font, problems, num_workers, on_progress
  )


def _find_midi(directory: str | Path, problems: Problems) -> list[Path]:
  return find_files(directory, notes_lib.MIDI_SUFFIXES, "MIDI", problems)


def _num_pieces(hours: float) -> int:
  """Pieces that make about so many hours; one at least, if any are wanted."""
  if not 0 <= hours < math.inf:
    raise ValueError(f"Expected hours of pieces from 0 up, got {hours}.")
  return max(round(hours * 3600 / generator.MEAN_DURATION_S), int(hours > 0))


def _prepare_arrays(
  directory: Path,
  files: Sequence[Path],
  seeds: Sequence[int],
  font: Path,
  problems: Problems,
  num_workers: int | None,
  on_progress: Callable[[int, int, float, str], None] | None,
) -> PreparedDataset:
  """Writes songs of arrays, and a report beside them."""
  pieces = [*_playable(files, problems), *seeds]
  if not pieces:
    found = "; ".join(problems.lines())
    raise ValueError(f"Expected MIDI files to play; none can be used: {found}.")
  audio_s = 0.0
  made = songs.prepare_songs(
    directory,
    pieces,
    soundfont_path=font,
    config=SpectrogramConfig(),
    num_workers=2 if num_workers is None else num_workers,
  )
  for count, (name, duration_s) in enumerate(made, 1):
    audio_s += duration_s
    if on_progress:
      on_progress(count, len(pieces), audio_s, name)
  prepared = PreparedDataset(
    directory=str(directory),
    examples={_ARRAYS_SPLIT: len(pieces)},
    audio_s={_ARRAYS_SPLIT: audio_s},
    problems=tuple(problems.lines()),
    is_new=True,
  )
  report = {
    "dataset": "soundfont arrays",
    "examples": dict(prepared.examples),
    "audio_s": dict(prepared.audio_s),
    "problems": problems.to_json(),
  }
  (directory / REPORT).write_text(json.dumps(report, indent=2) + "\n")
  return prepared


def _playable(files: Sequence[Path], problems: Problems) -> list[Path]:
  """The files that have notes, and names of their own; counts the others."""
  playable = {}
  for path in files:
    try:
      notes = loading.load_midi(path, problems, str(path))
    except SongError as error:
      problems.add(error.rule, str(error))
      continue
    if not len(notes):
      problems.add(rules.NO_NOTES, str(path))
    elif notes.duration_s > songs.MAX_PIECE_S:
      problems.add(songs.TOO_LONG, f"{path} lasts {notes.duration_s:.0f} s")
    elif songs.song_name(path) in playable:
      problems.add(rules.DUPLICATE_ID, str(path))
    else:
      playable[songs.song_name(path)] = path
  return list(playable.values())
