"""How good a model sounds, beside the soundfont that it learned from.

  python benchmarks/quality/run.py --model DIR steps=6,guidance=1.5 steps=20

Each SETTINGS is a row of the table, given to the synthesizer as it is. Without
--model only the references are measured. See README.md.
"""

import argparse
import functools
import pathlib
import sys

import numpy as np
import renderings
import report
import scores

from music_spectrogram_diffusion import audio, inference, inverter
from music_spectrogram_diffusion.data import soundfont

_HERE = pathlib.Path(__file__).parent


def main():
  arguments = _parse_arguments()
  output = arguments.output
  (output / "cache").mkdir(parents=True, exist_ok=True)
  synthesizer, invert = _load(arguments.model)
  config = invert.config

  renderer = soundfont.SoundfontRenderer(
    soundfont.find_soundfont(), config.sample_rate
  )
  pieces = [
    renderings.load_piece(path, arguments.seconds, renderer, config)
    for path in _choose(arguments.folder, arguments.pieces)
  ]
  played = {
    name: _play_all(name, play, pieces)
    for name, play in _players(arguments, synthesizer, invert).items()
  }

  paths = []
  for row, name, rendering in _each(played):
    paths.append(output / "audio" / row / f"{name}.wav")
    scores.write_audio(paths[-1], rendering.samples, config)
  heard = iter(
    scores.transcribe(
      paths, python=arguments.transcriber, cache=output / "cache"
    )
  )
  rows = {
    row: {
      piece.name: scores.score(piece, of_row[piece.name], next(heard), config)
      for piece in pieces
    }
    for row, of_row in played.items()
  }

  table = report.table(rows, config)
  (output / "table.md").write_text(table)
  about = {"model": arguments.model, "seconds": arguments.seconds}
  report.write_json(output / "scores.json", rows, about)
  report.draw_all(output / "pictures", pieces, played, config)
  print(table)


def _load(model):
  """The model, None without one, and the inverter that both rows share."""
  if model is None:
    return None, inverter.GriffinLim(audio.SpectrogramConfig())
  synthesizer = inference.Synthesizer.from_pretrained(
    None if model == "default" else model
  )
  return synthesizer, synthesizer.inverter


def _players(arguments, synthesizer, invert):
  """{row of the table: function from a piece to its rendering}."""
  cache = arguments.output / "cache"
  players = {
    "soundfont": lambda piece: renderings.Rendering(
      piece.samples, piece.log_mel
    ),
    "ground truth": lambda piece: renderings.play_ground_truth(
      piece, invert, cache
    ),
  }
  if synthesizer is not None:
    for text in arguments.settings or [""]:
      players[f"model {text}".strip()] = functools.partial(
        renderings.play_model,
        synthesizer=synthesizer,
        settings=renderings.parse_settings(text),
      )
  return players


def _play_all(row, play, pieces):
  played = {}
  for piece in pieces:
    print(f"{row}: {piece.name}", file=sys.stderr)
    played[piece.name] = play(piece)
  return played


def _each(played):
  for row, of_row in played.items():
    for name, rendering in of_row.items():
      yield row, name, rendering


def _choose(folder, number):
  """Paths of the pieces; when fewer are wanted, spread over the names."""
  paths = sorted(folder.glob("*.mid"))
  if not paths:
    sys.exit(f"Expected MIDI files (*.mid) in {folder}; found none.")
  if number is None or number >= len(paths):
    return paths
  chosen = np.linspace(0, len(paths) - 1, number).round().astype(int)
  return [paths[index] for index in chosen]


def _parse_arguments():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("settings", nargs="*", help="NAME=VALUE,... of a row; none: defaults")
  add("--model", help='model directory, or "default" for the embedded one')
  add("--pieces", type=int, help="how many, spread over all (default: all)")
  add("--seconds", type=float, default=20.0, help="of each piece (default: 20)")
  add("--folder", type=pathlib.Path, default=_HERE / "pieces")
  add("--output", type=pathlib.Path, default=_HERE / "results")
  add(
    "--transcriber",
    type=pathlib.Path,
    default=_HERE / ".venv-transcriber/bin/python",
    help="Python of the environment made by setup_transcriber.sh",
  )
  return parser.parse_args()


if __name__ == "__main__":
  main()
