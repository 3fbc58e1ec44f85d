"""Evaluates systems on songs, one song at a time.

`evaluate_song` is all that there is to compute: the loop here and the pipeline
in `beam` call it for each song, and merge nothing but its results.
"""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import time
from typing import Any

from jaxtyping import Float32, UInt8
import numpy as np

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.evaluation import measures as measures_lib
from music_spectrogram_diffusion.evaluation import results
from music_spectrogram_diffusion.evaluation.songs import (
  Entry,
  Song,
  SongSource,
)
from music_spectrogram_diffusion.evaluation.systems import GROUND_TRUTH, System

DRUMS = "Drums"

EXCERPT_S = 15.0
"""How much of a song is kept for its picture, from its first note on."""

_OTHER_LENGTH_S = 2.0  # A rendering ends a second after the last note.
_CONFIG = audio.SpectrogramConfig()

Problems = list[list[str]]
"""What went wrong, in words that songs share, and the particulars."""


@dataclasses.dataclass(frozen=True)
class Evaluator:
  """What is evaluated, and by what.

  Attributes:
    systems: Each makes audio of a song; recordings are measured in any case.
    measures: Each gives scores.
    keep_audio: Whether results hold the renderings.
  """

  systems: Sequence[System]
  measures: Sequence[measures_lib.Measure]
  keep_audio: bool = False


@dataclasses.dataclass(frozen=True)
class _Measured:
  """What measures found of a system's audio.

  Attributes:
    entry: The system's part of a record.
    features: By the names of measures, as far as they could be made.
    arrays: For the file beside the record.
  """

  entry: dict[str, Any]
  features: dict[str, Any]
  arrays: dict[str, np.ndarray]


def evaluate_song(song: Song, evaluator: Evaluator) -> results.SongResult:
  """Renders a song by each system, and measures what comes out.

  What fails is noted in the result, and the rest goes on.
  """
  problems: Problems = []
  if not len(song.notes):
    problems.append(["no notes, so no F1", ""])
  measures = evaluator.measures
  recording = _measure(song, GROUND_TRUTH, song.samples, measures, None, [])
  entries = {GROUND_TRUTH: recording.entry}
  arrays, audios = dict(recording.arrays), {}
  for system in evaluator.systems:
    faults: Problems = []
    rendering = None
    start = time.perf_counter()
    with _noted(faults, "rendering failed"):
      rendering = system(song)
    render_s = time.perf_counter() - start
    samples = None if rendering is None else rendering.samples
    measured = _measure(
      song, system.name, samples, measures, recording.features, faults
    )
    entries[system.name] = measured.entry | {"render_s": render_s}
    if rendering is not None and rendering.timing is not None:
      timing = dataclasses.asdict(rendering.timing)
      entries[system.name]["timing"] = timing
    arrays |= measured.arrays
    if evaluator.keep_audio and measured.features:
      audios[system.name] = samples
  record = {
    "key": song.key,
    "dataset": song.dataset,
    "id": song.id,
    "duration_s": len(song.samples) / _CONFIG.sample_rate,
    "instruments": _instruments(song.notes),
    "problems": problems,
    "systems": entries,
  }
  return results.SongResult(record, arrays, audios)


def evaluate_entry(entry: Entry, evaluator: Evaluator) -> results.SongResult:
  """`evaluate_song`; of a song that cannot be loaded, that this is so."""
  try:
    song = entry.load()
  except (ValueError, OSError) as error:
    record = {
      "key": entry.key,
      "dataset": entry.dataset,
      "id": entry.id,
      "problems": [["left out", str(error)]],
      "systems": {},
    }
    return results.SongResult(record, {}, {})
  return evaluate_song(song, evaluator)


def evaluate(
  sources: Sequence[SongSource],
  evaluator: Evaluator,
  store: results.ResultStore,
) -> Iterator[results.SongResult]:
  """Evaluates songs one after the other; those that are in the store are not.

  Args:
    sources: Whose songs.
    evaluator: What is evaluated.
    store: Keeps each result before it is handed out.

  Yields:
    What was not there yet.
  """
  for source in sources:
    for entry in source.read():
      if entry.key not in store:
        result = evaluate_entry(entry, evaluator)
        store.add(result)
        yield result


def _measure(
  song: Song,
  system: str,
  samples: Float32[np.ndarray, " samples"] | None,
  measures: Sequence[measures_lib.Measure],
  reference: dict[str, Any] | None,
  problems: Problems,
) -> _Measured:
  """Measures a system's audio of a song; of the recording, by itself.

  Args:
    song: The song.
    system: Name of the system.
    samples: Its audio; None if there is none.
    measures: What to measure by.
    reference: Features of the recording; None for the recording.
    problems: Of the rendering; grows.
  """
  start = time.perf_counter()
  scores, features, statistics = {}, {}, {}
  arrays = {}
  if reference is None:
    reference = features  # As far as they are made.
  if samples is not None:
    samples = _checked(samples, len(song.samples), problems)
  if samples is not None:
    for measure in measures:
      with _noted(problems, f"{measure.name} failed"):
        found = measure.features(samples, f"{system}/{song.key}")
        features[measure.name] = found
        wanted = reference.get(measure.name)
        if wanted is not None:  # Else the recording has the problem.
          scores |= measure.scores(song, wanted, found)
          statistics |= measure.statistics(found)
    arrays |= results.statistics_arrays(system, statistics)
    arrays[results.excerpt_name(system)] = _excerpt(song, samples)
  entry = {
    "scores": scores,
    "distances": list(statistics),
    "problems": problems,
    "measure_s": time.perf_counter() - start,
  }
  return _Measured(entry, features, arrays)


@contextlib.contextmanager
def _noted(problems: Problems, what: str) -> Iterator[None]:
  """Notes an error and goes on."""
  try:
    yield
  except Exception as error:  # Plug-ins raise what they like.
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    problems.append([what, kind + " ".join(str(error).split())])


def _checked(samples, length, problems) -> np.ndarray | None:
  """Audio of the recording's length at most; None if it cannot be measured."""
  if not len(samples) or not np.isfinite(samples).all():
    what = "holds NaN or infinity" if len(samples) else "is empty"
    problems.append([f"the rendering {what}", ""])
    return None
  surplus_s = (len(samples) - length) / _CONFIG.sample_rate
  if abs(surplus_s) > _OTHER_LENGTH_S:
    sign, compared = ("longer", "is left out")
    if surplus_s < 0:
      sign, compared = ("shorter", "of the recording is left out")
    problems.append(
      [
        f"the rendering is {sign}, and what is too much {compared}",
        f"{abs(surplus_s):.1f} s",
      ]
    )
  return samples[:length]


def _instruments(notes: notes_lib.Notes) -> dict[str, float]:
  """Share of a song's notes by Slakh class."""
  names = {program: name for name, program in notes_lib.SLAKH_CLASSES.items()}
  classes = notes_lib.to_slakh_classes(notes)
  shares = {}
  for program in np.unique(classes.program[~classes.is_drum]).tolist():
    played = ~classes.is_drum & (classes.program == program)
    shares[names[program]] = float(played.mean())
  if classes.is_drum.any():
    shares[DRUMS] = float(classes.is_drum.mean())
  return shares


def _excerpt(song: Song, samples) -> UInt8[np.ndarray, "frames mel_bins"]:
  """The log-mel spectrogram of an excerpt, from silence at 0 to full scale."""
  first_s = float(song.notes.onset.min()) if len(song.notes) else 0.0
  rate = _CONFIG.sample_rate
  start = min(round(first_s * rate), len(samples) - 1)
  log_mel = audio.log_mel(
    samples[start : start + round(EXCERPT_S * rate)], _CONFIG
  )
  low, high = _CONFIG.mel_range
  share = np.clip((log_mel - low) / (high - low), 0.0, 1.0)
  return np.round(share * 255).astype(np.uint8)
