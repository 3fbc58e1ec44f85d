"""What lies in a checkpoint beside the arrays, and how damage is found.

Each host writes a file of its own, `host_0_of_1.json`, with the key of the run,
where its source of batches stands, what run it is, and for every array of the
state its shape, dtype and a checksum that does not depend on how it is sharded.
"""

from collections.abc import Iterator
import dataclasses
import json
from pathlib import Path
from typing import Any
import zlib

import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, PRNGKeyArray, UInt32
import numpy as np
from orbax import checkpoint as ocp

from music_spectrogram_diffusion.training import sources

_LONGEST_REASON = 300


def in_one_line(error: Exception) -> str:
  """What an error says, cut off where others would not read it."""
  text = " ".join(str(error).split()) or type(error).__name__
  if len(text) > _LONGEST_REASON:
    text = f"{text[:_LONGEST_REASON]} ..."
  return text


class DamageError(ValueError):
  """What a checkpoint holds is not what was written."""


class HostsError(ValueError):
  """A run cannot go on with so many hosts."""


class RunHandler(ocp.CheckpointHandler):
  """Writes and reads this host's file."""

  def save(self, directory, args: "RunSave") -> None:
    text = json.dumps(args.run, sort_keys=True)
    name = host_file(jax.process_index(), jax.process_count())
    document = {"crc32": zlib.crc32(text.encode()), "run": args.run}
    (directory / name).write_text(json.dumps(document, sort_keys=True))

  def restore(self, directory, args=None) -> dict[str, Any]:
    del args
    return read_run(Path(directory))


@ocp.args.register_with_handler(RunHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class RunSave(ocp.args.CheckpointArgs):
  """What this host writes: a JSON object."""

  run: dict[str, Any]


def host_file(index: int, count: int) -> str:
  """Name of the file of one of so many hosts."""
  return f"host_{index}_of_{count}.json"


def read_run(directory: Path) -> dict[str, Any]:
  """This host's part of a checkpoint.

  With another number of hosts than when it was written, all hosts' sources must
  have stood at the same place, as those do that are functions of the step.

  Args:
    directory: Folder of the item.

  Raises:
    DamageError: It is missing, or not as it was written.
    HostsError: Hosts have other shares of the data now.
  """
  index, count = jax.process_index(), jax.process_count()
  path = directory / host_file(index, count)
  if path.is_file():
    return _read_checked(path)
  paths = sorted(directory.glob("host_*_of_*.json"))
  if not paths:
    raise DamageError(f"{path} is missing")
  runs = [_read_checked(path) for path in paths]
  if len({run["source_state"] for run in runs}) > 1:
    raise HostsError(
      f"Expected {len(runs)} hosts, as when {directory.parent} was saved, got"
      f" {count}: each goes on in its own share of the data."
    )
  return runs[0]


def _read_checked(path: Path) -> dict[str, Any]:
  try:
    document = json.loads(path.read_text("utf-8"))
    text = json.dumps(document["run"], sort_keys=True)
    sound = zlib.crc32(text.encode()) == document["crc32"]
  except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError):
    sound = False
  if not sound:
    raise DamageError(f"{path} is not as it was written")
  return document["run"]


def key_to_json(key: PRNGKeyArray) -> dict[str, Any]:
  """A key as JSON."""
  data = np.asarray(jax.random.key_data(key))
  return {"impl": str(jax.random.key_impl(key)), "data": data.tolist()}


def key_from_json(saved: dict[str, Any]) -> PRNGKeyArray:
  """The key again."""
  data = np.asarray(saved["data"], np.uint32)
  return jax.random.wrap_key_data(data, impl=saved["impl"])


def named_leaves(tree: Any) -> Iterator[tuple[str, Any]]:
  """Path like `parameters/layer/kernel`, and leaf, of each leaf."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def shapes(tree: Any) -> dict[str, dict[str, Any]]:
  """Shape and dtype of each leaf, of arrays or of their shapes alone."""
  return {
    path: {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}
    for path, leaf in named_leaves(tree)
  }


def inspected(tree: Any, *, where: str) -> dict[str, dict[str, Any]]:
  """Shape, dtype and checksum of each leaf.

  Args:
    tree: Arrays, which may be spread over devices.
    where: What they are, for messages.

  Raises:
    sources.NonFiniteError: There is a NaN in one, or an infinity in one that
      is not a single number; optimizers begin some of these at infinity.
  """
  found = jax.device_get(
    {path: _inspect(leaf) for path, leaf in named_leaves(tree)}
  )
  for path, (_, finite) in found.items():
    if not finite:
      raise sources.NonFiniteError(
        f"Expected finite numbers in {where}, found others in {path}."
      )
  leaves = shapes(tree)
  for path, (checksum, _) in found.items():
    leaves[path]["checksum"] = int(checksum)
  return leaves


def check(tree: Any, leaves: dict[str, dict[str, Any]]) -> None:
  """Compares arrays with their checksums.

  Args:
    tree: Arrays as they were read.
    leaves: What `inspected` gave of them, or of more.

  Raises:
    DamageError: One is not as it was written.
  """
  found = jax.device_get(
    {path: _inspect(leaf)[0] for path, leaf in named_leaves(tree)}
  )
  for path, checksum in found.items():
    if int(checksum) != leaves[path]["checksum"]:
      raise DamageError(f"{path} is not as it was written")


@jax.jit
def _inspect(leaf: Array) -> tuple[UInt32[Array, ""], Bool[Array, ""]]:
  """A checksum that one wrong number changes for sure; and if all are finite.

  Sums of integers do not depend on their order, so neither does it depend on
  the devices that an array is spread over. Element i is weighted with an odd
  number, by which multiplication modulo 2**32 has an inverse.
  """
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.random.key_data(leaf)
  finite = jnp.bool_(True)
  if jnp.issubdtype(leaf.dtype, jnp.inexact):
    finite = ~jnp.any(
      jnp.isnan(leaf) if leaf.ndim == 0 else ~jnp.isfinite(leaf)
    )
  bits = _bits(leaf)
  index = jnp.zeros(bits.shape, jnp.uint32)
  for axis, size in enumerate(bits.shape):
    index = index * np.uint32(size) + jax.lax.broadcasted_iota(
      jnp.uint32, bits.shape, axis
    )
  weight = (index * np.uint32(2654435761)) | np.uint32(1)
  return jnp.sum(bits * weight, dtype=jnp.uint32), finite


def _bits(leaf: Array) -> UInt32[Array, "..."]:
  """The bits of each number as one or more integers."""
  if leaf.dtype == jnp.bool_:
    return leaf.astype(jnp.uint32)
  if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
    leaf = jnp.stack([leaf.real, leaf.imag], axis=-1)
  if leaf.dtype.itemsize >= 4:
    return jax.lax.bitcast_convert_type(leaf, jnp.uint32)
  unsigned = jnp.uint16 if leaf.dtype.itemsize == 2 else jnp.uint8
  return jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)
