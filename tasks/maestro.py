"""MAESTRO v3: piano."""

from music_spectrogram_diffusion.data import seqio_tasks

seqio_tasks.add_dataset(
  "maestro",
  seqio_tasks.PreparedSource("maestro", ("train", "validation", "test")),
)
