"""MusicNet: classical music, with its own labels or those of MusicNetEM."""

from music_spectrogram_diffusion.data import seqio_tasks

seqio_tasks.add_dataset(
  "musicnet",
  seqio_tasks.PreparedSource("musicnet", ("train", "validation", "test")),
)
seqio_tasks.add_dataset(
  "musicnet_em",
  seqio_tasks.PreparedSource("musicnet_em", ("train", "validation", "test")),
)
