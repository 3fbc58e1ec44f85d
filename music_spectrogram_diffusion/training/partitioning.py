"""Where arrays lie: a mesh of devices, over which data and models are cut.

Examples of a batch are spread over the axis `data`, and parameters with their
optimizer state over the axes that rules give to the meanings of their own axes
(`models.logical_axes`): Shoeybi et al. 2019, https://arxiv.org/abs/1909.08053.
"""

from collections.abc import Callable
import dataclasses
import functools
import os
from typing import Any

import jax
from jax import sharding
from jax.sharding import PartitionSpec
import numpy as np

from music_spectrogram_diffusion import models

Rules = tuple[tuple[str, str | None], ...]

DEFAULT_RULES: Rules = (
  ("vocab", "model"),
  ("joined_kv", "model"),
  ("mlp", "model"),
  ("cond", "model"),
)
"""Heads, hidden channels and tokens over `model`; the rest on every device."""

FULLY_SHARDED_RULES: Rules = (*DEFAULT_RULES, ("embed", "data"))
"""Also cuts channels over `data`: each device keeps a part of every parameter
and optimizer state, and gathers the others when it needs them."""


def initialize_distributed(
  coordinator_address: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> bool:
  """Joins the processes of a run; call it before anything asks for a device.

  Args:
    coordinator_address: Host and port of process 0; where None, the variable
      `JAX_COORDINATOR_ADDRESS`.
    num_processes: How many there are; where None, `JAX_NUM_PROCESSES`.
    process_id: Which this is, from 0; where None, `JAX_PROCESS_ID`. What is
      set nowhere JAX finds out itself on a TPU pod or under Slurm, if
      `coordinator_address` is "auto" or one of the others is set.

  Returns:
    Whether there is more than this process.

  Raises:
    ValueError: A variable is no number.
  """
  address = coordinator_address or os.environ.get("JAX_COORDINATOR_ADDRESS")
  count = _number(num_processes, "JAX_NUM_PROCESSES")
  index = _number(process_id, "JAX_PROCESS_ID")
  if (address, count, index) == (None, None, None):
    return False
  if not jax.distributed.is_initialized():
    jax.distributed.initialize(
      coordinator_address=None if address == "auto" else address,
      num_processes=count,
      process_id=index,
    )
  return jax.process_count() > 1


def _number(value: int | None, variable: str) -> int | None:
  if value is not None:
    return value
  text = os.environ.get(variable)
  if text is None:
    return None
  if not text.isdigit():
    raise ValueError(f"Expected a number in {variable}, found {text!r}.")
  return int(text)


@dataclasses.dataclass(frozen=True)
class Partitioner:
  """Spreads batches and states over a mesh of all devices of all processes.

  Attributes:
    data: Parts that batches are cut into; -1 for all devices left by `model`.
    model: Parts that parameters are cut into.
    rules: Pairs of the meaning of an axis and the axis of the mesh that it is
      spread over, or None. The first rule that fits an axis, and whose axis of
      the mesh is not yet used in the array, counts.
  """

  data: int = -1
  model: int = 1
  rules: Rules = DEFAULT_RULES

  def __post_init__(self):
    if self.model < 1 or (self.data < 1 and self.data != -1):
      raise ValueError(
        "Expected a mesh of data (or -1) times model parts, each at least 1;"
        f" got {self.data} times {self.model}."
      )

  @functools.cached_property
  def mesh(self) -> sharding.Mesh:
    """The devices, [data, model].

    Raises:
      ValueError: They cannot be laid out so.
    """
    num_devices = jax.device_count()
    data = num_devices // self.model if self.data == -1 else self.data
    if data * self.model != num_devices:
      raise ValueError(
        f"Expected data x model = {num_devices}, the number of devices; got"
        f" {self.data} x {self.model}."
      )
    return jax.make_mesh(
      (data, self.model),
      ("data", "model"),
      axis_types=(sharding.AxisType.Auto,) * 2,
    )

  @functools.cached_property
  def _hosts(self) -> tuple[tuple[int, ...], ...]:
    """The parts of a batch that each group of processes reads, in order."""
    rows: dict[int, set[int]] = {}
    for row, devices in enumerate(self.mesh.devices):
      for device in devices:
        rows.setdefault(device.process_index, set()).add(row)
    groups = sorted({tuple(sorted(parts)) for parts in rows.values()})
    if (
      sum(map(len, groups)) != len(self.mesh.devices)
      or len(set(map(len, groups))) > 1
    ):
      raise ValueError(
        f"A mesh of {self.mesh.devices.shape[0]} x {self.model} devices cannot"
        f" be fed by {jax.process_count()} processes of"
        f" {jax.local_device_count()} devices: let model divide the devices of"
        " a process, or be a multiple of them."
      )
    return tuple(groups)

  @property
  def host_count(self) -> int:
    """Into how many shares the data is read.

    The number of processes; less where one part of a batch lies on several
    processes, which then read the same.
    """
    return len(self._hosts)

  @property
  def host_index(self) -> int:
    """Which share this process reads."""
    index = jax.process_index()
    mine = {
      row
      for row, devices in enumerate(self.mesh.devices)
      if any(device.process_index == index for device in devices)
    }
    return self._hosts.index(tuple(sorted(mine)))

  def host_batch_size(self, batch_size: int) -> int:
    """Examples of a batch that this process reads.

    Args:
      batch_size: Examples of the whole batch.

    Raises:
      ValueError: They do not divide by the mesh.
    """
    parts = self.mesh.shape["data"]
    if batch_size % parts:
      raise ValueError(
        f"Expected a batch size that divides by the {parts} parts of the mesh's"
        f" data axis, got {batch_size}."
      )
    return batch_size // self.host_count

  @property
  def replicated(self) -> sharding.NamedSharding:
    """The same on every device."""
    return sharding.NamedSharding(self.mesh, PartitionSpec())

  @property
  def batch_sharding(self) -> sharding.NamedSharding:
    """Examples spread over `data`."""
    return sharding.NamedSharding(self.mesh, PartitionSpec("data"))

  def place_batch(self, batch: dict[str, Any]) -> dict[str, jax.Array]:
    """Puts this process's share of a batch on its devices.

    Args:
      batch: Arrays whose first axis are the examples of this process.

    Returns:
      Arrays of all processes' examples.

    Raises:
      ValueError: The examples do not divide by the mesh.
    """
    parts = self.mesh.shape["data"] // self.host_count
    for name, value in batch.items():
      if len(value) % parts:
        raise ValueError(
          f"Expected a number of examples that divides by the {parts} parts of"
          f" the mesh's data axis on this host; {name} has {len(value)}."
        )
    where = self.batch_sharding
    return {
      name: jax.make_array_from_process_local_data(where, np.asarray(value))
      for name, value in batch.items()
    }

  def state_sharding(self, state: Any) -> Any:
    """Where each array of a state lies.

    Args:
      state: Any pytree of arrays or shapes; parameters are known by their
        paths, wherever they, or what an optimizer keeps of the same shape, are.

    Returns:
      The same tree of shardings.
    """

    def place(path, leaf):
      name = jax.tree_util.keystr(path, simple=True, separator="/")
      axes = models.axes_of(name, len(leaf.shape))
      spec = PartitionSpec() if axes is None else self._spec(axes, leaf.shape)
      return sharding.NamedSharding(self.mesh, spec)

    return jax.tree_util.tree_map_with_path(place, state)

  def _spec(self, axes, shape) -> PartitionSpec:
    """Applies the rules; what does not divide evenly is not cut."""
    spec: list[str | None] = []
    for meaning, length in zip(axes, shape, strict=True):
      fitting = (
        target
        for name, target in self.rules
        if name == meaning and target not in spec
      )
      target = next(fitting, None)
      if target is not None and length % self.mesh.shape[target]:
        target = None
      spec.append(target)
    return PartitionSpec(*spec)

  def create_state(self, create: Callable[..., Any], *args: Any) -> Any:
    """Runs `create(*args)` so that its result is made where it belongs.

    No device holds more than its part, and one program makes everything.
    """
    shapes = jax.eval_shape(create, *args)
    where = self.state_sharding(shapes)
    return jax.jit(create, out_shardings=where)(*args)

  def place_state(self, state: Any) -> Any:
    """Puts a state that every process holds on the mesh."""
    return jax.device_put(state, self.state_sharding(state))

  def jit_step(
    self, step: Callable[..., tuple[Any, Any]], state: Any
  ) -> Callable[..., tuple[Any, Any]]:
    """Compiles a training step for the mesh.

    Args:
      step: Function of state, batch and key; gives the state and metrics.
      state: The state, or its shapes.

    Returns:
      The same function. The buffers of the state that it is given are reused.
    """
    where = self.state_sharding(state)
    return jax.jit(
      step,
      in_shardings=(where, self.batch_sharding, self.replicated),
      out_shardings=(where, self.replicated),
      donate_argnums=0,
    )
