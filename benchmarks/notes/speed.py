"""CPU time of notes to tokens and back, and of MIDI files, by number of notes.

Run as `python benchmarks/notes/speed.py`. The pieces have 100 000 notes an
hour; a ratio of 2 from row to row means that cost grows linearly.
"""

from collections.abc import Callable
import pathlib
import tempfile
import time

import numpy as np

from music_spectrogram_diffusion import notes

NOTES_PER_HOUR = 100_000
REPEATS = 5


def random_piece(num_notes: int) -> notes.Notes:
  """Notes of four instruments and drums, half a second long on average."""
  rng = np.random.default_rng(0)
  onset = np.sort(rng.uniform(0, 3600 * num_notes / NOTES_PER_HOUR, num_notes))
  is_drum = rng.random(num_notes) < 0.2
  program = rng.choice([0, 33, 48, 73], num_notes)
  return notes.trim_overlaps(
    notes.Notes.from_columns(
      onset,
      onset + 0.01 + rng.exponential(0.5, num_notes),
      rng.integers(21, 109, num_notes),
      rng.integers(1, 128, num_notes),
      np.where(is_drum, 0, program),
      is_drum,
    )
  )


def shortest_s(function: Callable[[], object]) -> float:
  """CPU seconds of the fastest of some calls."""
  times = []
  for _ in range(REPEATS):
    start = time.process_time()
    function()
    times.append(time.process_time() - start)
  return min(times)


def measure(num_notes: int, path: pathlib.Path) -> dict[str, float]:
  """Seconds of each way that a piece takes."""
  piece = random_piece(num_notes)
  vocabulary = notes.Vocabulary()
  segments = notes.tokenize_segments(piece, vocabulary=vocabulary)
  notes.write_midi(piece, path)
  return {
    "tokenize": shortest_s(
      lambda: notes.tokenize_segments(piece, vocabulary=vocabulary)
    ),
    "detokenize": shortest_s(
      lambda: notes.detokenize_segments(segments, vocabulary=vocabulary)
    ),
    "read_midi": shortest_s(lambda: notes.read_midi(path)),
  }


def main():
  before = None
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "piece.mid"
    for num_notes in (25_000, 50_000, 100_000, 200_000):
      seconds = measure(num_notes, path)
      if before is None:
        heads = (f"{way + ' s':>13}  ratio" for way in seconds)
        print(f"{'notes':>7}  hours", *heads)
      hours = num_notes / NOTES_PER_HOUR
      cells = (
        f"{value:13.3f}  "
        + (f"{value / before[way]:5.2f}" if before else " " * 5)
        for way, value in seconds.items()
      )
      print(f"{num_notes:7}  {hours:5.2f}", *cells, flush=True)
      before = seconds


if __name__ == "__main__":
  main()
