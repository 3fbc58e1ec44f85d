"""The floors of the house: who may import whom, and what loads with it."""

import ast
import json
import os
import pathlib
import subprocess
import sys

import pytest

PACKAGE = "music_spectrogram_diffusion"
ROOT = pathlib.Path(__file__).parents[1] / PACKAGE
FLOORS = (
  ("notes", "audio", "diffusion"),
  ("models", "inverter", "data"),
  ("checkpoints", "training"),
  ("inference",),
  ("evaluation",),
  ("cli", "web"),
)
FLOOR_OF = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}
ROOMS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))

TENSORFLOW_KIN = {"tensorflow", "note_seq", "seqio", "t5x"}
HEAVY = TENSORFLOW_KIN | {"torch", "gin", "diffusers"}
MUST_NOT_LOAD = {
  "notes": HEAVY | {"jax", "flax", "soundfile", "matplotlib"},
  "audio": HEAVY | {"mido", "flax", "matplotlib"},
  "diffusion": HEAVY | {"mido", "soundfile", "soxr", "matplotlib"},
  # Verbs load what they need when they run, so that --help is instant.
  "cli.main": HEAVY | {"jax", "numpy", "mido", "matplotlib", "rich"},
}
MAY_IMPORT_TENSORFLOW = {"data", "evaluation"}
# Gin reaches the library from outside: from the verb that trains.
MAY_NAME = {
  ROOT / "cli" / "gin_files.py": {"gin"},
  ROOT / "cli" / "train.py": {"gin"},
  # Runs a published network, and loads TensorFlow when it is asked for one.
  ROOT / "inverter" / "saved_model.py": {"tensorflow"},
  ROOT / "training" / "t5x_adapter.py": {"t5x"},
}


def imports_of(path):
  """Yields (module, names) of every import in a file, nested ones too."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from ((alias.name, ()) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f"{path} imports relatively"
      yield node.module, tuple(alias.name for alias in node.names)


def room_imports(path):
  """Yields (room, module inside it or "", names) of imports of the project."""
  for module, names in imports_of(path):
    top, _, inside = module.partition(".")
    if top != PACKAGE:
      continue
    if inside:
      room, _, submodule = inside.partition(".")
      yield room, submodule, names
    else:
      yield from ((name, "", ()) for name in names)


def handed_out(room):
  """The names that a room's `__init__` binds by its imports."""
  tree = ast.parse((ROOT / room / "__init__.py").read_text())
  return {
    alias.asname or alias.name
    for node in tree.body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
  }


def files_of(room):
  return sorted((ROOT / room).rglob("*.py"))


def test_every_room_stands_on_a_floor():
  assert set(ROOMS) <= set(FLOOR_OF)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_lower_floors_only(room):
  for path in files_of(room):
    for other, _, _ in room_imports(path):
      if other in FLOOR_OF and other != room:
        assert FLOOR_OF[other] < FLOOR_OF[room], f"{path} imports {other}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_takes_from_another_what_its_init_hands_out(room):
  for path in files_of(room):
    for other, submodule, names in room_imports(path):
      if other in FLOOR_OF and other != room:
        assert not submodule, f"{path} reaches into {other}.{submodule}"
        missing = set(names) - handed_out(other)
        assert not missing, f"{path}: {other} does not hand out {missing}"


@pytest.mark.parametrize("room", ROOMS)
def test_the_library_names_neither_gin_nor_tensorflow_nor_torch(room):
  forbidden = {"gin", "torch"}
  if room not in MAY_IMPORT_TENSORFLOW:
    forbidden |= TENSORFLOW_KIN
  for path in files_of(room):
    tops = {module.partition(".")[0] for module, _ in imports_of(path)}
    assert not tops & forbidden - MAY_NAME.get(path, set()), path


@pytest.mark.parametrize("module", [*ROOMS, "cli.main"])
def test_importing_a_module_loads_nothing_it_has_no_business_with(
  module, tmp_path
):
  # Empty stand-ins come first on the path, so that a guarded import of a
  # package that is not installed here shows up too.
  for name in HEAVY:
    (tmp_path / f"{name}.py").touch()
  script = (
    f"import json, sys, {PACKAGE}.{module};"
    " print(json.dumps([m for m in sys.modules if '.' not in m]))"
  )
  path = os.pathsep.join([str(tmp_path), str(ROOT.parent)])
  result = subprocess.run(
    [sys.executable, "-c", script],
    env=os.environ | {"PYTHONPATH": path},
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  loaded = set(json.loads(result.stdout.splitlines()[-1]))
  assert not loaded & MUST_NOT_LOAD.get(module, HEAVY)
