"""Makes training songs: generated pieces and MIDI files on a soundfont.

`python -m music_spectrogram_diffusion.data.prepare_soundfont --out DIR`
"""

import argparse
from pathlib import Path
import sys

from music_spectrogram_diffusion import notes
from music_spectrogram_diffusion.audio import SpectrogramConfig
from music_spectrogram_diffusion.data import generator, songs, soundfont


def prepare_soundfont(
  out: Path,
  *,
  hours: float,
  seed: int = 0,
  midi: Path | None = None,
  soundfont_path: Path | None = None,
  num_workers: int = 2,
) -> float:
  """Fills `out` with songs, showing progress on stderr.

  Args:
    out: Directory of the songs; what is there already is kept.
    hours: Audio to generate, about; the seeds count up from `seed`.
    seed: First seed.
    midi: Directory of MIDI files to render too, searched recursively.
    soundfont_path: The soundfont; by default the one of this machine.
    num_workers: Processes to render in.

  Returns:
    Hours of audio in songs of this call.
  """
  num_pieces = round(hours * 3600 / generator.MEAN_DURATION_S)
  pieces = []
  if midi is not None:
    files = sorted(Path(midi).rglob("*"))
    pieces = [f for f in files if f.suffix.lower() in notes.MIDI_SUFFIXES]
  pieces += range(seed, seed + num_pieces)
  total_s = 0.0
  progress = songs.prepare_songs(
    out,
    pieces,
    soundfont_path=soundfont_path or soundfont.find_soundfont(),
    config=SpectrogramConfig(),
    num_workers=num_workers,
  )
  for count, (name, duration_s) in enumerate(progress, 1):
    total_s += duration_s
    line = f"{count}/{len(pieces)} songs, {total_s / 3600:.2f} h ({name})"
    print(f"\r{line}", end="", file=sys.stderr, flush=True)
  print(file=sys.stderr)
  return total_s / 3600


def main():
  """Runs `prepare_soundfont` from the command line."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--out", type=Path, required=True)
  parser.add_argument("--hours", type=float, default=8.0)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--midi", type=Path)
  parser.add_argument("--soundfont", type=Path)
  parser.add_argument("--workers", type=int, default=2)
  args = parser.parse_args()
  try:
    prepare_soundfont(
      args.out,
      hours=args.hours,
      seed=args.seed,
      midi=args.midi,
      soundfont_path=args.soundfont,
      num_workers=args.workers,
    )
  except ValueError as error:
    print(f"\n{error}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
  main()
