"""Anyone's own audio and MIDI files, prepared from two folders."""

from music_spectrogram_diffusion.data import seqio_tasks

seqio_tasks.add_dataset(
  "folder",
  seqio_tasks.PreparedSource("folder", ("train", "validation")),
)
