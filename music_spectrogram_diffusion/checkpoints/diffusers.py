"""Import of the diffusers package's SpectrogramDiffusionPipeline directories.

The networks are the published ones under other names, with transposed kernels.
What the pipeline does otherwise than the released system: its noise schedule is
discrete, it has no guidance, and where a context is neither empty nor full it
does not shift the positions to end at the last valid frame. An imported model
keeps the first two. With fewer than all noise levels, its steps lie as in
diffusers' spacing "trailing", where the pipeline's default is "leading".
"""

from collections.abc import Mapping
import os
from pathlib import Path
import re
from typing import Any

from flax import traverse_util
import jax

from music_spectrogram_diffusion import audio, models
from music_spectrogram_diffusion.checkpoints import directory, pickles
from music_spectrogram_diffusion.diffusion import schedules

PIPELINE = "model_index.json"
INVERTER = "melgan/model.onnx"
WEIGHTS = "diffusion_pytorch_model.safetensors"
PICKLE = "diffusion_pytorch_model.bin"
NUM_STEPS = 100
"""Sampling steps that the pipeline takes unless told otherwise."""

_MLP = {
  "DenseReluDense.wi_0": "mlp/wi_0/kernel",
  "DenseReluDense.wi_1": "mlp/wi_1/kernel",
  "DenseReluDense.wo": "mlp/wo/kernel",
}


def _prefixed(
  theirs: str, ours: str, names: Mapping[str, str]
) -> dict[str, str]:
  return {theirs + a: ours + b for a, b in names.items()}


# Their names without ".weight", and ours; # is the number of the layer.
_ENCODER_NAMES = {
  "token_embedder": "token_embedder/embedding",
  "input_proj": "input_proj/kernel",
  "position_encoding": "Embed_0/embedding",
  "encoders.#.layer.0.layer_norm": "layers_#/pre_attention_layer_norm/scale",
  **_prefixed(
    "encoders.#.layer.0.SelfAttention.",
    "layers_#/attention/",
    {
      "q": "query/kernel",
      "k": "key/kernel",
      "v": "value/kernel",
      "o": "out/kernel",
    },
  ),
  "encoders.#.layer.1.layer_norm": "layers_#/pre_mlp_layer_norm/scale",
  **_prefixed("encoders.#.layer.1.", "layers_#/", _MLP),
  "layer_norm": "encoder_norm/scale",
}
_ATTENTION = {
  "to_q": "query/kernel",
  "to_k": "key/kernel",
  "to_v": "value/kernel",
  "to_out.0": "out/kernel",
}
_DECODER_NAMES = {
  "conditioning_emb.0": "time_emb_dense0/kernel",
  "conditioning_emb.2": "time_emb_dense1/kernel",
  "position_encoding": "Embed_0/embedding",
  "continuous_inputs_projection": "continuous_inputs_projection/kernel",
  "decoders.#.layer.0.layer_norm": (
    "layers_#/pre_self_attention_layer_norm/scale"
  ),
  "decoders.#.layer.0.FiLMLayer.scale_bias": (
    "layers_#/FiLMLayer_0/DenseGeneral_0/kernel"
  ),
  **_prefixed(
    "decoders.#.layer.0.attention.", "layers_#/self_attention/", _ATTENTION
  ),
  "decoders.#.layer.1.layer_norm": (
    "layers_#/pre_cross_attention_layer_norm/scale"
  ),
  **_prefixed(
    "decoders.#.layer.1.attention.",
    "layers_#/MultiHeadDotProductAttention_0/",
    _ATTENTION,
  ),
  "decoders.#.layer.2.layer_norm": "layers_#/pre_mlp_layer_norm/scale",
  "decoders.#.layer.2.film.scale_bias": (
    "layers_#/FiLMLayer_1/DenseGeneral_0/kernel"
  ),
  **_prefixed("decoders.#.layer.2.", "layers_#/", _MLP),
  "decoder_norm": "decoder_norm/scale",
  "spec_out": "spec_out_dense/kernel",
}
COMPONENTS = {
  "notes_encoder": ("token_encoder", _ENCODER_NAMES),
  "continuous_encoder": ("continuous_encoder", _ENCODER_NAMES),
  "decoder": ("decoder", _DECODER_NAMES),
}

# Settings that the import relies on, each with what diffusers assumes where a
# config, as older ones do, leaves it out.
_SCHEDULER = {
  "_class_name": ("DDPMScheduler", None),
  "beta_schedule": ("squaredcos_cap_v2", "linear"),
  "trained_betas": (None, None),
  "prediction_type": ("epsilon", "epsilon"),
  "variance_type": ("fixed_large", "fixed_small"),
  "clip_sample": (True, True),
  "clip_sample_range": (1.0, 1.0),
  "thresholding": (False, False),
  "rescale_betas_zero_snr": (False, False),
}
_ENCODER = {
  "feed_forward_proj": ("gated-gelu", None),
  "is_decoder": (False, False),
}


def load_diffusers_pipeline(
  path: str | os.PathLike,
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Reads a SpectrogramDiffusionPipeline directory.

  Args:
    path: The directory; it holds one of each component, whose weights are in
      safetensors or, where there are none, in a .bin file of torch, of which
      tensors alone are read.

  Returns:
    The config of the model, for `models.from_config`, and its parameters,
    under nested names.

  Raises:
    CheckpointError: A file is missing or damaged, holds a setting that the
      model cannot follow, parameters that do not fit its sizes, or, as a
      pickle, anything other than tensors.
  """
  path = Path(path)
  model = _read_model(path)
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  parameters = {}
  for component, (name, names) in COMPONENTS.items():
    weights = path / component / WEIGHTS
    if not weights.exists() and (path / component / PICKLE).exists():
      weights = path / component / PICKLE
    parameters[name] = _read_component(weights, names)
    directory.check_parameters(shapes[name], parameters[name], weights)
  return models.to_config(model), parameters


def _read_model(path: Path) -> models.DiffusionModel:
  """The model that the configs of a pipeline describe."""
  files = {name: path / name / "config.json" for name in COMPONENTS}
  configs = {name: _Settings(file) for name, file in files.items()}
  notes_encoder, context_encoder, decoder = configs.values()
  scheduler = _Settings(path / "scheduler" / "scheduler_config.json")
  scheduler.demand(_SCHEDULER)
  notes_encoder.demand(_ENCODER)
  context_encoder.demand(
    _ENCODER | {"targets_context_length": (decoder["targets_length"], None)}
  )
  decoder.demand({"max_decoder_noise_time": (20_000.0, 2_000.0)})
  for encoder in (notes_encoder, context_encoder):
    widths = ("d_model", "num_heads", "d_kv", "d_ff")
    encoder.demand({width: (decoder[width], None) for width in widths})
  return models.DiffusionModel(
    network=models.NetworkConfig(
      emb_dim=decoder["d_model"],
      num_heads=decoder["num_heads"],
      head_dim=decoder["d_kv"],
      mlp_dim=decoder["d_ff"],
      num_encoder_layers=notes_encoder["num_layers"],
      num_context_layers=context_encoder["num_layers"],
      num_decoder_layers=decoder["num_layers"],
      segment_frames=decoder["targets_length"],
      max_tokens=notes_encoder["max_length"],
    ),
    spectrogram=audio.SpectrogramConfig(n_mels=decoder["input_dims"]),
    schedule=schedules.SquaredCosineSchedule(
      num_levels=scheduler["num_train_timesteps"]
    ),
    sampling=models.SamplingConfig(
      sampler="ddpm", num_steps=NUM_STEPS, guidance_weight=1.0
    ),
  )


class _Settings:
  """A component's JSON config, which names itself in its errors."""

  def __init__(self, path: Path):
    self._path = path
    self._values = directory.read_json(path)

  def __getitem__(self, name: str) -> int:
    """A size of the component."""
    value = self._values.get(name)
    if type(value) is not int or value < 1:
      raise directory.CheckpointError(
        f"Expected {name} to be a positive integer in {self._path}, got"
        f" {value!r}."
      )
    return value

  def demand(self, expected: Mapping[str, tuple[Any, Any]]) -> None:
    """Checks settings against pairs of the value needed and the default."""
    for name, (value, default) in expected.items():
      if (found := self._values.get(name, default)) != value:
        raise directory.CheckpointError(
          f"Expected {name} to be {value!r} in {self._path}, got {found!r};"
          " this pipeline cannot be imported."
        )


def _read_component(path: Path, names: Mapping[str, str]) -> dict[str, Any]:
  """The parameters of one component under our names."""
  is_pickle = path.name == PICKLE
  read = pickles.read_torch_tensors if is_pickle else directory.read_tensors
  flat = {}
  for name, array in read(path).items():
    pattern, layer = name.removesuffix(".weight"), ""
    if match := re.match(r"(?:encoders|decoders)\.(\d+)\.", pattern):
      layer = match[1]
      pattern = pattern.replace(f".{layer}.", ".#.", 1)
    ours = names.get(pattern, name).replace("#", layer)
    flat[ours] = array.T if ours.endswith("/kernel") else array
  return traverse_util.unflatten_dict(flat, sep="/")
