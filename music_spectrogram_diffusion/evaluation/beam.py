"""The same evaluation as an Apache Beam pipeline, song by song.

Workers load the models once, evaluate the songs of their shares, and leave the
results in the folder of the store, which they must see. Needs apache-beam
(extra `data`).
"""

from collections.abc import Callable, Sequence

import apache_beam as beam
from apache_beam.options import pipeline_options

from music_spectrogram_diffusion.evaluation import evaluate, results
from music_spectrogram_diffusion.evaluation.songs import SongSource

_QUIET = ("--default_sdk_harness_log_level=WARNING",)


def evaluate_with_beam(
  sources: Sequence[SongSource],
  make_evaluator: Callable[[], evaluate.Evaluator],
  store: results.ResultStore,
  *,
  runner: str,
  options: Sequence[str] = (),
) -> None:
  """Evaluates the songs that a store does not have yet.

  Args:
    sources: Whose songs; pickled, as is `make_evaluator`.
    make_evaluator: Makes what is evaluated, once a worker.
    store: Gets the results; its folder is seen by all workers.
    runner: Name of a Beam runner.
    options: Flags for Beam, such as `--direct_num_workers=2`.
  """
  shares = [
    (source, shard, num_shards)
    for source in sources
    for num_shards in [source.num_shards()]
    for shard in range(num_shards)
  ]
  worker = _Worker(make_evaluator, store.directory, store.keys)
  # There are no triggers. It keeps the DirectRunner from downloading another.
  flags = ["--allow_unsafe_triggers", *_QUIET, *options]
  parsed = pipeline_options.PipelineOptions(flags, runner=runner)
  try:
    with beam.Pipeline(options=parsed) as pipeline:
      _ = (
        pipeline
        | "Shares" >> beam.Create(shares)
        | "Spread" >> beam.Reshuffle()
        | "Evaluate" >> beam.ParDo(worker)
      )
  finally:
    store.collect()


class _Worker(beam.DoFn):
  """Evaluates shares of songs, and leaves the results in a folder."""

  def __init__(self, make_evaluator, directory, done):
    self._make_evaluator = make_evaluator
    self._directory = directory
    self._done = done

  def setup(self):
    self._evaluator = self._make_evaluator()

  def process(self, share):
    source, shard, num_shards = share
    for entry in source.read(shard, num_shards):
      if entry.key not in self._done:
        result = evaluate.evaluate_entry(entry, self._evaluator)
        results.leave(self._directory, result)
        yield entry.key
