"""Import of the checkpoints of t5x, the form of the released weights.

The directory `checkpoint_STEP` holds a msgpack file, `checkpoint`, in which the
place of an array is taken by a description, and one folder for each of these
arrays, in zarr. Newer versions of t5x can leave both to Orbax, in a folder
`state`. What was trained says `config.gin`, most often in the directory above.
Parameters have the names and the shapes of our own, but for the cross-attention
of the autoregressive model, whose name is its own.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
import functools
import os
from pathlib import Path, PurePosixPath
import re
from typing import Any

from flax import serialization, traverse_util
import jax
from jax import numpy as jnp
from jaxtyping import Float32
import numpy as np

from music_spectrogram_diffusion import models, notes
from music_spectrogram_diffusion.checkpoints import directory, gin_config
from music_spectrogram_diffusion.diffusion import parameterization

CONFIG = "config.gin"
DESCRIPTION = "model.json"
"""Beside the former where one of our models was trained: what it is."""
STATE = "checkpoint"
ORBAX_STATE = "state"

# Above any size in use, so that no config asks for a model beyond all bounds.
_MOST_LAYERS = 100
_MOST = 1 << 16

_Model = models.DiffusionModel | models.AutoregressiveModel


def load_t5x_checkpoint(
  path: str | os.PathLike,
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Reads the parameters of a t5x checkpoint, and which model they make.

  Args:
    path: The directory of a step, or one with several, of which the last is
      read.

  Returns:
    The config of the model, for `models.from_config`, and its parameters,
    under nested names.

  Raises:
    CheckpointError: A file is missing or damaged, a setting is one that the
      model cannot follow, or parameters do not fit its sizes.
  """
  path = find_step(Path(path).absolute())
  model, is_ours = _find_model(path)
  shapes = traverse_util.flatten_dict(
    jax.eval_shape(model.init, jax.random.key(0)), sep="/"
  )
  names = {
    name if is_ours else _published_name(name, model): name for name in shapes
  }
  stored = open_arrays(path)
  directory.check_parameters(
    {published: shapes[name] for published, name in names.items()}, stored, path
  )
  parameters = {
    names[published]: array
    for published, array in read_arrays(stored, path).items()
  }
  return models.to_config(model), traverse_util.unflatten_dict(
    parameters, sep="/"
  )


def _find_model(path: Path) -> tuple[_Model, bool]:
  """What was trained, and whether it was ours: then our adapter says it."""
  for folder in (path, path.parent):
    if (described := folder / DESCRIPTION).is_file():
      try:
        return models.from_config(directory.read_json(described)), True
      except ValueError as error:
        raise directory.CheckpointError(
          f"Cannot read {described}: {error}"
        ) from error
  beside = path / CONFIG
  beside = beside if beside.exists() else path.parent / CONFIG
  return _read_model(beside), False


def _published_name(name: str, model: _Model) -> str:
  """What a checkpoint calls one of our parameters."""
  if isinstance(model, models.AutoregressiveModel):
    ours, theirs = "MultiHeadDotProductAttention_0", "encoder_decoder_attention"
    return name.replace(f"/{ours}/", f"/{theirs}/")
  return name


def find_step(path: Path) -> Path:
  """The directory of a step: `path` itself, or the last one in it."""
  steps = {
    int(step): found
    for found in path.glob("checkpoint_*")
    if (step := found.name.rpartition("_")[2]).isdecimal()
  }
  for found in (path, *(steps[step] for step in sorted(steps, reverse=True))):
    if (found / STATE).is_file() or (found / ORBAX_STATE).is_dir():
      return found
  raise directory.CheckpointError(
    f"Expected a t5x checkpoint in {path}; it has no file {STATE!r}, no folder"
    f" {ORBAX_STATE!r} and no folder checkpoint_STEP with one of them."
  )


def open_arrays(path: Path) -> dict[str, Any]:
  """Opens the stored parameters, as arrays of tensorstore by their names.

  Those that are not there are left out.
  """
  # Imported here, since it takes long and few who load models need it.
  import tensorstore

  arrays, places = {}, {}
  if (path / STATE).is_file():
    for name, leaf in _read_target(path / STATE).items():
      if isinstance(leaf, np.ndarray):
        arrays[name] = tensorstore.array(leaf)
      elif folder := _folder(leaf):
        places[name] = {"driver": "file", "path": f"{path}/{folder}/"}
  else:
    places = _orbax_places(path / ORBAX_STATE)
  opening = {
    name: tensorstore.open(
      {"driver": "zarr", "kvstore": place, "fill_missing_data_reads": False},
      read=True,
      open=True,
    )
    for name, place in places.items()
  }
  for name, future in opening.items():
    try:
      arrays[name] = future.result()
    except ValueError as error:
      if not str(error).startswith("NOT_FOUND"):
        raise _damaged(path, [f"{name}: {error}"]) from error
  return arrays


def _read_target(path: Path) -> dict[str, Any]:
  """Arrays, or descriptions of them, that a msgpack file has as parameters."""
  try:
    contents = serialization.msgpack_restore(path.read_bytes())
    # The oldest files begin with what is now under `optimizer`.
    return dict(_leaves(contents.get("optimizer", contents)["target"]))
  except Exception as error:  # Whatever arbitrary bytes bring about.
    raise _damaged(path, [repr(error)]) from error


def _leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
  """Yields arrays and descriptions by their names, joined by "/"."""
  if isinstance(tree, Mapping) and "driver" not in tree:
    for key, branch in tree.items():
      yield from _leaves(branch, f"{name}/{key}" if name else str(key))
  else:
    yield name, tree


def _folder(description: Any) -> str | None:
  """The folder of an array, beside the file that describes it.

  Nothing but the last part of the path counts. The drivers and where the path
  begins hold for where the checkpoint was written.
  """
  if not isinstance(description, Mapping):
    return None
  store = description.get("kvstore")
  inner = store.get("path") if isinstance(store, Mapping) else None
  # Some versions have the path beside the store.
  path = str(description.get("path", inner))
  name = PurePosixPath(path).name
  return name if re.fullmatch(r"\w[\w.-]*", name) else None


def _orbax_places(path: Path) -> dict[str, Any]:
  """Where each parameter lies in a folder that Orbax has written."""
  import tensorstore

  store = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{path}/"}}
  try:
    keys = tensorstore.KvStore.open(store).result().list().result()
  except ValueError as error:
    raise _damaged(path, [str(error)]) from error
  folders = {
    key.decode(errors="replace").removesuffix("/.zarray")
    for key in keys
    if key.startswith(b"target.") and key.endswith(b"/.zarray")
  }
  return {
    folder.removeprefix("target.").replace(".", "/"): {
      **store,
      "path": f"{folder}/",
    }
    for folder in folders
  }


def read_arrays(
  stored: Mapping[str, Any], path: Path
) -> dict[str, Float32[np.ndarray, "..."]]:
  """Reads the parameters, many at a time."""
  problems, reading = [], {}
  for name, array in stored.items():
    chunks = array.chunk_layout.read_chunk.shape  # None: of any size.
    if not jnp.issubdtype(array.dtype.numpy_dtype, jnp.floating):
      problems.append(f"{name} is {array.dtype.name}, expected floating values")
    elif any(
      chunk and chunk > size
      for chunk, size in zip(chunks, array.shape, strict=True)
    ):
      # It would take memory without bounds.
      problems.append(f"{name} is in chunks of {chunks}, more than its shape")
    else:
      reading[name] = array.astype("float32").read()
  parameters = {}
  for name, future in reading.items():
    try:
      parameters[name] = future.result()
    except ValueError as error:
      problems.append(f"{name}: {error}")
  if problems:
    raise _damaged(path, problems)
  return parameters


def _damaged(path: Path, problems: Collection[str]) -> Exception:
  # tensorstore appends its whole specification in brackets.
  text = "; ".join(problem.partition(" [")[0] for problem in problems)
  return directory.CheckpointError(
    f"Cannot read {path} as a checkpoint of t5x: {text}"
  )


# What was trained ------------------------------------------------------------


def _read_model(path: Path) -> _Model:
  """The model that a config.gin describes."""
  settings = _Settings(path)
  return _KINDS[settings.configurable("MODEL", _KINDS)](settings)


def _diffusion_model(
  settings: "_Settings", *, has_context: bool
) -> models.DiffusionModel:
  """The paper's diffusion model, with or without context."""
  settings.demand(
    {
      "DiffusionSchedule.name": ("cosine", "cosine"),
      "SamplerConfig.logvar_type": ("large", "large"),
      "SamplerConfig.clip_x0": (True, True),
      "T5Config.decoder_cross_attend_style": (
        "concat_encodings",
        "sum_cross_attends",
      ),
      "T5Config.max_decoder_noise_time": (20_000.0, 20_000.0),
    }
  )
  if has_context:
    settings.demand(
      {"T5Config.context_positions": ("terminal_relative", "regular")}
    )
  output = settings.choice("DiffusionConfig.model_output", _OUTPUTS, "eps")
  num_steps = settings.size("sampler/DiffusionSchedule.num_steps", 1000)
  return models.DiffusionModel(
    network=_network(settings, has_context=has_context),
    vocabulary=_vocabulary(settings),
    parameterization=_OUTPUTS[output](),
    sampling=models.SamplingConfig(
      sampler=settings.choice("SamplerConfig.name", models.SAMPLERS, "ddpm"),
      num_steps=num_steps,
      # Where none is set, the paper's, not the 5 that the code falls back to.
      guidance_weight=settings.number(
        "ClassifierFreeGuidanceConfig.eval_condition_weight", 2.0
      ),
    ),
  )


def _autoregressive_model(settings: "_Settings") -> models.AutoregressiveModel:
  """The paper's autoregressive model, on log-mels that are not scaled."""
  settings.configurable(
    "ContinuousOutputsEncoderDecoderModel.output_function", ["Deterministic"]
  )
  return models.AutoregressiveModel(
    network=_network(settings, has_context=False, autoregressive=True),
    vocabulary=_vocabulary(settings),
    # Where none is set, the paper's, not the 0 that the code falls back to.
    dither=settings.number("Deterministic.sampling_dither_amount", 0.2),
    scale_frames=False,
  )


_OUTPUTS: dict[str, Callable] = {
  "eps": parameterization.Eps,
  "x0": parameterization.X0,
  "x0_and_eps": parameterization.X0AndEps,
  "v": parameterization.V,
}

# The classes of models, by what they are called in a config.gin.
_KINDS: dict[str, Callable] = {
  "ContextDiffusionModel": functools.partial(
    _diffusion_model, has_context=True
  ),
  "DiffusionModel": functools.partial(_diffusion_model, has_context=False),
  "ContinuousOutputsEncoderDecoderModel": _autoregressive_model,
}


def _network(
  settings: "_Settings", *, has_context: bool, autoregressive: bool = False
) -> models.NetworkConfig:
  """The sizes of the transformer."""
  settings.demand({"T5Config.mlp_activations": (("gelu", "linear"), ("relu",))})
  num_encoder_layers = settings.size(
    "T5Config.num_encoder_layers", 6, most=_MOST_LAYERS
  )
  max_tokens, segment_frames = settings.lengths("inputs", "targets")
  if has_context and settings.lengths("targets_context") != [segment_frames]:
    raise settings.wrong(
      "TASK_FEATURE_LENGTHS",
      "as long for targets_context as for targets",
      settings.get("TASK_FEATURE_LENGTHS"),
    )
  return models.NetworkConfig(
    emb_dim=settings.size("T5Config.emb_dim", 512),
    num_heads=settings.size("T5Config.num_heads", 8),
    head_dim=settings.size("T5Config.head_dim", 64),
    mlp_dim=settings.size("T5Config.mlp_dim", 2048),
    num_encoder_layers=num_encoder_layers,
    num_context_layers=num_encoder_layers if has_context else 0,
    num_decoder_layers=settings.size(
      "T5Config.num_decoder_layers", 6, most=_MOST_LAYERS
    ),
    segment_frames=segment_frames,
    max_tokens=max_tokens,
    dropout_rate=settings.number("T5Config.dropout_rate", 0.1),
    autoregressive=autoregressive,
  )


def _vocabulary(settings: "_Settings") -> notes.Vocabulary:
  settings.demand(
    {
      "VocabularyConfig.steps_per_second": (100, 100),
      "VocabularyConfig.max_shift_seconds": (10, 10),
    }
  )
  return notes.Vocabulary(
    velocity_bins=settings.size(
      "VocabularyConfig.num_velocity_bins", 127, most=127
    )
  )


class _Settings:
  """The values in a config.gin, which name themselves in errors.

  A default is what the released code takes where nothing is bound.
  """

  def __init__(self, path: Path):
    self._path = path
    self._bindings = gin_config.Bindings(path)

  def get(self, name: str, default: Any = None) -> Any:
    """A value of any kind."""
    return self._bindings.get(name, default)

  def size(self, name: str, default: int, *, most: int = _MOST) -> int:
    """A positive integer."""
    value = self.get(name, default)
    if type(value) is not int or not 1 <= value <= most:
      raise self.wrong(name, f"an integer from 1 to {most}", value)
    return value

  def number(self, name: str, default: float) -> float:
    """A finite number that is not negative."""
    value = self.get(name, default)
    if type(value) not in (int, float) or not 0 <= value <= _MOST:
      raise self.wrong(name, f"a number from 0 to {_MOST}", value)
    return float(value)

  def choice(self, name: str, options: Collection[str], default: str) -> str:
    """One of several names."""
    value = self.get(name, default)
    if not isinstance(value, str) or value not in options:
      raise self.wrong(name, " or ".join(options), value)
    return value

  def configurable(self, name: str, options: Collection[str]) -> str:
    """One of several classes, by its name without its modules."""
    value = self.get(name)
    found = re.split(r"[@./]", str(value))[-1].removesuffix("()")
    if found not in options:
      raise self.wrong(name, f"a {' or '.join(options)}", value)
    return found

  def lengths(self, *names: str) -> list[int]:
    """The lengths of features, such as `inputs` and `targets`."""
    name = "TASK_FEATURE_LENGTHS"
    value = self.get(name)
    found = [value.get(key) for key in names] if type(value) is dict else []
    if not found or any(
      type(length) is not int or not 1 <= length <= _MOST for length in found
    ):
      raise self.wrong(name, f"lengths of {', '.join(names)}", value)
    return found

  def demand(self, expected: Mapping[str, tuple[Any, Any]]) -> None:
    """Checks values, in every scope, against pairs of one and the default."""
    for name, (value, default) in expected.items():
      for key in self._bindings.scopes(name) or [name]:
        if (found := self.get(key, default)) != value:
          raise self.wrong(key, repr(value), found)

  def wrong(self, name: str, expected: str, found: Any) -> Exception:
    """The error of a value that is not what was expected."""
    return directory.CheckpointError(
      f"Expected {name} to be {expected} in {self._path}, got {found!r:.100};"
      " this checkpoint cannot be imported."
    )
