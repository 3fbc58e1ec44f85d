"""Slakh2100: synthesised bands, ten mixes of each training track."""

from music_spectrogram_diffusion.data import seqio_tasks

seqio_tasks.add_dataset(
  "slakh",
  seqio_tasks.PreparedSource("slakh", ("train", "validation", "test")),
)
