"""How close inverted audio comes to the original, over the held-out pieces.

Pieces, transcriber and scores are those of benchmarks/quality.
"""

import argparse
import dataclasses
import pathlib
import sys

from jaxtyping import Float32
import numpy as np

from music_spectrogram_diffusion import inverter
from music_spectrogram_diffusion.data import soundfont

FOLDER = pathlib.Path(__file__).parents[1] / "quality"

sys.path.append(str(FOLDER))
import renderings  # noqa: E402
import scores  # noqa: E402

ORIGINAL = "original audio"


@dataclasses.dataclass(frozen=True)
class Quality:
  """How one inverter did on one piece.

  Attributes:
    stft_distance: Multi-resolution STFT distance from the original audio.
    log_mel_distance: Mean absolute difference, in nats, of the spectrogram
      that was inverted and that of the resulting audio.
    note_f1: Of the notes that the transcriber hears and those asked for.
  """

  stft_distance: float
  log_mel_distance: float
  note_f1: float


def add_arguments(parser: argparse.ArgumentParser, *, seconds: float) -> None:
  """Adds which pieces are played, what hears them, and where results go."""
  add, path = parser.add_argument, pathlib.Path
  add("--pieces", type=int, help="how many, spread over all (default: all)")
  add(
    "--seconds",
    type=float,
    default=seconds,
    help=f"of each piece (default: {seconds:g})",
  )
  add("--output", type=path, default=path(__file__).parent / "results")
  add(
    "--transcriber",
    type=path,
    default=FOLDER / ".venv-transcriber/bin/python",
    help="Python of the environment made by benchmarks/quality's script",
  )


def load_pieces(
  number: int | None, seconds: float, config
) -> list[renderings.Piece]:
  """Plays the beginnings of the held-out pieces on the soundfont.

  Args:
    number: How many, spread over their names; None for all.
    seconds: Of each piece.
    config: The features.
  """
  paths = sorted((FOLDER / "pieces").glob("*.mid"))
  number = len(paths) if number is None else min(number, len(paths))
  chosen = np.linspace(0, len(paths) - 1, number).round().astype(int)
  renderer = soundfont.SoundfontRenderer(
    soundfont.find_soundfont(), config.sample_rate
  )
  return [
    renderings.load_piece(paths[index], seconds, renderer, config)
    for index in chosen
  ]


def play(
  pieces: list[renderings.Piece], inverters: dict[str, inverter.Inverter]
) -> dict[str, dict[str, Float32[np.ndarray, " samples"]]]:
  """{row: {piece: samples}}: the original audio, then each inverter's."""
  played = {ORIGINAL: {piece.name: piece.samples for piece in pieces}}
  for row, invert in inverters.items():
    print(f"{row}: {len(pieces)} pieces", file=sys.stderr)
    played[row] = {
      piece.name: np.asarray(invert(piece.log_mel, piece.notes))[
        : len(piece.samples)
      ]
      for piece in pieces
    }
  return played


def measure(
  pieces: list[renderings.Piece],
  played: dict[str, dict[str, Float32[np.ndarray, " samples"]]],
  *,
  output: pathlib.Path,
  python: pathlib.Path,
  config,
) -> dict[str, dict[str, Quality]]:
  """Measures everything that was played: {row: {piece: quality}}.

  Args:
    pieces: The held-out ones.
    played: What `play` gave.
    output: Where audio and transcriptions are kept.
    python: Interpreter of the transcriber's environment.
    config: The features.
  """
  cache = output / "cache"
  cache.mkdir(parents=True, exist_ok=True)
  paths = {
    (row, piece): output / "audio" / row.replace(" ", "-") / f"{piece}.wav"
    for row, of_row in played.items()
    for piece in of_row
  }
  for (row, piece), path in paths.items():
    scores.write_audio(path, played[row][piece], config)
  found = scores.transcribe(list(paths.values()), python=python, cache=cache)
  heard = dict(zip(paths, found, strict=True))
  return {
    row: {
      piece.name: _measure_one(
        piece, of_row[piece.name], heard[row, piece.name], config
      )
      for piece in pieces
    }
    for row, of_row in played.items()
  }


def mean(row: dict[str, Quality], field: str) -> float:
  """Of one figure, over the pieces."""
  return float(np.mean([getattr(score, field) for score in row.values()]))


def _measure_one(piece, samples, heard, config):
  rendering = renderings.Rendering(samples, piece.log_mel)
  score = scores.score(piece, rendering, heard, config)
  distance = inverter.stft_distance(piece.samples[None], samples[None], config)
  return Quality(float(distance[0]), score.audio_distance, score.onset_f1)
