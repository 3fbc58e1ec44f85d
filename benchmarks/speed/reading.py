"""What a process reads of itself, and a song that it may play."""

import numpy as np

from music_spectrogram_diffusion import notes

_NOTES_A_SECOND = 8  # A piano with a bass: about 200 tokens a segment.
_MB = 1e6


def song(duration_s: float) -> notes.Notes:
  """Chords and a melody, about as dense as a song."""
  count = round(duration_s * _NOTES_A_SECOND)
  onset = np.arange(count) / _NOTES_A_SECOND
  pitch = 48 + (np.arange(count) * 7) % 36
  program = np.where(np.arange(count) % 4 == 0, 32, 0)
  return notes.Notes.from_columns(
    onset, onset + 0.4, pitch, 90, program=program
  )


def memory_mb(field: str) -> float:
  """A line of /proc/self/status: VmRSS now, VmHWM the peak so far.

  Not getrusage: its peak is inherited from the process that started this one.
  """
  with open("/proc/self/status") as file:
    for line in file:
      if line.startswith(field):
        return int(line.split()[1]) * 1024 / _MB
  raise OSError(f"Expected {field} in /proc/self/status, found none.")
