"""What the recipe of the embedded default measures in its data.

The run itself is `gin/aligned.gin`.
"""

from collections.abc import Callable, Iterable
import contextlib
import itertools
import json
import os
from pathlib import Path

from jaxtyping import Float
import numpy as np

from music_spectrogram_diffusion import audio, diffusion
from music_spectrogram_diffusion.training import layout, sources

STATISTICS = "statistics.json"

SIGMA_DATA = 0.4
"""Deviation of a bin that is left when its notes are known, of the whole."""

_SMALLEST_DEVIATION = 0.02


def bin_statistics(
  batches: Iterable[sources.Batch], spectrogram: audio.SpectrogramConfig
) -> tuple[Float[np.ndarray, " mel_bins"], Float[np.ndarray, " mel_bins"]]:
  """Mean and deviation of every mel bin of targets, on the model's scale.

  Args:
    batches: As many as are to be looked at.
    spectrogram: What they hold.
  """
  frames = []
  for batch in batches:
    scaled = audio.scale_log_mel(batch["targets"], spectrogram, clip=True)
    frames.append(scaled[batch["targets_mask"]])
  frames = np.concatenate(frames)
  return frames.mean(axis=0), frames.std(axis=0)


def preconditioning(
  source: Callable[..., sources.BatchIterator],
  run: str | os.PathLike,
  spectrogram: audio.SpectrogramConfig,
  *,
  parameterization: Callable[
    ..., diffusion.parameterization.Parameterization
  ] = diffusion.parameterization.EDM,
  sigma_data: float = SIGMA_DATA,
  num_batches: int = 40,
  batch_size: int = 8,
  given: str | os.PathLike | None = None,
) -> diffusion.parameterization.Parameterization:
  """Preconditioning around the mean of a run's data.

  What was measured is kept in the run's directory, so that a run that goes on
  has the model that it began with, even when the data has grown since.

  Args:
    source: Of the data, as `run.train_model` takes it.
    run: The run's directory.
    spectrogram: What the data holds.
    parameterization: Takes the `mean` and the `deviation` of every bin.
    sigma_data: Deviation of a bin that the model is to predict, of the whole.
    num_batches: How many are looked at, by each host the same.
    batch_size: Examples of each of these.
    given: What another run has measured, whose weights this one begins with: a
      file as `STATISTICS` in a run's directory, or the config.json of a model
      directory. None to measure.

  Raises:
    ValueError: What was measured before cannot be read.
  """
  path = Path(run, STATISTICS)
  if not (path.exists() and layout.has_begun(run)):
    if given is None:
      text = _measured(source, spectrogram, num_batches, batch_size)
    else:
      text = _of_another(Path(given), sigma_data)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, "utf-8")
    partial.replace(path)
  try:
    found = json.loads(path.read_text("utf-8"))
    mean = np.asarray(found["mean"], np.float32)
    deviation = np.asarray(found["deviation"], np.float32)
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f"Cannot read {path}: {error!r}; remove it to measure the data again."
    ) from error
  return parameterization(
    mean=mean,
    deviation=np.maximum(
      np.float32(sigma_data) * deviation, _SMALLEST_DEVIATION
    ),
  )


def _of_another(path: Path, sigma_data: float) -> str:
  """What `STATISTICS` of another run says, or would say of its model."""
  text = path.read_text("utf-8")
  try:
    part = json.loads(text)["model"]["parameterization"]
  except (ValueError, KeyError, TypeError):
    return text
  if not {"mean", "deviation"} <= part.keys():
    raise ValueError(
      f"Expected a model around a mean in {path}, got {part.get('type')}."
    )
  deviation = np.asarray(part["deviation"]) / sigma_data
  return json.dumps({"mean": part["mean"], "deviation": deviation.tolist()})


def _measured(source, spectrogram, num_batches, batch_size) -> str:
  """What `STATISTICS` says of the data."""
  batches = source(batch_size=batch_size, host_index=0, host_count=1, seed=0)
  with contextlib.ExitStack() as stack:
    stack.callback(getattr(batches, "close", lambda: None))
    mean, deviation = bin_statistics(
      itertools.islice(batches, num_batches), spectrogram
    )
  return json.dumps({"mean": mean.tolist(), "deviation": deviation.tolist()})
