import resource
import shutil
import subprocess
import sys

import jax
from jax import numpy as jnp
from jax import sharding
import numpy as np
import optax
import optax.contrib
import pytest

from music_spectrogram_diffusion import training
from music_spectrogram_diffusion.training import checkpoint_contents as contents
from music_spectrogram_diffusion.training import checkpointing, run_folder

# What Orbax drops when a read or a write fails says so when it is collected.
pytestmark = pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnraisableExceptionWarning"
)

KEY = jax.random.key(3)


def make_state(seed=0, size=16):
  """A state with leaves of several dtypes, on the device."""
  rng = np.random.default_rng(seed)
  kernel = rng.normal(size=(size, 4)).astype(np.float32)
  return {
    "step": jnp.int32(seed),
    "parameters": {"layer": {"kernel": jnp.asarray(kernel)}},
    "average": {"layer": {"kernel": jnp.asarray(kernel / 2)}},
    "optimizer": (
      {"count": jnp.int32(7)},
      jnp.asarray(kernel, jnp.bfloat16),
      jnp.asarray([True, False]),
    ),
  }


def assert_same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def save(directory, *steps, identity=None, make_state=make_state, **config):
  config = training.CheckpointConfig(**({"save_every": 1} | config))
  with checkpointing.Checkpoints(directory, config, identity) as saved:
    for step in steps:
      saved.save(step, make_state(step), key=KEY, source_state=b"at %d" % step)
    saved.wait()


def restore(directory, identity=None, like=make_state):
  with checkpointing.Checkpoints(directory, identity=identity) as saved:
    return saved.restore(like())


def names(directory):
  """What lies there, but for the lock."""
  return {path.name for path in directory.iterdir()} - {run_folder.LOCK}


def steps_saved(directory):
  return sorted(int(p.name) for p in directory.iterdir() if p.name.isdigit())


def test_a_state_comes_back_with_all_that_belongs_to_it(tmp_path):
  save(tmp_path, 1, 2)
  restored = restore(tmp_path)
  assert_same(restored.state, make_state(2))
  assert jax.tree.map(lambda x: x.dtype, restored.state) == jax.tree.map(
    lambda x: x.dtype, make_state()
  )
  assert restored.source_state == b"at 2"
  assert jax.random.key_data(restored.key).tolist() == [0, 3]
  assert jax.random.key_impl(restored.key) == jax.random.key_impl(KEY)


def test_in_an_empty_directory_there_is_nothing_to_go_on_from(tmp_path):
  assert restore(tmp_path) is None


def test_the_last_ones_stay_and_some_for_good(tmp_path):
  save(tmp_path, *range(2, 22, 2), save_every=2, keep=2, keep_every=6)
  assert steps_saved(tmp_path) == [6, 12, 18, 20]


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    (dict(keep=0), "keep of at least 1, got 0"),
    (dict(save_every=-1), "save_every of at least 1, got -1"),
    (dict(save_every=10, keep_every=25), "multiple of save_every = 10, got 25"),
  ],
)
def test_a_configuration_that_cannot_be_is_an_error(settings, message):
  with pytest.raises(ValueError, match=message):
    training.CheckpointConfig(**settings)


def test_what_is_saved_is_not_changed_by_the_next_step(tmp_path):
  """Steps reuse the buffers of the state while it is still being written."""
  step = jax.jit(
    lambda state: jax.tree.map(jnp.zeros_like, state), donate_argnums=0
  )
  config = training.CheckpointConfig(save_every=1)
  with checkpointing.Checkpoints(tmp_path, config) as saved:
    state = make_state(1, size=1 << 18)
    saved.save(1, state, key=KEY, source_state=b"")
    for _ in range(3):
      state = step(state)
    jax.block_until_ready(state)
    saved.wait()
  restored = restore(tmp_path, like=lambda: make_state(size=1 << 18))
  assert_same(restored.state, make_state(1, size=1 << 18))


def test_a_state_goes_to_other_devices_than_it_was_saved_from(tmp_path):
  save(tmp_path, 1)
  mesh = jax.make_mesh((1,), ("data",))
  where = sharding.NamedSharding(mesh, sharding.PartitionSpec())
  restored = restore(tmp_path, like=lambda: jax.device_put(make_state(), where))
  assert_same(restored.state, make_state(1))
  for leaf in jax.tree.leaves(restored.state):
    assert leaf.sharding == where


def test_arrays_of_the_host_come_back_as_such(tmp_path):
  def make(seed=0):
    return jax.device_get(make_state(seed))

  save(tmp_path, 1, make_state=make)
  restored = restore(tmp_path, like=make)
  assert isinstance(restored.state["parameters"]["layer"]["kernel"], np.ndarray)
  assert_same(restored.state, make(1))


OPTIMIZERS = {
  "factored": training.adafactor(),
  "Muon's and NAdam's": training.muon(
    1e-2, is_inner=lambda tree: jax.tree.map(lambda leaf: leaf.ndim == 2, tree)
  ),
  "partly frozen": optax.multi_transform(
    {"trained": training.adamw(1e-3), "frozen": optax.set_to_zero()},
    {"encoder": "frozen", "decoder": "trained"},
  ),
  "begun at infinity": optax.chain(
    optax.adam(1e-3), optax.contrib.reduce_on_plateau()
  ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_states_of_optimizers_come_back_in_their_own_types(tmp_path, name):
  parameters = {
    "encoder": {"kernel": jnp.ones((256, 130))},
    "decoder": {"kernel": jnp.ones((4, 4)), "scale": jnp.ones(3)},
  }

  def make(seed=0):
    with jax.numpy_dtype_promotion("standard"):
      return training.TrainState.create(
        parameters, OPTIMIZERS[name], keep_average=seed % 2 == 0
      )

  save(tmp_path, 2, make_state=make)
  restored = restore(tmp_path, like=make).state
  assert jax.tree.structure(restored) == jax.tree.structure(make())
  assert_same(restored, make())


def files_of(checkpoint):
  return sorted(p for p in checkpoint.rglob("*") if p.is_file())


def largest_file(checkpoint):
  return max(files_of(checkpoint), key=lambda path: path.stat().st_size)


def flip_a_bit(checkpoint):
  path = largest_file(checkpoint)
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 4
  path.write_bytes(data)


def cut_off(checkpoint):
  path = largest_file(checkpoint)
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty_all_files(checkpoint):
  for path in files_of(checkpoint):
    path.write_bytes(b"")


def lose_the_arrays(checkpoint):
  shutil.rmtree(checkpoint / "state")


def lose_the_run(checkpoint):
  shutil.rmtree(checkpoint / "run")


def lose_everything(checkpoint):
  shutil.rmtree(checkpoint)
  checkpoint.mkdir()


def change_the_key(checkpoint):
  path = checkpoint / "run" / "host_0_of_1.json"
  changed = path.read_text().replace('"data": [0, 3]', '"data": [0, 2]')
  assert changed != path.read_text()
  path.write_text(changed)


DAMAGE = [
  flip_a_bit,
  cut_off,
  empty_all_files,
  lose_the_arrays,
  lose_the_run,
  lose_everything,
  change_the_key,
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
  tmp_path, damage
):
  save(tmp_path, 1, 2, make_state=lambda seed: make_state(seed, size=4096))
  damage(tmp_path / "2")
  like = lambda: make_state(size=4096)  # noqa: E731
  with pytest.warns(UserWarning) as warned:
    restored = restore(tmp_path, like=like)
  (line,) = {str(w.message) for w in warned if w.category is UserWarning}
  assert f"Checkpoint {tmp_path}/2 is damaged and skipped: " in line
  assert "\n" not in line and len(line) < 600
  assert_same(restored.state, make_state(1, size=4096))
  assert restored.source_state == b"at 1"
  # It is kept to be looked at, and does not stand in the way of its step.
  assert (tmp_path / "damaged-2").is_dir()
  save(tmp_path, 2, make_state=lambda seed: make_state(seed, size=4096))
  assert restore(tmp_path, like=like).source_state == b"at 2"


def test_where_all_are_damaged_nothing_is_begun_again(tmp_path):
  save(tmp_path, 1, 2)
  for step in "12":
    cut_off(tmp_path / step)
  with (
    pytest.warns(UserWarning, match="damaged"),
    pytest.raises(ValueError, match="all are damaged: steps 2, 1"),
  ):
    restore(tmp_path)
  assert steps_saved(tmp_path) == [1, 2]


def test_what_a_killed_save_left_is_cleared_away(tmp_path):
  save(tmp_path, 1, 2)
  (tmp_path / "2").rename(tmp_path / "2.orbax-checkpoint-tmp")
  assert restore(tmp_path).source_state == b"at 1"
  save(tmp_path, 3)
  assert names(tmp_path) == {"1", "3"}


def other_size(seed=0):
  return make_state(seed, size=8)


def other_names(seed=0):
  state = make_state(seed)
  return {**state, "parameters": {"dense": state["parameters"]["layer"]}}


@pytest.mark.parametrize(
  ("like", "difference"),
  [
    (
      other_size,
      r"layer/kernel is float32\[16, 4\] there, float32\[8, 4\] here",
    ),
    (
      other_names,
      r"parameters/dense/kernel is missing there, float32\[16, 4\]",
    ),
  ],
)
def test_the_directory_of_another_model_is_refused(tmp_path, like, difference):
  save(tmp_path, 1, 2)
  with pytest.raises(training.OtherRunError, match=difference) as error:
    restore(tmp_path, like=like)
  assert str(tmp_path) in str(error.value)
  assert "\n" not in str(error.value) and len(str(error.value)) < 500
  assert steps_saved(tmp_path) == [1, 2]


def test_a_run_of_another_identity_is_refused_whatever_its_shapes(tmp_path):
  identity = {"model": {"schedule": "cosine", "layers": [1, 2]}, "seed": 1}
  save(tmp_path, 1, identity=identity)
  assert restore(tmp_path, identity=dict(reversed(identity.items())))
  identity["model"]["schedule"] = "linear"
  with pytest.raises(
    training.OtherRunError,
    match="model.schedule is 'cosine' there, 'linear' here",
  ):
    restore(tmp_path, identity=identity)


def test_nan_is_never_saved_but_scalars_may_be_infinite(tmp_path):
  def with_best(seed, value):
    return {**make_state(seed), "best": jnp.float32(value)}

  save(tmp_path, 1, make_state=lambda seed: with_best(seed, np.inf))
  with pytest.raises(training.NonFiniteError, match="step 2, .*in best"):
    save(tmp_path, 2, make_state=lambda seed: with_best(seed, np.nan))
  assert steps_saved(tmp_path) == [1]


@pytest.fixture
def small_files():
  """Files of this process end at 200 kB, as on a disk that is full."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
  yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def large(seed):
  return make_state(seed, size=100_000)


def test_a_save_that_fails_leaves_the_others_and_the_next_may_go_well(
  tmp_path, small_files
):
  save(tmp_path, 1)
  with checkpointing.Checkpoints(tmp_path, CONFIG) as saved:
    saved.save(2, large(2), key=KEY, source_state=b"")
    with pytest.warns(UserWarning, match="Cannot save step 2 .*that of 1 is"):
      saved.save(3, make_state(3), key=KEY, source_state=b"")
    saved.wait()
    assert steps_saved(tmp_path) == [1, 3]
    small_files()
    saved.save(4, large(4), key=KEY, source_state=b"at 4")
    saved.wait()
  assert names(tmp_path) == {"3", "4"}


def test_two_saves_that_fail_stop_the_run(tmp_path, small_files):
  save(tmp_path, 1)
  with checkpointing.Checkpoints(tmp_path, CONFIG) as saved:
    saved.save(2, large(2), key=KEY, source_state=b"")
    with pytest.warns(UserWarning, match="Cannot save step 2 "):
      saved.save(3, large(3), key=KEY, source_state=b"")
    with pytest.raises(training.SaveError, match="step 3 .*that of 1 is kept"):
      saved.save(4, large(4), key=KEY, source_state=b"")
  assert names(tmp_path) == {"1"}
  assert restore(tmp_path).source_state == b"at 1"


def test_a_save_that_fails_at_the_end_is_an_error(tmp_path, small_files):
  with checkpointing.Checkpoints(tmp_path, CONFIG) as saved:
    saved.save(2, large(2), key=KEY, source_state=b"")
    with pytest.raises(training.SaveError, match="there was none before"):
      saved.wait()
  assert not names(tmp_path)


CONFIG = training.CheckpointConfig(save_every=1)


def test_a_full_disk_is_known_before_anything_is_written(tmp_path, monkeypatch):
  save(tmp_path, 1)
  monkeypatch.setattr(
    shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 100, 300)
  )
  with checkpointing.Checkpoints(tmp_path, CONFIG) as saved:
    with pytest.warns(
      UserWarning,
      match="no space left on the disk: 0.0 MB are free, 0.0 MB are needed",
    ):
      saved.save(2, make_state(2), key=KEY, source_state=b"")
    with pytest.raises(training.SaveError, match="step 2 .*that of 1 is kept"):
      saved.wait()  # Nothing comes after it.
    with pytest.raises(training.SaveError, match="step 3 .*that of 1 is kept"):
      saved.save(3, make_state(3), key=KEY, source_state=b"")
  assert names(tmp_path) == {"1"}


@pytest.mark.parametrize("average", [True, False])
def test_parameters_are_read_without_the_rest(tmp_path, average):
  save(tmp_path, 4, 5)
  # The optimizer's arrays are not needed, nor known.
  found = training.restore_parameters(tmp_path, average=average)
  name = "average" if average else "parameters"
  assert_same(found, make_state(5)[name])
  assert isinstance(found["layer"]["kernel"], np.ndarray)
  found = training.restore_parameters(tmp_path, average=average, step=4)
  assert_same(found, make_state(4)[name])
  assert_same(training.restore_average(tmp_path), make_state(5)["average"])


def test_parameters_of_a_damaged_checkpoint_are_those_of_the_one_before(
  tmp_path,
):
  save(tmp_path, 4, 5, make_state=lambda seed: make_state(seed, size=4096))
  empty_all_files(tmp_path / "5")
  with pytest.warns(UserWarning, match="5 is damaged and skipped"):
    found = training.restore_parameters(tmp_path)
  assert_same(found, make_state(4, size=4096)["average"])
  # Whoever reads does not change the run.
  assert steps_saved(tmp_path) == [4, 5]
  with (
    pytest.warns(UserWarning, match="damaged"),
    pytest.raises(ValueError, match="sound"),
  ):
    training.restore_parameters(tmp_path, step=5)


def test_reading_parameters_says_nothing(tmp_path, caplog):
  save(tmp_path, 5)
  caplog.clear()
  training.restore_parameters(tmp_path)
  assert not caplog.records


def test_a_run_without_an_average_has_parameters(tmp_path):
  def make(seed):
    return {**make_state(seed), "average": None}

  save(tmp_path, 1, make_state=make)
  with pytest.raises(ValueError, match="'average' .*kept none"):
    training.restore_parameters(tmp_path)
  training.restore_parameters(tmp_path, average=False)


@pytest.mark.parametrize("name", ["missing", "."])
def test_where_there_is_no_checkpoint_there_is_an_error(tmp_path, name):
  with pytest.raises(ValueError, match=str(tmp_path)):
    training.restore_average(tmp_path / name)
  assert not (tmp_path / "missing").exists()


def test_a_step_that_is_not_there_is_an_error_with_those_that_are(tmp_path):
  save(tmp_path, 4, 5)
  with pytest.raises(ValueError, match="of step 3 in .*; found 5, 4"):
    training.restore_parameters(tmp_path, step=3)


@pytest.mark.parametrize(
  "dtype",
  [
    np.float32,
    jnp.bfloat16,
    np.float16,
    np.int32,
    np.int8,
    np.bool_,
    np.complex64,
  ],
)
def test_a_checksum_sees_any_single_change_and_any_exchange(dtype):
  values = np.arange(24).reshape(2, 3, 4) % 2
  array = values.astype(dtype)
  found = contents.inspected({"x": array}, where="x")
  contents.check({"x": array}, found)
  for index in np.ndindex(array.shape):
    changed = array.copy()
    changed[index] = 1 - values[index]
    with pytest.raises(contents.DamageError, match="x is not as"):
      contents.check({"x": changed}, found)
  exchanged = array[:, :, ::-1]
  with pytest.raises(contents.DamageError):
    contents.check({"x": exchanged}, found)


def test_hosts_that_stood_at_one_place_may_become_fewer(tmp_path):
  save(tmp_path, 1)
  run = tmp_path / "1" / "run"
  text = (run / "host_0_of_1.json").read_text()
  (run / "host_0_of_1.json").unlink()
  for host in "01":
    (run / f"host_{host}_of_2.json").write_text(text)
  assert restore(tmp_path).source_state == b"at 1"


def test_hosts_in_shares_of_their_own_may_not(tmp_path):
  for host in (0, 1):
    directory = tmp_path / str(host)
    save(directory, 1 + host)
    source = directory / str(1 + host) / "run" / "host_0_of_1.json"
    text = source.read_text()
    source.unlink()
    run = tmp_path / "0" / "1" / "run"
    (run / f"host_{host}_of_2.json").write_text(text)
  with pytest.raises(ValueError, match="Expected 2 hosts, .* got 1"):
    restore(tmp_path / "0")


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.lockf(file, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""


def test_two_processes_do_not_train_in_one_directory(tmp_path):
  save(tmp_path, 1)
  holder = subprocess.Popen(
    [sys.executable, "-c", HOLD, str(tmp_path / run_folder.LOCK)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  )
  with holder:
    holder.stdout.readline()
    with pytest.raises(ValueError, match=f"no other process .* {tmp_path}"):
      restore(tmp_path)
    holder.kill()
  # Whatever ends it, its claim ends with it.
  assert restore(tmp_path) is not None
