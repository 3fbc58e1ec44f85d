"""Speed, latency and memory of inverters, each in a process of its own.

All processes are there together and take turns, so that a busy machine slows
all of them alike and their ratios hold.
"""

from collections.abc import Sequence
import dataclasses
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np
from quality import renderings

from music_spectrogram_diffusion import audio, inverter

_HERE = pathlib.Path(__file__).parent
_PAUSE_S = 0.2  # For the threads of the one before to fall asleep.
_FIRSTS = 3
"""Times that the first samples are asked for in each round."""


@dataclasses.dataclass(frozen=True)
class Speed:
  """What was measured of one inverter.

  Attributes:
    duration_s: Of the audio that was inverted, in seconds.
    runs_s: Seconds that each run took.
    runs_cpu_s: CPU seconds of all threads, likewise.
    firsts_s: Seconds until the first samples were there, likewise.
    cold_s: The same for the first time: weights loaded, everything compiled.
    frames_needed: Frames that must be there for the first samples.
    num_parameters: Of its network.
    peak_mb: Peak of memory of its process.
    increase_mb: Over what it took when everything was imported.
  """

  duration_s: float
  runs_s: list[float]
  runs_cpu_s: list[float]
  firsts_s: list[float]
  cold_s: float
  frames_needed: int
  num_parameters: int
  peak_mb: float
  increase_mb: float

  @property
  def realtime_factor(self) -> float:
    """Seconds of audio a second, in the median of the runs."""
    return self.duration_s / statistics.median(self.runs_s)

  @property
  def cpu_factor(self) -> float:
    """Seconds of audio a CPU second, likewise."""
    return self.duration_s / statistics.median(self.runs_cpu_s)

  @property
  def first_s(self) -> float:
    """Seconds until the first samples, in the median."""
    return statistics.median(self.firsts_s)

  def ratio(self, other: "Speed") -> float:
    """How many times as fast as another this is: median over the rounds."""
    return statistics.median(
      theirs / ours
      for ours, theirs in zip(self.runs_s, other.runs_s, strict=True)
    )


def worker_command(name: str, mel: pathlib.Path) -> list[str]:
  """What starts the process of an inverter of ours; see candidates.py."""
  return [sys.executable, str(_HERE / "worker.py"), name, str(mel)]


def peer_command(
  python: pathlib.Path,
  block_frames: int,
  mel: pathlib.Path,
  generator: inverter.SinusoidVocoder,
) -> list[str]:
  """What starts the process of the peer.

  Args:
    python: Interpreter of the environment that setup_peer.sh made.
    block_frames: Frames that it inverts at once; 0 for all.
    mel: What to invert.
    generator: The peer gets its width, depth, hop and dtype of products.
  """
  config = generator.spectrogram
  settings = {
    "channels": generator.channels,
    "hidden_channels": generator.expansion * generator.channels,
    "num_blocks": generator.num_blocks,
    "sample_rate": config.sample_rate,
    "hop_length": config.hop_length,
    "n_fft": config.n_fft,
    "n_mels": config.n_mels,
    "bfloat16": generator.dtype == "bfloat16",
  }
  script = str(_HERE / "peer.py")
  blocks = str(block_frames)
  return [str(python), script, json.dumps(settings), blocks, str(mel)]


def write_material(
  path: pathlib.Path,
  pieces: Sequence[renderings.Piece],
  duration_s: float,
  config: audio.SpectrogramConfig,
) -> None:
  """Saves pieces one after the other, again and again if need be.

  Args:
    path: Of the spectrogram, an npy file; the notes lie beside it, as npz.
    pieces: The pieces.
    duration_s: How much is saved.
    config: The features.
  """
  num_frames = round(duration_s * config.frame_rate)
  log_mels, columns, length = [], [], 0
  for piece in itertools.cycle(pieces):
    if length >= num_frames:
      break
    start_s = length / config.frame_rate
    moved = dataclasses.replace(
      piece.notes,
      onset=piece.notes.onset + start_s,
      offset=piece.notes.offset + start_s,
    )
    columns.append(vars(moved))
    log_mels.append(piece.log_mel)
    length += len(piece.log_mel)
  np.save(path, np.concatenate(log_mels)[:num_frames])
  joined = {
    name: np.concatenate([of_piece[name] for of_piece in columns])
    for name in columns[0]
  }
  np.savez(path.with_suffix(".npz"), **joined)


def measure(
  commands: dict[str, list[str]], *, rounds: int, duration_s: float
) -> dict[str, Speed]:
  """Lets inverters take turns.

  Args:
    commands: {row: what starts its process}.
    rounds: How often each has its turn.
    duration_s: Of the audio that each inverts, in seconds.
  """
  environment = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "CUDA_VISIBLE_DEVICES": "-1",
    "JAX_ENABLE_COMPILATION_CACHE": "false",  # Cold is cold.
  }
  processes, about = {}, {}
  try:
    for row, command in commands.items():
      print(f"starting {row}", file=sys.stderr)
      processes[row] = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
      )
      about[row] = _read(row, processes[row])
    runs = {row: [] for row in commands}
    firsts = {row: [] for row in commands}
    for number in range(rounds):
      print(f"timing, round {number + 1} of {rounds}", file=sys.stderr)
      for row, process in processes.items():
        time.sleep(_PAUSE_S)
        runs[row].append(_ask(row, process, "time"))
        for _ in range(_FIRSTS):
          firsts[row].append(_ask(row, process, "first")["seconds"])
    return {
      row: Speed(
        duration_s=duration_s,
        runs_s=[run["seconds"] for run in runs[row]],
        runs_cpu_s=[run["cpu_s"] for run in runs[row]],
        firsts_s=firsts[row],
        **about[row],
        **_ask(row, process, "end"),
      )
      for row, process in processes.items()
    }
  finally:
    for process in processes.values():
      process.kill()
      process.communicate()


def _ask(row, process, question):
  process.stdin.write(question + "\n")
  process.stdin.flush()
  return _read(row, process)


def _read(row, process):
  line = process.stdout.readline()
  if not line:
    sys.exit(f"The process of {row} ended; its message stands above.")
  return json.loads(line)
