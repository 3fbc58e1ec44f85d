"""URMP: chamber music. It has no test split."""

from music_spectrogram_diffusion.data import seqio_tasks

seqio_tasks.add_dataset(
  "urmp",
  seqio_tasks.PreparedSource("urmp", ("train", "validation")),
)
