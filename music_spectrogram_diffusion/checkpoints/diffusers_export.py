"""Export as the diffusers package's SpectrogramDiffusionPipeline directories.

What was imported comes out as it was. The place of the inverter stays empty, so
the pipeline is to be asked for `output_type="mel"`.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import json
import os
from pathlib import Path
import re
from typing import Any

from flax import traverse_util
import jax
from jax import numpy as jnp
from jaxtyping import Float
import numpy as np
import safetensors.numpy

from music_spectrogram_diffusion import audio, models
from music_spectrogram_diffusion.checkpoints import (
  diffusers,
  directory,
  downloads,
)
from music_spectrogram_diffusion.diffusion import schedules

_VERSION = "0.27.2"
"""Of diffusers, the format of whose configs this is."""

# Levels of a continuous schedule, and the least beta that diffusers, which
# computes in float32, can work with.
_NUM_LEVELS = 1000
_LEAST_BETA = 1e-6

# Options of a network that the pipeline can have with other values than ours.
_SIZES = (
  "emb_dim",
  "num_heads",
  "head_dim",
  "mlp_dim",
  "num_encoder_layers",
  "num_context_layers",
  "num_decoder_layers",
  "segment_frames",
  "max_tokens",
  "dropout_rate",
  "dtype",
)

# Where the pipeline finds the class of each component. Of the two encoders it
# knows no shorter name, nor does one that diffusers itself has saved load.
_ENCODERS = "diffusers.pipelines.deprecated.spectrogram_diffusion"
_CLASSES = {
  "notes_encoder": (f"{_ENCODERS}.notes_encoder", "SpectrogramNotesEncoder"),
  "continuous_encoder": (
    f"{_ENCODERS}.continuous_encoder",
    "SpectrogramContEncoder",
  ),
  "decoder": ("diffusers", "T5FilmDecoder"),
  "scheduler": ("diffusers", "DDPMScheduler"),
}


def export_diffusers_pipeline(
  config: Mapping[str, Any],
  parameters: Mapping[str, Any],
  path: str | os.PathLike,
  *,
  source: str | os.PathLike = "memory",
  without_guidance: bool = False,
) -> None:
  """Writes a model as the directory of a SpectrogramDiffusionPipeline.

  Args:
    config: The model, as `models.to_config` describes it.
    parameters: Its parameters, under nested names.
    path: The directory, which must not exist.
    source: Where the parameters come from, for the message of an error.
    without_guidance: Whether a model that is sampled with guidance is written
      all the same.

  Raises:
    CheckpointError: The pipeline cannot do what the model does, the parameters
      do not fit the model, or `path` exists.
    OSError: `path` cannot be written.
  """
  model = models.from_config(config)
  if obstacles := list(_obstacles(model, without_guidance)):
    raise directory.CheckpointError(
      f"Expected a model that diffusers can express; its"
      f" SpectrogramDiffusionPipeline has no {', no '.join(obstacles)}."
    )
  directory.check_parameters(
    jax.eval_shape(model.init, jax.random.key(0)), parameters, source
  )
  if os.path.exists(path):
    raise directory.CheckpointError(f"Expected a new directory, got {path}.")
  with downloads.whole_directory(Path(path)) as partial:
    for name, settings in _configs(model).items():
      file = partial / name
      file.parent.mkdir(exist_ok=True)
      text = json.dumps(settings, indent=2, sort_keys=True)
      file.write_text(f"{text}\n", encoding="utf-8")
    for component, (name, names) in diffusers.COMPONENTS.items():
      safetensors.numpy.save_file(
        _rename(parameters[name], names),
        partial / component / diffusers.WEIGHTS,
        metadata={"format": "pt"},
      )


def _obstacles(model: Any, without_guidance: bool) -> Iterator[str]:
  """What the model has or does and the pipeline does not."""
  if not isinstance(model, models.DiffusionModel):
    yield type(model).__name__
    return
  network, spectrogram = model.network, model.spectrogram
  sizes = {name: getattr(network, name) for name in _SIZES}
  for ours, theirs in (
    (network, models.NetworkConfig(**sizes)),
    (spectrogram, audio.SpectrogramConfig(n_mels=spectrogram.n_mels)),
    (model.vocabulary, type(model.vocabulary)()),
  ):
    for field in dataclasses.fields(ours):
      value = getattr(ours, field.name)
      if value != getattr(theirs, field.name):
        yield f"{field.name} of {value}"
  if not network.has_context:
    yield "model without context"
  parameterization = type(model.parameterization).__name__
  if parameterization != "Eps":
    yield f"output other than eps ({parameterization})"
  weight = model.sampling.guidance_weight
  if weight != 1.0 and not without_guidance:
    yield f"guidance, of which this one has a weight of {weight}"


def _configs(model: models.DiffusionModel) -> dict[str, dict[str, Any]]:
  """The JSON files of the pipeline."""
  network = model.network
  transformer = {
    "d_model": network.emb_dim,
    "num_heads": network.num_heads,
    "d_kv": network.head_dim,
    "d_ff": network.mlp_dim,
    "dropout_rate": network.dropout_rate,
  }
  encoder = transformer | {
    "feed_forward_proj": "gated-gelu",
    "is_decoder": False,
  }
  components = {
    "notes_encoder": encoder
    | {
      "max_length": network.max_tokens,
      "num_layers": network.num_encoder_layers,
      "vocab_size": model.vocabulary.table_rows,
    },
    "continuous_encoder": encoder
    | {
      "input_dims": model.spectrogram.n_mels,
      "num_layers": network.num_context_layers,
      "targets_context_length": network.segment_frames,
    },
    "decoder": transformer
    | {
      "input_dims": model.spectrogram.n_mels,
      "max_decoder_noise_time": 20_000.0,
      "num_layers": network.num_decoder_layers,
      "targets_length": network.segment_frames,
    },
    "scheduler": _scheduler(model.schedule),
  }
  files = {
    diffusers.PIPELINE: {
      "_class_name": "SpectrogramDiffusionPipeline",
      "melgan": (None, None),
      **_CLASSES,
    }
  }
  for name, settings in components.items():
    file = "scheduler_config" if name == "scheduler" else "config"
    files[f"{name}/{file}.json"] = settings | {"_class_name": _CLASSES[name][1]}
  return {
    name: settings | {"_diffusers_version": _VERSION}
    for name, settings in files.items()
  }


def _scheduler(schedule: schedules.Schedule) -> dict[str, Any]:
  """A DDPM scheduler; where diffusers has no name for the schedule, by betas.

  Level i has the noise of time i / num_levels, the time at which the network
  is asked.
  """
  settings: dict[str, Any] = {
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "prediction_type": "epsilon",
    "variance_type": "fixed_large",
  }
  if isinstance(schedule, schedules.SquaredCosineSchedule):
    named = schedules.SquaredCosineSchedule(num_levels=schedule.num_levels)
    if schedule == named:
      return settings | {
        "beta_schedule": "squaredcos_cap_v2",
        "num_train_timesteps": schedule.num_levels,
        "trained_betas": None,
      }
  return settings | {
    "num_train_timesteps": _NUM_LEVELS,
    "trained_betas": _betas(schedule).tolist(),
  }


def _betas(schedule: schedules.Schedule) -> Float[np.ndarray, " levels"]:
  """Share of the signal that each level removes from the one below it."""
  times = jnp.arange(_NUM_LEVELS, dtype=jnp.float32) / _NUM_LEVELS
  logsnr = np.asarray(schedule.logsnr(times), np.float64)
  signal = np.minimum(1.0 / (1.0 + np.exp(-logsnr)), 1.0 - _LEAST_BETA)
  return 1.0 - signal / np.append(1.0, signal[:-1])


def _rename(
  parameters: Mapping[str, Any], names: Mapping[str, str]
) -> dict[str, np.ndarray]:
  """The parameters of one component as torch has them."""
  theirs = {ours: name for name, ours in names.items()}
  tensors = {}
  for name, array in traverse_util.flatten_dict(parameters, sep="/").items():
    pattern, layer = name, ""
    if match := re.match(r"layers_(\d+)/", name):
      layer = match[1]
      pattern = name.replace(f"layers_{layer}/", "layers_#/", 1)
    array = np.asarray(array)
    tensors[f"{theirs[pattern].replace('#', layer)}.weight"] = (
      np.ascontiguousarray(array.T if name.endswith("/kernel") else array)
    )
  return tensors
