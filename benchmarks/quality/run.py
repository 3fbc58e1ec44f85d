"""How good models sound, beside the soundfont that they learned from.

  python benchmarks/quality/run.py --model DIR steps=6,guidance=1.5 steps=20

Each --model with each SETTINGS is a row of the tables; settings go to the
synthesizer as they are. Without --model only the references are measured. See
README.md.
"""

import argparse
from collections.abc import Callable
import dataclasses
import functools
import pathlib
import sys
import time

import joins
import material
import measures
import pictures
import renderings
import report
import scores

from music_spectrogram_diffusion import audio, inference, inverter
from music_spectrogram_diffusion.data import soundfont
from music_spectrogram_diffusion.evaluation import embeddings

_HERE = pathlib.Path(__file__).parent

# Where joins would be, as long as no model says it.
_SEGMENT_FRAMES = 256


@dataclasses.dataclass(frozen=True)
class _Player:
  """A row that is to be played; see `measures.Row`."""

  name: str
  truth: str
  is_model: bool
  play: Callable[[renderings.Piece], renderings.Rendering]
  places: joins.Places


def main():
  arguments = _parse_arguments()
  output = arguments.output
  (output / "cache").mkdir(parents=True, exist_ok=True)
  embedding = embeddings.find_embedding(arguments.embedding)
  synthesizers = dict(_load(text) for text in arguments.model)
  players = _players(arguments, synthesizers)
  config = _config(synthesizers)

  started = time.monotonic()
  paths = material.choose(_find_pieces(arguments.folder), arguments.pieces)
  renderer = soundfont.SoundfontRenderer(
    soundfont.find_soundfont(), config.sample_rate
  )
  everything = material.make_material(
    [
      renderings.load_piece(path, arguments.seconds, renderer, config)
      for path in paths
    ],
    renderer,
    config,
    num_figures=arguments.pieces,
  )
  played = {
    player.name: _play_all(player, everything.played) for player in players
  }
  heard = _transcribe(arguments, everything, played, config)
  rows = [
    measures.Row(
      player.name,
      player.truth,
      player.is_model,
      measures.measure(
        everything,
        played[player.name],
        heard[player.name],
        embedding,
        places=player.places,
        config=config,
      ),
    )
    for player in players
  ]

  text = report.table(rows, config)
  (output / "table.md").write_text(text)
  (output / "pieces.md").write_text(report.piece_table(rows))
  report.write_json(output / "scores.json", rows, _about(arguments))
  pictures.draw_all(
    output / "pictures",
    everything.pieces,
    {row.name: played[row.name] for row in rows if row.is_model},
    config,
  )
  pictures.draw_dynamics(output / "pictures" / "dynamics.png", rows)
  pictures.draw_joins(output / "pictures" / "joins.png", rows)
  print(text)
  print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)


def _load(text):
  """(name, synthesizer) of "default", DIR or NAME=DIR."""
  name, _, path = text.rpartition("=")
  name = name or pathlib.Path(path).name
  synthesizer = inference.Synthesizer.from_pretrained(
    None if path == "default" else path
  )
  return name, synthesizer


def _config(synthesizers):
  """The features that all models share."""
  configs = {x.spectrogram_config for x in synthesizers.values()}
  if len(configs) > 1:
    sys.exit(f"Expected models of the same features; found {configs}.")
  return configs.pop() if configs else audio.SpectrogramConfig()


def _players(arguments, synthesizers):
  """The rows: the soundfont, a ground truth of each inverter, the models."""
  inverters = {name: x.inverter for name, x in synthesizers.items()}
  if not inverters:
    inverters = {"griffin-lim": inverter.GriffinLim(_config({}))}
  keys = {name: renderings.fingerprint(x) for name, x in inverters.items()}
  several = len(set(keys.values())) > 1
  truths, playing = {}, []
  for name, key in keys.items():
    segment_frames = _SEGMENT_FRAMES
    if name in synthesizers:
      segment_frames = synthesizers[name].model.network.segment_frames
    if key not in truths:
      truth = f"ground truth ({name})" if several else "ground truth"
      play = functools.partial(
        renderings.play_ground_truth,
        invert=inverters[name],
        key=key,
        cache=arguments.output / "cache",
      )
      places = joins.Places(segment_frames)
      truths[key] = _Player(truth, truth, False, play, places)
    if name in synthesizers:
      for text in arguments.settings or [""]:
        settings = _settings(text, synthesizers[name])
        play = functools.partial(
          renderings.play_model,
          synthesizer=synthesizers[name],
          settings=settings,
        )
        row = f"{name} {text}".strip()
        chosen = synthesizers[name].defaults | settings
        places = joins.Places(segment_frames, chosen.get("overlap", 0))
        playing.append(_Player(row, truths[key].name, True, play, places))
  references = list(truths.values())
  original = dataclasses.replace(
    references[0],
    name="soundfont",
    play=lambda piece: renderings.Rendering(piece.samples, piece.log_mel),
  )
  return [original, *references, *playing]


def _settings(text, synthesizer):
  """Settings of a row, before anything is played with them."""
  settings = renderings.parse_settings(text)
  unknown = settings.keys() - synthesizer.defaults.keys()
  if unknown:
    sys.exit(
      f"Expected settings out of {', '.join(synthesizer.defaults)}; got"
      f" {', '.join(sorted(unknown))} in {text!r}."
    )
  try:
    checked = {key: settings[key] for key in settings if key != "seed"}
    synthesizer.check_settings(**checked)
  except ValueError as error:
    sys.exit(f"{text}: {error}")
  return settings


def _play_all(player, pieces):
  print(f"{player.name}: {len(pieces)} excerpts", file=sys.stderr)
  started = time.monotonic()
  played = {name: player.play(piece) for name, piece in pieces.items()}
  print(f"  {time.monotonic() - started:.0f} s", file=sys.stderr)
  return played


def _transcribe(arguments, everything, played, config):
  """{row: {name: notes heard}}; all audio is kept in files, to listen to."""
  paths = {
    (row, name): arguments.output / "audio" / row / f"{name}.wav"
    for row, of_row in played.items()
    for name in of_row
  }
  for (row, name), path in paths.items():
    scores.write_audio(path, played[row][name].samples, config)
  wanted = [key for key in paths if key[1] in everything.transcribed]
  found = scores.transcribe(
    [paths[key] for key in wanted],
    python=arguments.transcriber,
    cache=arguments.output / "cache",
  )
  heard = {row: {} for row in played}
  for (row, name), notes_heard in zip(wanted, found, strict=True):
    heard[row][name] = notes_heard
  return heard


def _find_pieces(folder):
  paths = sorted(folder.glob("*.mid"))
  if not paths:
    sys.exit(f"Expected MIDI files (*.mid) in {folder}; found none.")
  return paths


def _about(arguments):
  return {key: str(value) for key, value in vars(arguments).items()}


def _parse_arguments():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("settings", nargs="*", help="NAME=VALUE,... of a row; none: defaults")
  add(
    "--model",
    action="append",
    default=[],
    help='model directory, NAME=DIRECTORY, or "default" for the embedded one;'
    " several times for several models",
  )
  add(
    "--pieces",
    type=int,
    help="how many, and how many figures, spread over all (default: all)",
  )
  add("--seconds", type=float, default=20.0, help="of each piece (default: 20)")
  add("--folder", type=pathlib.Path, default=_HERE / "pieces")
  add("--output", type=pathlib.Path, default=_HERE / "results")
  add("--embedding", default="log-mel-statistics", help="for FAD")
  add(
    "--transcriber",
    type=pathlib.Path,
    default=_HERE / ".venv-transcriber/bin/python",
    help="Python of the environment made by setup_transcriber.sh",
  )
  return parser.parse_args()


if __name__ == "__main__":
  main()
