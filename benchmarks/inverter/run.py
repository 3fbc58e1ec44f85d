"""How good, fast and large inverters are, in one table.

  python benchmarks/inverter/run.py --inverter DIR

The spectrograms of held-out pieces go through every inverter. See README.md.
"""

import argparse
import dataclasses
import importlib.metadata
import os
import pathlib
import statistics
import sys
import tempfile

import candidates
import quality
import speed
import tables

from music_spectrogram_diffusion import audio, inverter

_HERE = pathlib.Path(__file__).parent
_GRIFFIN_LIM, _FAST = "Griffin-Lim", "fast inverter"
_TOLD = f"{_FAST}, told the notes"
_HALF = ", in bfloat16"
_PAPER, _PEER = "paper's inverter", "peer (PyTorch)"
_PEER_BLOCKS = f"{_PEER}, in blocks"
_BLOCK_FRAMES = 256


def main():
  arguments = _parse_arguments()
  output = arguments.output
  output.mkdir(parents=True, exist_ok=True)
  config = audio.SpectrogramConfig()
  trained, timed = _choose(arguments)

  pieces = quality.load_pieces(arguments.pieces, arguments.seconds, config)
  played = quality.play(
    pieces, {row: candidates.build(name) for row, name in trained.items()}
  )
  qualities = quality.measure(
    pieces, played, output=output, python=arguments.transcriber, config=config
  )
  tables.draw(output / "spectrograms.png", pieces[0], played, config)

  load = os.getloadavg()[0]
  speeds = _measure_speed(arguments, timed, pieces, config)
  peer = _faster(speeds)
  rows = {
    row: tables.Row(qualities.get(row), speeds.get(row))
    for row in (quality.ORIGINAL, *speeds)
  }
  text = tables.table(rows, peer)
  for row in (_FAST, _TOLD, _FAST + _HALF, _TOLD + _HALF):
    if row in rows:
      reached = tables.targets(rows[row], rows[_GRIFFIN_LIM], rows, peer)
      text += f"\nTargets, {row}:\n\n{reached}"
  text += (
    f"\n{len(pieces)} pieces, up to {arguments.seconds:g} s of each; speed over"
    f" {arguments.speed_seconds:g} s, median of {arguments.runs} runs; load"
    f" average before timing: {load:.1f}.\n"
  )
  (output / "table.md").write_text(text)
  about = {name: str(value) for name, value in vars(arguments).items()}
  about |= {"load_average": load, "jax": importlib.metadata.version("jax")}
  tables.write_json(output / "figures.json", rows, about)
  print(text)


def _choose(arguments):
  """{row: what `candidates.build` knows it by}: the trained, and all."""
  trained = {_GRIFFIN_LIM: candidates.GRIFFIN_LIM}
  fast = arguments.inverter or candidates.embedded()
  if fast is not None:
    trained[_FAST] = str(fast)
    trained[_TOLD] = f"{candidates.GUIDED}{fast}"
    trained[_FAST + _HALF] = f"{candidates.HALF}{fast}"
    trained[_TOLD + _HALF] = f"{candidates.GUIDED}{candidates.HALF}{fast}"
  else:
    print(
      f"The embedded model has no inverter: no row {_FAST!r}; give --inverter.",
      file=sys.stderr,
    )
  if arguments.paper is not None:
    trained[_PAPER] = str(arguments.paper)
  return trained, {**trained, _PAPER: arguments.paper or candidates.UNTRAINED}


def _measure_speed(arguments, timed, pieces, config):
  """{row: speed}, where the peer comes last, if it is there."""
  with tempfile.TemporaryDirectory() as directory:
    mel = pathlib.Path(directory, "mel.npy")
    speed.write_material(mel, pieces, arguments.speed_seconds, config)
    commands = {
      row: speed.worker_command(str(name), mel) for row, name in timed.items()
    }
    if arguments.peer.exists():
      generator = inverter.SinusoidVocoder(spectrogram=config)
      half = dataclasses.replace(generator, dtype="bfloat16")
      for row, frames, peer_of in (
        (_PEER, 0, generator),
        (_PEER_BLOCKS, _BLOCK_FRAMES, generator),
        (_PEER + _HALF, 0, half),
      ):
        commands[row] = speed.peer_command(arguments.peer, frames, mel, peer_of)
    else:
      print(
        f"Expected the peer's Python at {arguments.peer}: its rows are left"
        " out. Run benchmarks/inverter/setup_peer.sh, or give --peer.",
        file=sys.stderr,
      )
    return speed.measure(
      commands, rounds=arguments.runs, duration_s=arguments.speed_seconds
    )


def _faster(speeds):
  """The peer in float32 in its faster way; None if it is not there."""
  peers = [speeds[row] for row in (_PEER, _PEER_BLOCKS) if row in speeds]
  return min(
    peers, key=lambda peer: statistics.median(peer.runs_s), default=None
  )


def _parse_arguments():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add, path = parser.add_argument, pathlib.Path
  add(
    "--inverter",
    type=path,
    help="directory of the fast inverter (default: the embedded model's)",
  )
  add(
    "--paper", type=path, help="directory of the paper's (default: untrained)"
  )
  add("--speed-seconds", type=float, default=60.0, help="(default: 60)")
  add("--runs", type=int, default=5, help="of each inverter (default: 5)")
  add(
    "--peer",
    type=path,
    default=_HERE / ".venv-peer/bin/python",
    help="Python of the environment made by setup_peer.sh",
  )
  quality.add_arguments(parser, seconds=20.0)
  return parser.parse_args()


if __name__ == "__main__":
  main()
