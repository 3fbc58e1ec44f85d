"""Cerberus4: piano, guitar, bass and drums of Slakh2100."""

from music_spectrogram_diffusion.data import seqio_tasks

seqio_tasks.add_dataset(
  "cerberus4",
  seqio_tasks.PreparedSource("cerberus4", ("train", "validation", "test")),
)
