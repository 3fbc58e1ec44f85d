"""Seqio tasks and mixtures: registrations of the datasets, and no logic.

Importing this registers all of them; `README.md` lists them.
"""

from music_spectrogram_diffusion.tasks import (
  cerberus4,
  folder,
  guitarset,
  maestro,
  mega,
  musicnet,
  published,
  slakh,
  soundfont,
  urmp,
)

__all__ = [
  "cerberus4",
  "folder",
  "guitarset",
  "maestro",
  "mega",
  "musicnet",
  "published",
  "slakh",
  "soundfont",
  "urmp",
]
