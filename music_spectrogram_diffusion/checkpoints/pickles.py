"""Tensors out of torch's .bin files, without torch, and without running them.

Such a file is a zip archive of a pickle, `data.pkl`, and of the bytes of every
storage, `data/0`, `data/1`, ... A pickle can name any function and have it
called. The reader here knows the names that a dict of tensors needs, and what
it calls for them only notes down where a tensor lies; any other name is an
error. That the archive is not compressed, as torch leaves it, bounds what it
unfolds to.

Before torch 1.6 the format was another, a bare pickle, which is not read.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
import math
import os
import pickle
from typing import Any, NamedTuple
import zipfile

from jax import numpy as jnp
import numpy as np

from music_spectrogram_diffusion.checkpoints import directory


class PickleError(directory.CheckpointError):
  """A torch file cannot be read as tensors alone."""


class _Kind(NamedTuple):
  """A class of torch storages."""

  dtype: np.dtype


class _Storage(NamedTuple):
  """What a pickle says of a storage."""

  kind: _Kind
  key: str
  num_values: int


class _Tensor(NamedTuple):
  """What a pickle says of a tensor; offset and strides count values."""

  storage: _Storage
  offset: int
  shape: Sequence[int]
  strides: Sequence[int]


class _Rebuild:
  """Stands for torch's function that makes a tensor."""

  __slots__ = ()  # Nothing that a pickle could set.

  def __call__(self, storage, offset, shape, strides, *_) -> _Tensor:
    """Ignores what follows: whether there is a gradient, hooks, metadata."""
    return _Tensor(storage, offset, shape, strides)


_NAMES = {
  ("collections", "OrderedDict"): OrderedDict,
  ("torch._utils", "_rebuild_tensor_v2"): _Rebuild(),
  ("torch", "FloatStorage"): _Kind(np.dtype(np.float32)),
  ("torch", "HalfStorage"): _Kind(np.dtype(np.float16)),
  ("torch", "BFloat16Storage"): _Kind(jnp.dtype(jnp.bfloat16)),
}


class _Unpickler(pickle.Unpickler):
  """Knows `_NAMES` alone."""

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) not in _NAMES:
      raise PickleError(
        f"it asks for {module}.{name}, which no tensor of floats needs; a"
        " pickle can run any code"
      )
    return _NAMES[module, name]

  def persistent_load(self, pid: Any) -> _Storage:
    _, kind, key, _, num_values = pid  # Of "storage" and a device no use here.
    return _Storage(kind, key, num_values)


def read_torch_tensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Reads what `torch.save` has written of a dict of tensors.

  Args:
    path: The file; its tensors are float32, float16 or bfloat16.

  Returns:
    The tensors as float32, which cannot be written to.

  Raises:
    PickleError: The file is missing, damaged, of the older format, or holds
      something other than tensors.
  """
  try:
    with zipfile.ZipFile(path) as archive:
      return _read_archive(archive)
  except zipfile.BadZipFile as error:
    raise PickleError(
      f"Expected a file of torch.save, of torch 1.6 or later, in {path}:"
      f" {error}."
    ) from error
  except PickleError as error:
    raise PickleError(f"Refused to read {path}: {error}.") from error
  except Exception as error:  # Damaged bytes can raise nearly anything.
    raise PickleError(f"Cannot read {path}: {error}") from error


def _read_archive(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
  members = archive.infolist()
  roots = {member.filename.partition("/")[0] for member in members}
  if len(roots) != 1:
    raise ValueError("it is not an archive of torch.save.")
  if any(member.compress_type != zipfile.ZIP_STORED for member in members):
    raise ValueError("it is compressed, which no archive of torch.save is.")
  (root,) = roots
  order = f"{root}/byteorder"
  if order in archive.namelist() and archive.read(order) != b"little":
    raise ValueError("its numbers are not little-endian.")
  with archive.open(f"{root}/data.pkl") as file:
    found = _Unpickler(file).load()
  if not isinstance(found, Mapping):
    raise PickleError(f"it holds {type(found).__name__}, not a dict of tensors")

  storages: dict[str, np.ndarray] = {}
  tensors = {}
  for name, tensor in found.items():
    if not (isinstance(name, str) and isinstance(tensor, _Tensor)):
      raise PickleError(f"its {name!r} is {type(tensor).__name__}, no tensor")
    kind, key, num_values = tensor.storage
    if key not in storages:
      data = archive.read(f"{root}/data/{key}")
      values = np.frombuffer(data, kind.dtype)
      storages[key] = values.astype(np.float32, copy=False)
    if storages[key].size != num_values:
      raise ValueError(
        f"expected {num_values} values in storage {key}, got"
        f" {storages[key].size}."
      )
    tensors[name] = _view(name, tensor, storages[key])
  return tensors


def _view(name: str, tensor: _Tensor, values: np.ndarray) -> np.ndarray:
  """The tensor, whose place is checked, for NumPy would look anywhere."""
  _, offset, shape, strides = tensor
  reach = [(n - 1) * stride for n, stride in zip(shape, strides, strict=True)]
  within = min((offset, *shape, *strides)) >= 0 and (
    0 in shape
    or (
      offset + sum(reach) < values.size
      # With strides of 0, a few values could be repeated without bounds.
      and math.prod(shape) <= values.size
    )
  )
  if not within:
    raise ValueError(
      f"expected {name} {list(shape)} within its {values.size} values, got"
      f" offset {offset} and strides {list(strides)}."
    )
  return np.lib.stride_tricks.as_strided(
    values[offset:],
    shape,
    [stride * values.itemsize for stride in strides],
    writeable=False,
  )
