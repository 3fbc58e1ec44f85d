from collections import OrderedDict
import io
import os
import pathlib
import pickle
import shutil
import zipfile

import jax
import numpy as np
import pytest
import safetensors.numpy

from music_spectrogram_diffusion import checkpoints
from music_spectrogram_diffusion.checkpoints import pickles

DATA = pathlib.Path(__file__).parents[1] / "data" / "torch_tensors"
PIPELINE = DATA.parent / "diffusers_tiny"


class Global:
  """What a pickle names, without the package that has it."""

  def __init__(self, module, name):
    self.module, self.name = module, name


class Call:
  """A call in a pickle."""

  def __init__(self, function, *arguments):
    self.function, self.arguments = function, arguments


class Storage:
  """A storage by its key in the archive."""

  def __init__(self, key, num_values, kind="FloatStorage"):
    self.key, self.num_values, self.kind = key, num_values, kind


class _Pickler(pickle._Pickler):
  """Writes pickles that ask for anything, which pickle itself would not."""

  def save(self, value, **options):
    if isinstance(value, Global):
      self.write(f"c{value.module}\n{value.name}\n".encode())
    elif isinstance(value, Call):
      self.save(value.function)
      self.save(value.arguments)
      self.write(pickle.REDUCE)
    else:
      super().save(value, **options)

  def persistent_id(self, value):
    if isinstance(value, Storage):
      kind = Global("torch", value.kind)
      return "storage", kind, value.key, "cpu", value.num_values
    return None


def tensor(shape=(2,), strides=(1,), offset=0, storage=None):
  return Call(
    Global("torch._utils", "_rebuild_tensor_v2"),
    storage or Storage("0", 4),
    offset,
    shape,
    strides,
    False,
    Call(Global("collections", "OrderedDict")),
  )


@pytest.fixture
def write(tmp_path):
  """Writes an archive like torch's, of a pickle and a storage of 4 floats."""

  def write(value, *, compression=zipfile.ZIP_STORED, **files):
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=2).dump(value)
    path = tmp_path / "tensors.bin"
    with zipfile.ZipFile(path, "w", compression) as archive:
      archive.writestr("archive/data.pkl", buffer.getvalue())
      archive.writestr("archive/data/0", np.arange(4, dtype="f4").tobytes())
      for name, data in files.items():
        archive.writestr(f"archive/{name}", data)
    return path

  return write


def test_tensors_are_those_that_torch_has_saved():
  found = pickles.read_torch_tensors(DATA / "tensors.bin")
  with np.load(DATA / "tensors.npz") as expected:
    assert found.keys() == dict(expected).keys()
    for name, array in found.items():
      assert array.dtype == np.float32
      np.testing.assert_array_equal(array, expected[name], err_msg=name)
      assert array.shape == expected[name].shape


def test_a_state_dict_is_read_with_what_torch_hangs_on_it():
  found = pickles.read_torch_tensors(DATA / "state_dict.bin")
  shapes = {name: array.shape for name, array in found.items()}
  assert shapes == {"weight": (2, 3), "bias": (2,)}


def test_a_pickled_module_is_refused_by_name():
  with pytest.raises(
    checkpoints.CheckpointError, match=r"module\.bin.*torch\.nn\S*\.Linear"
  ):
    pickles.read_torch_tensors(DATA / "module.bin")


def test_the_format_before_torch_1_6_is_refused():
  with pytest.raises(pickles.PickleError, match="torch 1.6 or later"):
    pickles.read_torch_tensors(DATA / "before_1.6.bin")


@pytest.mark.parametrize(
  "module, name",
  [
    ("os", "system"),
    ("posix", "system"),
    ("builtins", "eval"),
    ("builtins", "getattr"),
    ("torch", "load"),
    ("torch", "FloatStorage.__init__"),
    ("collections", "namedtuple"),
    ("numpy", "fromfile"),
  ],
)
def test_code_is_named_and_not_run(write, tmp_path, module, name):
  ran = tmp_path / "ran"
  path = write({"a": Call(Global(module, name), f"touch {ran}")})
  with pytest.raises(pickles.PickleError, match=f"asks for {module}.{name}"):
    pickles.read_torch_tensors(path)
  assert not ran.exists()


def test_what_is_known_cannot_be_changed_by_a_pickle(tmp_path):
  # BUILD with (None, {"__call__": 1}) sets attributes of what was found.
  for name in (
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch\nFloatStorage\n",
  ):
    data = b"\x80\x02" + name + b"N}U\x08__call__K\x01s\x86b."
    path = tmp_path / "tensors.bin"
    with zipfile.ZipFile(path, "w") as archive:
      archive.writestr("archive/data.pkl", data)
    with pytest.raises(pickles.PickleError, match="attribute"):
      pickles.read_torch_tensors(path)


@pytest.mark.parametrize(
  "value, message",
  [
    ([], "holds list"),
    ({"a": 3}, "'a' is int"),
    ({3: tensor()}, "3 is"),
    ({"a": {"b": tensor()}}, "'a' is dict"),
    ({"a": Storage("0", 4)}, "'a' is _Storage"),
  ],
)
def test_anything_but_tensors_by_name_is_refused(write, value, message):
  with pytest.raises(pickles.PickleError, match=message):
    pickles.read_torch_tensors(write(value))


@pytest.mark.parametrize(
  "spoilt",
  [
    tensor(shape=(5,)),
    tensor(offset=3),
    tensor(offset=-1),
    tensor(strides=(-1,)),
    tensor(shape=(-2,)),
    tensor(shape=(2, 2)),
    tensor(shape=(2, 2), strides=(1 << 62, 1)),
    tensor(shape=(1 << 40,), strides=(0,)),
    tensor(shape=("2",)),
    tensor(storage=Storage("0", 5)),
    tensor(storage=Storage("1", 4)),
    tensor(storage=Storage("../data.pkl", 4)),
    tensor(storage=Storage("0", 4, kind="HalfStorage")),
    tensor(storage=3),
  ],
)
def test_tensors_outside_of_their_storage_are_refused(write, spoilt):
  with pytest.raises(pickles.PickleError, match="tensors.bin"):
    pickles.read_torch_tensors(write({"a": spoilt}))


def test_a_tensor_that_is_written_by_hand_is_read(write):
  found = pickles.read_torch_tensors(
    write({"a": tensor(shape=(2, 2), strides=(1, 2))})
  )
  np.testing.assert_array_equal(found["a"], [[0, 2], [1, 3]])


def test_compressed_and_big_endian_archives_are_refused(write):
  with pytest.raises(pickles.PickleError, match="compressed"):
    pickles.read_torch_tensors(
      write({"a": tensor()}, compression=zipfile.ZIP_DEFLATED)
    )
  with pytest.raises(pickles.PickleError, match="little-endian"):
    pickles.read_torch_tensors(write({"a": tensor()}, byteorder=b"big"))


def test_no_damage_of_an_archive_is_anything_but_a_pickle_error(tmp_path):
  data = (DATA / "tensors.bin").read_bytes()
  path = tmp_path / "tensors.bin"
  rng = np.random.default_rng(0)
  for _ in range(200):
    damaged = bytearray(data)
    for place in rng.integers(len(data), size=4):
      damaged[place] = rng.integers(256)
    path.write_bytes(damaged[: rng.integers(len(data) // 2, 2 * len(data))])
    try:
      pickles.read_torch_tensors(path)
    except pickles.PickleError as error:
      assert os.fspath(path) in str(error)


def test_a_pipeline_of_pickles_is_the_same_as_one_of_safetensors(tmp_path):
  pipeline = shutil.copytree(PIPELINE, tmp_path / "pipeline")
  for weights in pipeline.glob("*/*.safetensors"):
    arrays = safetensors.numpy.load_file(weights)
    assert {array.dtype for array in arrays.values()} == {np.dtype("f2")}
    values = OrderedDict()
    for key, (name, array) in enumerate(arrays.items()):
      values[name] = tensor(
        shape=array.shape,
        strides=tuple(step // array.itemsize for step in array.strides),
        storage=Storage(str(key), array.size, kind="HalfStorage"),
      )
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=2).dump(values)
    with zipfile.ZipFile(weights.with_suffix(".bin"), "w") as archive:
      archive.writestr("model/data.pkl", buffer.getvalue())
      for key, array in enumerate(arrays.values()):
        archive.writestr(f"model/data/{key}", array.tobytes())
    weights.unlink()
  config, parameters = checkpoints.load_diffusers_pipeline(pipeline)
  expected_config, expected = checkpoints.load_diffusers_pipeline(PIPELINE)
  assert config == expected_config
  jax.tree.map(np.testing.assert_array_equal, parameters, expected)
