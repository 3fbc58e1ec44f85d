"""GuitarSet: acoustic guitar. It has no test split."""

from music_spectrogram_diffusion.data import seqio_tasks

seqio_tasks.add_dataset(
  "guitarset",
  seqio_tasks.PreparedSource("guitarset", ("train", "validation")),
)
