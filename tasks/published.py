"""The TFRecords that MT3 and Magenta published, as tasks `published_*`."""

from music_spectrogram_diffusion.data import (
  published_datasets,
  published_records,
  seqio_tasks,
)

for dataset in published_datasets.DATASETS:
  seqio_tasks.add_dataset(
    f"published_{dataset}",
    published_records.PublishedSource(dataset, seqio_tasks.records_dir),
  )
