"""Audio beside what a synthesiser makes of its notes: for inverters."""

from collections.abc import Callable, Mapping
import functools
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from music_spectrogram_diffusion import data, models
from music_spectrogram_diffusion.training import inverter_learner, sources


class SynthesisedBatches:
  """Batches of audio, and of the log-mel that a model predicts for it.

  The model is told the notes and the true spectrogram before each window. So an
  inverter learns to make the true audio of spectrograms as blurred as they will
  be.

  Args:
    windows: Batches of the training contract with `audio` of the targets and
      the hop after them.
    model: The synthesiser.
    parameters: Its parameters.
    sampling: Settings of its `predict` in place of its own.
    seed: Seeds the noise.
  """

  def __init__(
    self,
    windows: sources.BatchIterator,
    model: models.DiffusionModel | models.AutoregressiveModel,
    parameters: Mapping[str, Any],
    *,
    sampling: Mapping[str, Any] | None = None,
    seed: int = 0,
  ):
    self._windows = windows
    self._model = model
    self._parameters = jax.device_put(parameters)
    self._sampling = dict(sampling or {})
    self._key = jax.random.key(seed)

  def __iter__(self) -> "SynthesisedBatches":
    return self

  def __next__(self) -> sources.Batch:
    """The next batch: `audio` and `log_mel`."""
    # The same noise for the same windows, when a run goes on.
    state = np.frombuffer(self._windows.get_state(), np.uint8).astype(np.uint32)
    key = functools.reduce(jax.random.fold_in, state, self._key)
    batch = next(self._windows)
    log_mel = self._model.predict(
      self._parameters,
      batch["note_tokens"],
      batch["context"],
      batch["context_mask"],
      key,
      **self._sampling,
    )
    return {
      inverter_learner.AUDIO: batch[inverter_learner.AUDIO],
      inverter_learner.LOG_MEL: np.asarray(log_mel),
    }

  def get_state(self) -> bytes:
    """Where the windows stand."""
    return self._windows.get_state()

  def set_state(self, state: bytes) -> None:
    """Goes on from there."""
    self._windows.set_state(state)

  def close(self) -> None:
    """Ends what the windows have started."""
    self._windows.close()


def synthesised_audio(
  *,
  batch_size: int,
  host_index: int = 0,
  host_count: int = 1,
  seed: int = 0,
  synthesizer: str | os.PathLike | None = None,
  find: Callable[[str | os.PathLike | None], Path],
  read: Callable[[Path], tuple[Mapping[str, Any], Mapping[str, Any]]],
  sampling: Mapping[str, Any] | None = None,
  soundfont: str | os.PathLike | None = None,
  max_tokens: int = 768,
  num_workers: int = 2,
  windows_per_piece: int = 8,
) -> SynthesisedBatches:
  """Pieces that are composed and played, and what a model makes of them.

  Args:
    batch_size: Windows of this host's share of a batch.
    host_index: Which of several hosts this is; each has pieces of its own.
    host_count: How many hosts make a batch together.
    seed: Another seed gives other pieces and other noise.
    synthesizer: A model directory or a name; None for the embedded model.
    find: Gives the model directory: `checkpoints.find_model`.
    read: Reads it: `checkpoints.load_model_directory`.
    sampling: Settings of the model's `predict` in place of its own.
    soundfont: The soundfont; None for the one of this machine.
    max_tokens: Most note tokens of a window.
    num_workers: Processes that play; with 0, this one.
    windows_per_piece: Windows that are cut out of each piece.

  Raises:
    ValueError: There is no such model or soundfont.
  """
  config, parameters = read(find(synthesizer))
  model = models.from_config(config["model"])
  windows = data.LiveWindows(
    soundfont or data.find_soundfont(),
    data.AudioWindowCutter(
      vocabulary=model.vocabulary,
      config=model.spectrogram,
      max_tokens=max_tokens,
      segment_frames=model.network.segment_frames,
    ),
    batch_size=batch_size,
    seed=seed,
    host_index=host_index,
    host_count=host_count,
    num_workers=num_workers,
    windows_per_piece=windows_per_piece,
  )
  return SynthesisedBatches(
    windows, model, parameters, sampling=sampling, seed=seed
  )
