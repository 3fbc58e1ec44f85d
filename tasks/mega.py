"""The paper's mixture of its six datasets, as prepared or as published."""

from music_spectrogram_diffusion.tasks import (  # noqa: F401
  cerberus4,
  guitarset,
  maestro,
  musicnet,
  published,
  slakh,
  urmp,
)

from music_spectrogram_diffusion.data import seqio_tasks

DATASETS = ("maestro", "slakh", "cerberus4", "guitarset", "musicnet", "urmp")

seqio_tasks.add_mixture("mega", DATASETS)
seqio_tasks.add_mixture(
  "published_mega", [f"published_{dataset}" for dataset in DATASETS]
)
