"""Which inverter plays a model's spectrograms."""

import dataclasses
import importlib.util
import os
from pathlib import Path
import warnings

import jax

from music_spectrogram_diffusion import audio, checkpoints, inverter

GRIFFIN_LIM = "griffin-lim"


def own_inverter(
  model_path: Path,
  config: audio.SpectrogramConfig,
  *,
  chunk_frames: int,
  follow_notes: bool | None = None,
  dtype: str | None = None,
) -> inverter.Inverter:
  """The inverter that came with a model if it can run, else Griffin-Lim.

  Args:
    model_path: The model directory.
    config: Features of the model.
    chunk_frames: Frames that a stream brings at a time.
    follow_notes: Whether it is told the notes; None for what it is made for.
    dtype: What an inverter of ours makes its products in; None for its own.

  Raises:
    checkpoints.CheckpointError: It is damaged, or of other features.
  """
  if checkpoints.has_inverter(model_path):
    return _neural(model_path, config, chunk_frames, follow_notes, dtype)
  return _told(_published_or_griffin_lim(model_path, config), follow_notes)


def _published_or_griffin_lim(model_path, config) -> inverter.Inverter:
  """The published inverter of a model, if it is there and can run."""
  network = model_path / checkpoints.ONNX_INVERTER
  if network.exists():
    if importlib.util.find_spec("onnxruntime"):
      return inverter.OnnxInverter(network, config)
    warnings.warn(
      "The inverter of this model needs onnxruntime, which is not installed;"
      " Griffin-Lim takes its place. For the published sound,"
      " pip install onnxruntime.",
      stacklevel=4,
    )
  return inverter.GriffinLim(config)


def find_inverter(
  name: str | os.PathLike,
  config: audio.SpectrogramConfig,
  *,
  chunk_frames: int,
  follow_notes: bool | None = None,
  dtype: str | None = None,
) -> inverter.Inverter:
  """The inverter of a name or a path.

  Args:
    name: `griffin-lim`; an ONNX file; the directory of a SavedModel; or of a
      model, or its name, whose inverter is wanted.
    config: Features of the model that it is to play.
    chunk_frames: Frames that a stream brings at a time.
    follow_notes: Whether it is told the notes; None for what it is made for.
    dtype: What an inverter of ours makes its products in; None for its own.

  Raises:
    ValueError: There is none, it cannot be read, or is of other features.
  """
  if name == GRIFFIN_LIM:
    return _told(inverter.GriffinLim(config), follow_notes)
  path = Path(name)
  if path.is_file():
    return _told(inverter.OnnxInverter(path, config), follow_notes)
  if (path / "saved_model.pb").is_file():
    return _told(inverter.SavedModelInverter(path, config), follow_notes)
  found = checkpoints.find_inverter(name)
  return _neural(found, config, chunk_frames, follow_notes, dtype)


def _told(chosen: inverter.Inverter, follow_notes) -> inverter.Inverter:
  """An inverter that makes use of notes, if it is to."""
  return inverter.NoteGuidedInverter(chosen) if follow_notes else chosen


def _neural(
  path: Path,
  config: audio.SpectrogramConfig,
  chunk_frames: int,
  follow_notes: bool | None,
  dtype: str | None,
) -> inverter.Inverter:
  """An inverter of ours, which has to be one of the model's features."""
  generator, parameters = checkpoints.load_inverter(path)
  if generator.spectrogram != config:
    raise checkpoints.CheckpointError(
      f"Expected the inverter in {path} to be one of {config}, got one of"
      f" {generator.spectrogram}."
    )
  if dtype is not None:
    generator = dataclasses.replace(generator, dtype=dtype)
  if follow_notes is None:
    follow_notes = generator.follows_notes
  streamed = generator.uncorrected() if follow_notes else generator
  _, after = streamed.receptive_frames
  # As much as the first chunk gives, so that a stream needs one program; and
  # more for whole spectrograms.
  size = max(1, chunk_frames - after)
  chosen = inverter.NeuralInverter(
    config, generator, jax.device_put(parameters), block_sizes=(size, 4 * size)
  )
  if not follow_notes:
    return chosen
  return inverter.NoteGuidedInverter(chosen, chosen.uncorrected())
