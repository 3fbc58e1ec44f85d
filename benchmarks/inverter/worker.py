"""Serves an inverter of ours: worker.py NAME MEL.npy, as speed.py wrote it."""

import pathlib
import sys

import served

served.use_two_cores()

# JAX and NumPy count the cores when they are imported, as all of these do.
import candidates  # noqa: E402
import numpy as np  # noqa: E402

from music_spectrogram_diffusion import notes  # noqa: E402

_CHUNK_FRAMES = 256  # As the synthesizer hands them out.


def main():
  """Serves until it is told to end."""
  name, mel = sys.argv[1:]
  with np.load(pathlib.Path(mel).with_suffix(".npz")) as columns:
    played = notes.Notes(**columns)
  log_mel = np.load(mel)
  served.serve(lambda: load(name, log_mel, played))


def load(name: str, log_mel: np.ndarray, played: notes.Notes) -> served.Served:
  """Builds an inverter, and what is measured of it."""
  invert = candidates.build(name)
  chunks = [
    log_mel[start : start + _CHUNK_FRAMES]
    for start in range(0, len(log_mel), _CHUNK_FRAMES)
  ]
  return served.Served(
    invert=lambda: invert(log_mel, played),
    first=lambda: _first(invert, chunks, played),
    frames_needed=lambda: _frames_needed(invert, log_mel, played),
    num_parameters=candidates.num_parameters(invert),
  )


def _first(invert, chunks, played):
  """Streams until there is enough; fewer samples if the spectrogram ends."""
  wanted = served.FIRST_S * invert.config.sample_rate
  found = 0
  for samples in invert.stream(chunks, played):
    found += len(samples)
    if found >= wanted:
      return


def _frames_needed(invert, log_mel, played):
  """Frames that the stream has taken, one by one, when there is enough."""
  taken = 0

  def frames():
    nonlocal taken
    for frame in log_mel:
      taken += 1
      yield frame[None]

  _first(invert, frames(), played)
  return taken


if __name__ == "__main__":
  main()
