"""How many notes a segment has, and how often they exceed some positions.

  python benchmarks/experiments/positions.py

Counts the notes that sound in windows of 5.12 s: of pieces that the generator
writes, and of those that benchmarks/quality plays.
"""

from collections.abc import Iterable
import pathlib

import numpy as np

from music_spectrogram_diffusion import notes
from music_spectrogram_diffusion.data import generator

POSITIONS = (64, 128, 192, 256, 384)

_WINDOW_S = 5.12
_PIECES = pathlib.Path(__file__).parents[1] / "quality" / "pieces"


def main():
  rng = np.random.default_rng(0)
  generated, real = [], []
  for seed in range(400):
    piece = generator.generate_piece(seed)
    last_s = max(piece.duration_s - _WINDOW_S, 0.0)
    generated += notes_within(piece, rng.uniform(0.0, last_s, 8))
  for path in sorted(_PIECES.glob("*.mid")):
    piece = notes.read_midi(path)
    real += notes_within(piece, np.arange(0.0, piece.duration_s, _WINDOW_S))
  titles = [f"over {positions}" for positions in POSITIONS]
  print(" | ".join(["windows of", "number", "median", "most", *titles]))
  for name, counts in (("the generator", generated), ("real pieces", real)):
    shares = [f"{np.mean(np.greater(counts, p)):.2%}" for p in POSITIONS]
    row = [name, len(counts), f"{np.median(counts):.0f}", max(counts), *shares]
    print(" | ".join(map(str, row)))


def notes_within(piece: notes.Notes, starts_s: Iterable[float]) -> list[int]:
  """Numbers of notes that sound within windows of a piece."""
  return [
    int(np.sum((piece.onset < start + _WINDOW_S) & (piece.offset > start)))
    for start in starts_s
  ]


if __name__ == "__main__":
  main()
