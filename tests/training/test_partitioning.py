import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
from jax import numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import optax
import pytest

from music_spectrogram_diffusion.training import optimizers, partitioning

ROOT = pathlib.Path(__file__).parents[2]
QUICK = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "true", "PYTHONPATH": str(ROOT)}


def start(*specs, **variables):
  script = pathlib.Path(__file__).with_name("mesh_run.py")
  return subprocess.Popen(
    [sys.executable, script, *specs],
    env=os.environ | QUICK | variables,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(process):
  output, errors = process.communicate(timeout=400)
  assert process.returncode == 0, errors
  return json.loads(output.splitlines()[-1])


@pytest.fixture(scope="module")
def on_8_devices():
  flags = os.environ.get("XLA_FLAGS", "")
  flags += " --xla_force_host_platform_device_count=8"
  return finish(start("single", "4:2", XLA_FLAGS=flags))


def test_losses_do_not_depend_on_the_mesh(on_8_devices):
  losses = on_8_devices["single"]["losses"]
  assert len(set(losses)) == len(losses)
  np.testing.assert_allclose(on_8_devices["4:2"]["losses"], losses, atol=1e-5)


def test_parameters_and_their_average_are_cut_over_the_model_axis(on_8_devices):
  cut = on_8_devices["4:2"]
  assert cut["parameters"] == cut["average"] == [32, 12]


def test_two_processes_train_as_one(on_8_devices):
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{probe.getsockname()[1]}"
  processes = [
    start(
      "2:1",
      JAX_COORDINATOR_ADDRESS=address,
      JAX_NUM_PROCESSES="2",
      JAX_PROCESS_ID=str(i),
    )
    for i in range(2)
  ]
  try:
    first, second = (finish(process)["2:1"] for process in processes)
  finally:
    for process in processes:
      process.kill()
  # Each has read its own half.
  assert (first["host"], second["host"]) == ([0, 2], [1, 2])
  assert first["losses"] == second["losses"]
  # Over data alone, a mesh cuts no parameters.
  assert first["parameters"] == first["average"] == [32, 24]
  np.testing.assert_allclose(
    first["losses"], on_8_devices["single"]["losses"], atol=1e-5
  )


def test_without_an_address_a_process_is_alone(monkeypatch):
  for name in ("COORDINATOR_ADDRESS", "NUM_PROCESSES", "PROCESS_ID"):
    monkeypatch.delenv(f"JAX_{name}", raising=False)
  assert partitioning.initialize_distributed() is False


def test_a_number_of_processes_that_is_none_is_named(monkeypatch):
  monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
  with pytest.raises(ValueError, match="in JAX_NUM_PROCESSES, found 'two'"):
    partitioning.initialize_distributed()


class OfDevices(partitioning.Partitioner):
  """A partitioner of devices that are not there, for the rules alone."""

  @property
  def mesh(self):
    return jax.sharding.AbstractMesh((4, 2), ("data", "model"))


PARAMETERS = {
  "decoder": {
    "layers_0": {"mlp": {"wo": {"kernel": jnp.zeros((24, 32))}}},
    "time_emb_dense1": {"kernel": jnp.zeros((128, 128))},
    "decoder_norm": {"scale": jnp.zeros(32)},
  },
  "token_encoder": {"token_embedder": {"embedding": jnp.zeros((7, 32))}},
}


def specs(partitioner, tree):
  shardings = partitioner.state_sharding(tree)
  return jax.tree.map(lambda s: s.spec, shardings)


def test_rules_place_axes_by_their_meaning():
  placed = specs(OfDevices(4, 2), PARAMETERS)
  decoder = placed["decoder"]
  wo = decoder["layers_0"]["mlp"]["wo"]["kernel"]
  assert wo == PartitionSpec("model", None)
  # An axis of the mesh is used once.
  dense = decoder["time_emb_dense1"]["kernel"]
  assert dense == PartitionSpec("model", None)
  assert decoder["decoder_norm"]["scale"] == PartitionSpec(None)
  # Seven rows do not divide by two.
  table = placed["token_encoder"]["token_embedder"]["embedding"]
  assert table == PartitionSpec(None, None)


def test_fully_sharded_states_are_cut_over_both_axes():
  partitioner = OfDevices(4, 2, partitioning.FULLY_SHARDED_RULES)
  placed = specs(partitioner, PARAMETERS)["decoder"]
  wo = placed["layers_0"]["mlp"]["wo"]["kernel"]
  assert wo == PartitionSpec("model", "data")
  assert placed["decoder_norm"]["scale"] == PartitionSpec("data")


WO = "decoder/layers_0/mlp/wo/kernel"
DENSE = "decoder/time_emb_dense1/kernel"


@pytest.mark.parametrize(
  ("optimizer", "expected"),
  [
    (
      optax.adam(0.1),
      {f"0/{m}/{p}" for m in ("mu", "nu") for p in (WO, DENSE)},
    ),
    # Rows and columns of large kernels are small and stay whole.
    (optax.adafactor(0.1), {f"0/v/{WO}"}),
    # Matrices inside the network have momentum alone.
    (
      optimizers.muon(0.1),
      {f"1/inner_states/muon/inner_state/0/mu/{WO}"}
      | {
        f"1/inner_states/adam/inner_state/0/{m}/{DENSE}" for m in ("mu", "nu")
      },
    ),
  ],
)
def test_an_optimizer_s_arrays_lie_with_their_parameters(optimizer, expected):
  state = {"optimizer": optimizer.init(PARAMETERS), "step": jnp.int32(0)}
  placed = OfDevices(4, 2).state_sharding(state)
  cut = {
    jax.tree_util.keystr(path, simple=True, separator="/")
    for path, where in jax.tree_util.tree_leaves_with_path(placed)
    if "model" in where.spec
  }
  assert {path.removeprefix("optimizer/") for path in cut} == expected


def test_a_batch_that_does_not_divide_is_an_error(monkeypatch):
  partitioner = OfDevices(4, 2)
  with pytest.raises(ValueError, match="4 parts of the mesh.*got 6"):
    partitioner.host_batch_size(6)


def test_a_placed_batch_is_the_batch():
  batch = {"x": np.arange(6.0, dtype=np.float32).reshape(3, 2)}
  placed = partitioning.Partitioner().place_batch(batch)
  np.testing.assert_array_equal(placed["x"], batch["x"])


@pytest.mark.parametrize(
  ("data", "model", "message"),
  [(-1, 0, "each at least 1"), (0, 1, "each at least 1")],
)
def test_a_mesh_without_parts_is_an_error(data, model, message):
  with pytest.raises(ValueError, match=message):
    partitioning.Partitioner(data, model)


def test_a_mesh_of_other_devices_than_there_are_is_an_error():
  count = jax.device_count()
  with pytest.raises(ValueError, match=f"= {count}, the number of devices"):
    _ = partitioning.Partitioner(3 * count).mesh
