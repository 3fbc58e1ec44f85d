"""The pipeline gives what the loop gives."""

import functools

import numpy as np
import pytest
import soundfile

pytest.importorskip("apache_beam")

from music_spectrogram_diffusion import audio, inverter, notes  # noqa: E402
from music_spectrogram_diffusion.evaluation import (  # noqa: E402
  beam,
  evaluate,
  log_mel_statistics,
  measures,
  results,
  songs,
  systems,
)

RATE = 16_000
TWO_WORKERS = (
  "--direct_num_workers=2",
  "--direct_running_mode=multi_threading",
)


@pytest.fixture
def source(tmp_path):
  folder = tmp_path / "songs"
  folder.mkdir()
  rng = np.random.default_rng(0)
  for name in "abcde":
    soundfile.write(folder / f"{name}.wav", rng.normal(0, 0.1, 3 * RATE), RATE)
    piece = notes.Notes.from_columns(0.0, 1.0, 60, 90)
    notes.write_midi(piece, folder / f"{name}.mid")
  (folder / "e.wav").write_bytes(b"no audio")
  return songs.FolderSongs(str(folder))


@pytest.fixture
def make_evaluator():
  config = audio.SpectrogramConfig()
  griffin_lim = inverter.GriffinLim(config, num_iterations=1, block_frames=64)
  return functools.partial(
    evaluate.Evaluator,
    systems=(systems.ThroughInverter(griffin_lim),),
    measures=(
      measures.EmbeddingMeasure(log_mel_statistics.LogMelStatistics()),
      measures.SpectralMeasure(),
    ),
  )


def without_seconds(record):
  """A record without what differs from run to run."""
  for entry in record["systems"].values():
    for name in ("measure_s", "render_s", "timing"):
      entry.pop(name, None)
  return record


def test_two_workers_give_what_one_process_gives(
  source, make_evaluator, tmp_path
):
  alone = results.ResultStore(tmp_path / "alone", {})
  list(evaluate.evaluate([source], make_evaluator(), alone))
  spread = results.ResultStore(tmp_path / "spread", {})
  # One is there already, as after a run that was stopped.
  [first] = evaluate.evaluate(
    [songs.FirstSongs(source, 1)], make_evaluator(), spread
  )
  beam.evaluate_with_beam(
    [source],
    make_evaluator,
    spread,
    runner="DirectRunner",
    options=TWO_WORKERS,
  )
  ours, theirs = (
    [without_seconds(record) for record in store.records()]
    for store in (alone, spread)
  )
  assert ours == theirs
  assert [len(record["systems"]) for record in ours] == [2, 2, 2, 2, 0]
  name = "log-mel-statistics FAD"
  for record in ours[:4]:
    one, other = (
      store.arrays(record["key"]).statistics(name, "ground truth")
      for store in (alone, spread)
    )
    assert one.count == other.count == 3
    np.testing.assert_array_equal(one.scatter, other.scatter)
