"""A few examples of a seqio task, as a person looks at them."""

from collections.abc import Iterator, Mapping
import dataclasses
import logging
import math
import os
from typing import Any

from jaxtyping import Float32, Int32
import numpy as np

from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion import quietly
from music_spectrogram_diffusion.audio import SpectrogramConfig
from music_spectrogram_diffusion.data import alignment

_LENGTHS = {"inputs": 2048, "targets": 256, "targets_context": 256}
_SEGMENT_FRAMES = _LENGTHS["targets"]
_PASSED = ("id", "first_frame", "audio")
_MAX_LAG_S = 1.0  # A window of a few seconds has room for no more.


@dataclasses.dataclass(frozen=True)
class TaskExample:
  """An example of a task, decoded.

  Attributes:
    id: The song; empty if the task does not tell.
    first_frame: Frame of the song where the targets start.
    tokens: Note tokens of each segment, without padding.
    notes: What these say; times count from the start of the targets.
    targets: Natural-log mel spectrogram.
    context: What precedes it; maybe no frames.
    audio: The recording, where the task has it.
    found: How notes and spectrogram lie to each other.
    vocabulary: Ids of the tokens.
    config: How the spectrogram was made.
  """

  id: str
  first_frame: int
  tokens: list[Int32[np.ndarray, " _"]]
  notes: notes_lib.Notes
  targets: Float32[np.ndarray, "frames mel_bins"]
  context: Float32[np.ndarray, "context_frames mel_bins"]
  audio: Float32[np.ndarray, " samples"] | None
  found: alignment.Alignment
  vocabulary: notes_lib.Vocabulary
  config: SpectrogramConfig


def read_task_examples(
  task: str,
  *,
  split: str = "train",
  count: int = 4,
  max_s: float = 30.0,
  seed: int = 0,
  data_dir: str | os.PathLike | None = None,
  cache_dir: str | os.PathLike | None = None,
  module: str = "music_spectrogram_diffusion.tasks",
) -> Iterator[TaskExample]:
  """Reads the first examples of a task or mixture, shuffled.

  Args:
    task: Its name, or that of a dataset.
    split: The dataset's split.
    count: How many.
    max_s: Of whole songs, how many seconds; windows are always whole.
    seed: Another seed gives other ones.
    data_dir: As of `seqio_source.SeqioSource`.
    cache_dir: Where `seqio_cache_tasks` wrote, to read that.
    module: Module that registers tasks.

  Raises:
    ValueError: There is no such task, no such data, or nothing to look at.
  """
  # TFDS tells of itself, at length.
  logging.getLogger("absl").setLevel(logging.ERROR)
  try:
    tf = quietly.import_tensorflow()
    import seqio

    from music_spectrogram_diffusion.data import seqio_source
  except ModuleNotFoundError as error:
    raise ValueError(
      f"Looking at tasks needs {error.name}:"
      " `pip install 'music-spectrogram-diffusion[data]'`."
    ) from error
  provider = seqio_source.SeqioSource(
    name=task, lengths=_LENGTHS, module=module
  ).provider()
  if data_dir is not None:
    seqio.set_tfds_data_dir_override(os.fspath(data_dir))
  if cache_dir is not None:
    seqio.add_global_cache_dirs([os.fspath(cache_dir)])
  missing = {"inputs", "targets"} - set(provider.output_features)
  if missing:
    raise ValueError(
      f"Expected a task with notes (inputs) and spectrograms (targets), got"
      f" {provider.name} without {' and '.join(sorted(missing))}."
    )
  tf.config.set_visible_devices([], "GPU")  # JAX has it.
  passed = {"passthrough_features": list(_PASSED)}
  try:
    dataset = provider.get_dataset(
      None,
      split=split,
      use_cached=cache_dir is not None,
      shuffle=True,
      seed=seed,
      **(passed if isinstance(provider, seqio.Mixture) else {}),
    )
    rows = dataset.take(count).as_numpy_iterator()
    yield from (_decode(row, max_s) for row in rows)
  except (AssertionError, OSError) as error:
    raise ValueError(f"Cannot read {provider.name}: {error}") from error


def _decode(row: Mapping[str, Any], max_s: float) -> TaskExample:
  """What a row of a task holds, of the vocabulary and features of our tasks."""
  config, vocabulary = SpectrogramConfig(), notes_lib.Vocabulary()
  tokens, targets, audio = row["inputs"], row["targets"], row.get("audio")
  if tokens.ndim == 2:
    num_segments = math.ceil(max_s * config.frame_rate / _SEGMENT_FRAMES)
    tokens = tokens[:num_segments]
    targets = targets[: num_segments * _SEGMENT_FRAMES]
  segments = [segment[segment > 0] for segment in np.atleast_2d(tokens)]
  notes = notes_lib.detokenize_segments(
    segments,
    vocabulary=vocabulary,
    segment_frames=_SEGMENT_FRAMES,
    frame_rate=config.frame_rate,
  )
  if audio is not None:
    audio = audio[: len(targets) * config.hop_length]
  return TaskExample(
    id=row.get("id", b"").decode(),
    first_frame=int(row.get("first_frame", 0)),
    tokens=segments,
    notes=notes,
    targets=targets,
    context=row.get("targets_context", targets[:0]),
    audio=audio,
    found=alignment.align_gains(
      alignment.mel_gains(targets),
      # What is held from before may have no onset here.
      notes[notes.onset > 0],
      config=config,
      max_lag_s=_MAX_LAG_S,
    ),
    vocabulary=vocabulary,
    config=config,
  )
