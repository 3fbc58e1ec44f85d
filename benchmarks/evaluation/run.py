"""What evaluating costs beside rendering, and whether memory grows with songs.

Run as `python benchmarks/evaluation/run.py`. Generated pieces are rendered by
the embedded model and measured against noise of their length, which costs what
recordings cost. Then many songs are measured without rendering, and the largest
memory that the process has had is told as it goes.
"""

import argparse
from collections.abc import Iterator
import resource
import tempfile
import time

import numpy as np

from music_spectrogram_diffusion import audio, data, evaluation, inference
from music_spectrogram_diffusion.evaluation import (
  evaluate,
  log_mel_statistics,
  measures,
  report,
  results,
  songs,
  systems,
)

RATE = audio.SpectrogramConfig().sample_rate
MEASURES = (
  measures.EmbeddingMeasure(log_mel_statistics.LogMelStatistics()),
  measures.SpectralMeasure(),
)


def made_songs(count: int, seconds: float) -> Iterator[songs.Song]:
  """Generated pieces, and noise in place of their recordings."""
  for seed in range(count):
    samples = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))
    piece = data.generate_piece(seed, seconds)
    yield songs.first_minutes(
      "made", str(seed), samples.astype(np.float32), piece
    )


class Louder:
  """A system that costs nothing."""

  name = "louder"

  def __call__(self, song: evaluation.Song) -> systems.Rendering:
    """The recording, a little louder."""
    return systems.Rendering(song.samples * np.float32(1.1))


def peak_mib() -> float:
  """The most memory that the process has had."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tell_overhead(count: int, seconds: float, store: results.ResultStore):
  """Seconds of rendering, of measuring it, and of both kinds of measures."""
  synthesizer = inference.Synthesizer.from_pretrained()
  rows = systems.systems_of_models({"default": synthesizer}, {}, seed=0)
  evaluator = evaluate.Evaluator(tuple(rows), MEASURES)
  render_s, measure_s, alone_s = [], [], {m.name: 0.0 for m in MEASURES}
  for song in made_songs(count, seconds):
    result = evaluate.evaluate_song(song, evaluator)
    store.add(result)
    entries = result.record["systems"]
    # Of the model and of its inverter; and of these and the recording.
    render_s.append(sum(e.get("render_s", 0.0) for e in entries.values()))
    measure_s.append(sum(entry["measure_s"] for entry in entries.values()))
    for measure in MEASURES:
      start = time.perf_counter()
      reference, estimate = (
        measure.features(samples, song.key)
        for samples in (song.samples, song.samples * np.float32(1.1))
      )
      measure.scores(song, reference, estimate)
      measure.statistics(estimate)
      alone_s[measure.name] += time.perf_counter() - start
  audio_s = count * seconds
  print(f"{count} songs of {seconds:g} s, rendered by the embedded model")
  print(
    f"rendering            {sum(render_s) / audio_s:.4f} s a second of audio"
  )
  for name, spent_s in alone_s.items():
    print(f"{name:<20} {spent_s / audio_s:.4f} s")
  # Of the first song, rendering includes compiling.
  parts = {"all songs": slice(None), "but the first": slice(1, None)}
  for title, part in parts.items():
    if render_s[part]:
      share = sum(measure_s[part]) / sum(render_s[part])
      print(f"overhead, {title:<14} {share:.1%} of rendering")


def tell_memory(count: int, seconds: float, store: results.ResultStore) -> None:
  """Largest memory after a few songs, and after all of them."""
  evaluator = evaluate.Evaluator((Louder(),), MEASURES)
  print(f"{count} songs of {seconds:g} s, not rendered: largest memory so far")
  for number, song in enumerate(made_songs(count, seconds), 1):
    store.add(evaluate.evaluate_song(song, evaluator))
    if number in {3, count // 2, count}:
      print(f"{number:>4} songs {peak_mib():8.0f} MiB")
  start = time.perf_counter()
  report.summarize(store)
  print(
    f"the report with its interval: {time.perf_counter() - start:.1f} s,"
    f" {peak_mib():.0f} MiB"
  )


def main() -> None:
  """Reads the command line."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--songs", type=int, default=4, help="rendered")
  parser.add_argument("--seconds", type=float, default=60.0, help="of each")
  parser.add_argument("--memory_songs", type=int, default=60)
  settings = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    store = results.ResultStore(f"{folder}/memory", {})
    tell_memory(settings.memory_songs, settings.seconds, store)
    store = results.ResultStore(f"{folder}/overhead", {})
    tell_overhead(settings.songs, settings.seconds, store)


if __name__ == "__main__":
  main()
