"""Cost of preparing data and of reading them for training, in time and memory.

Run as `python benchmarks/data/speed.py` (about ten minutes), or with `--quick`
(about two, and figures that only show that it works). It makes folders of songs
of three sizes, each twice the one before, and for each

* prepares it on one core (`spec-diff prepare folder`: wav at 44.1 kHz in
  stereo, MIDI, the check whether they lie together),
* reads training examples with context from the prepared data on two cores,
* caches its pieces with `seqio_cache_tasks`, and reads the same from there.

Every measurement is a process of its own, so that its peak of memory is its
own. Speeds are given by the clock and by CPU time, which other work on the
machine hardly changes. The last row of each group compares the largest size
with the smallest: 1 means that cost per second of audio, and memory, do not
grow with the dataset.
"""

import argparse
from collections.abc import Callable
import itertools
import json
import os
from pathlib import Path
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
import soundfile

from music_spectrogram_diffusion import notes

RATE = 44_100
NOTES_PER_S = 10
NUM_DISTINCT = 4
TASK = "folder_with_context_train"
MODULE = "music_spectrogram_diffusion.tasks"
LENGTHS = {"inputs": 2048, "targets": 256, "targets_context": 256}
BATCH_SIZE = 16
VALIDATION_SHARE = 0.25  # Caching wants both splits, of a few songs too.
TARGETS = {
  "prepare": (40, "x realtime on a core"),
  "read": (150, "examples/s on 2 cores"),
  "read cached": (1000, "examples/s on 2 cores"),
}
_CHILD = "--child"


def make_song(seed: int, duration_s: float) -> tuple[notes.Notes, np.ndarray]:
  """Random notes, and decaying sines that play them, in stereo."""
  rng = np.random.default_rng(seed)
  onset = np.sort(
    rng.uniform(0, duration_s - 1, round(NOTES_PER_S * duration_s))
  )
  piece = notes.trim_overlaps(
    notes.Notes.from_columns(
      onset, onset + 0.3, rng.integers(40, 90, len(onset)), 100
    )
  )
  samples = np.zeros(round(duration_s * RATE), np.float32)
  time_s = np.arange(round(0.4 * RATE)) / RATE
  for start, pitch in zip(piece.onset, piece.pitch, strict=True):
    frequency_hz = 440 * 2 ** ((pitch - 69) / 12)
    tone = np.sin(2 * np.pi * frequency_hz * time_s) * np.exp(-8 * time_s)
    first = round(start * RATE)
    samples[first : first + len(tone)] += 0.1 * tone
  return piece, np.stack([samples, 0.9 * samples], axis=1)


def make_songs(directory: Path, duration_s: float) -> list[tuple[Path, Path]]:
  """Writes a few songs, each a wav and a MIDI file."""
  directory.mkdir()
  songs = []
  for seed in range(NUM_DISTINCT):
    piece, samples = make_song(seed, duration_s)
    wav, midi = (directory / f"{seed}{end}" for end in (".wav", ".mid"))
    soundfile.write(wav, samples, RATE, "PCM_16")
    notes.write_midi(piece, midi)
    songs.append((wav, midi))
  return songs


def link_songs(songs, directory: Path, count: int) -> None:
  """A dataset of `count` songs that take no room of their own."""
  directory.mkdir()
  for index, files in enumerate(
    itertools.islice(itertools.cycle(songs), count)
  ):
    for file in files:
      os.link(file, directory / f"song{index:05d}{file.suffix}")


def prepare(raw: str, data_dir: str, duration_s: float) -> dict[str, float]:
  """Prepares a folder in this process, on one core."""
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
  import tensorflow_datasets  # noqa: F401  # Imports are not preparing.

  from music_spectrogram_diffusion import data

  start_s, start_cpu_s = time.perf_counter(), cpu_s()
  prepared = data.prepare_dataset(
    "folder",
    manual_dir=raw,
    midi_dir=raw,
    data_dir=data_dir,
    validation_share=VALIDATION_SHARE,
    num_workers=0,
  )
  assert sum(prepared.audio_s.values()) > 0.99 * duration_s, prepared.problems
  return {
    "clock": duration_s / (time.perf_counter() - start_s),
    "cpu": duration_s / (cpu_s() - start_cpu_s),
  }


def read(
  data_dir: str, cache_dir: str | None, num_batches: int
) -> dict[str, float]:
  """Reads batches for training, on two cores."""
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
  from music_spectrogram_diffusion.data import seqio_source

  source = seqio_source.SeqioSource(
    name=TASK,
    lengths=LENGTHS,
    data_dir=data_dir,
    use_cached=cache_dir is not None,
    cache_dir=cache_dir,
    module=MODULE,
  )
  batches = source(batch_size=BATCH_SIZE)
  next(batches)  # Has opened as many pieces as are shuffled.
  start_s, start_cpu_s = time.perf_counter(), cpu_s()
  for _ in range(num_batches):
    next(batches)
  examples = BATCH_SIZE * num_batches
  return {
    "clock": examples / (time.perf_counter() - start_s),
    "cpu": 2 * examples / (cpu_s() - start_cpu_s),
  }


def cache(data_dir: str, cache_dir: str) -> dict[str, float]:
  """Caches the pieces of the folder as a user would."""
  start_cpu_s = cpu_s()
  subprocess.run(
    [
      str(Path(sys.executable).with_name("seqio_cache_tasks")),
      "--tasks=folder_pieces",
      f"--module_import={MODULE}",
      f"--tfds_data_dir={data_dir}",
      f"--output_cache_dir={cache_dir}",
    ],
    check=True,
    stdout=sys.stderr,
  )
  return {"spent_s": cpu_s() - start_cpu_s}


def cpu_s() -> float:
  """CPU seconds of this process, its threads, and children that have ended."""
  usages = (
    resource.getrusage(who)
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
  )
  return sum(usage.ru_utime + usage.ru_stime for usage in usages)


MEASUREMENTS: dict[str, Callable[..., dict[str, float]]] = {
  "prepare": prepare,
  "read": read,
  "cache": cache,
}


def measure(name: str, **arguments) -> dict[str, float]:
  """Runs a measurement in a process of its own; adds its peak, in MB."""
  script = [sys.executable, __file__, _CHILD, name, json.dumps(arguments)]
  environment = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
  }
  result = subprocess.run(
    script, stdout=subprocess.PIPE, text=True, check=True, env=environment
  )
  return json.loads(result.stdout.splitlines()[-1])


def run_child(name: str, arguments: str) -> None:
  """What `measure` starts."""
  result = MEASUREMENTS[name](**json.loads(arguments))
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
  print(json.dumps(result | {"memory": peak}), flush=True)
  os._exit(0)  # Threads of TensorFlow may still read.


def measure_size(
  root: Path, songs, count: int, song_s: float, num_batches: int
) -> dict[str, dict[str, float]]:
  """All figures of a dataset of `count` songs."""
  raw, prepared, cached = (
    root / f"{kind}{count}" for kind in ("raw", "prepared", "cached")
  )
  link_songs(songs, raw, count)
  found = {
    "prepare": measure(
      "prepare",
      raw=str(raw),
      data_dir=str(prepared),
      duration_s=count * song_s,
    ),
    "read": measure(
      "read", data_dir=str(prepared), cache_dir=None, num_batches=num_batches
    ),
  }
  measure("cache", data_dir=str(prepared), cache_dir=str(cached))
  found["read cached"] = measure(
    "read",
    data_dir=str(prepared),
    cache_dir=str(cached),
    num_batches=4 * num_batches,
  )
  return found


def table(rows: list[tuple[float, dict[str, dict[str, float]]]]) -> str:
  """The figures as a table in Markdown, smallest dataset first."""
  lines = ["| what | hours | by the clock | by CPU time | memory | wanted |"]
  lines.append("|---|---|---|---|---|---|")
  for name, (wanted, unit) in TARGETS.items():
    for hours, found in rows:
      figures = found[name]
      lines.append(
        f"| {name} | {hours:.2f} | {figures['clock']:.0f} |"
        f" {figures['cpu']:.0f} | {figures['memory']:.0f} MB |"
        f" {wanted} {unit} |"
      )
    first, last = rows[0][1][name], rows[-1][1][name]
    slower = first["cpu"] / last["cpu"]
    larger = last["memory"] / first["memory"]
    factor = rows[-1][0] / rows[0][0]
    lines.append(
      f"| {name}, {factor:.0f} times the data | | | cost x {slower:.2f} |"
      f" x {larger:.2f} | about 1 |"
    )
  return "\n".join(lines)


def main() -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--quick", action="store_true")
  parser.add_argument("--directory", help="where to work; by default in /tmp")
  options = parser.parse_args()
  song_s, counts, num_batches = 180.0, (40, 80, 160), 160
  if options.quick:
    counts, num_batches = (8, 16), 64
  rows = []
  with tempfile.TemporaryDirectory(dir=options.directory) as directory:
    root = Path(directory)
    songs = make_songs(root / "songs", song_s)
    for count in counts:
      hours = count * song_s / 3600
      print(f"{hours:.2f} h of audio", file=sys.stderr, flush=True)
      found = measure_size(root, songs, count, song_s, num_batches)
      rows.append((hours, found))
  print(table(rows))


if __name__ == "__main__":
  if sys.argv[1:2] == [_CHILD]:
    run_child(*sys.argv[2:])
  else:
    main()
