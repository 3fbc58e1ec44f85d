"""Pieces played by a soundfont."""

from music_spectrogram_diffusion.data import seqio_tasks

seqio_tasks.add_dataset(
  "soundfont",
  seqio_tasks.PreparedSource("soundfont", ("train", "validation")),
)
