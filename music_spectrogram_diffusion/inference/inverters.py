"""Which inverter plays a model's spectrograms."""

import importlib.util
import os
from pathlib import Path
import warnings

import jax

from music_spectrogram_diffusion import audio, checkpoints, inverter

GRIFFIN_LIM = "griffin-lim"


def own_inverter(
  model_path: Path, config: audio.SpectrogramConfig, *, chunk_frames: int
) -> inverter.Inverter:
  """The inverter that came with a model if it can run, else Griffin-Lim.

  Args:
    model_path: The model directory.
    config: Features of the model.
    chunk_frames: Frames that a stream brings at a time.

  Raises:
    checkpoints.CheckpointError: It is damaged, or of other features.
  """
  if checkpoints.has_inverter(model_path):
    return _neural(model_path, config, chunk_frames)
  network = model_path / checkpoints.ONNX_INVERTER
  if network.exists():
    if importlib.util.find_spec("onnxruntime"):
      return inverter.OnnxInverter(network, config)
    warnings.warn(
      "The inverter of this model needs onnxruntime, which is not installed;"
      " Griffin-Lim takes its place. For the published sound,"
      " pip install onnxruntime.",
      stacklevel=3,
    )
  return inverter.GriffinLim(config)


def find_inverter(
  name: str | os.PathLike,
  config: audio.SpectrogramConfig,
  *,
  chunk_frames: int,
) -> inverter.Inverter:
  """The inverter of a name or a path.

  Args:
    name: `griffin-lim`; an ONNX file; the directory of a SavedModel; or of a
      model, or its name, whose inverter is wanted.
    config: Features of the model that it is to play.
    chunk_frames: Frames that a stream brings at a time.

  Raises:
    ValueError: There is none, it cannot be read, or is of other features.
  """
  if name == GRIFFIN_LIM:
    return inverter.GriffinLim(config)
  path = Path(name)
  if path.is_file():
    return inverter.OnnxInverter(path, config)
  if (path / "saved_model.pb").is_file():
    return inverter.SavedModelInverter(path, config)
  return _neural(checkpoints.find_inverter(name), config, chunk_frames)


def _neural(
  path: Path, config: audio.SpectrogramConfig, chunk_frames: int
) -> inverter.NeuralInverter:
  """An inverter of ours, which has to be one of the model's features."""
  generator, parameters = checkpoints.load_inverter(path)
  if generator.spectrogram != config:
    raise checkpoints.CheckpointError(
      f"Expected the inverter in {path} to be one of {config}, got one of"
      f" {generator.spectrogram}."
    )
  _, after = generator.receptive_frames
  # As much as the first chunk gives, so that a stream needs one program; and
  # more for whole spectrograms.
  size = max(1, chunk_frames - after)
  return inverter.NeuralInverter(
    config, generator, jax.device_put(parameters), block_sizes=(size, 4 * size)
  )
