"""The command as a process of its own, with a tiny model of random weights."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import pytest
import soundfile

from music_spectrogram_diffusion import checkpoints, models, notes

# Runs the command, and says which modules that loaded.
_SCRIPT = """
import json, sys
from music_spectrogram_diffusion.cli import main
try:
  main.main()
finally:
  print(json.dumps([name for name in sys.modules if "." not in name]))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  path = tmp_path_factory.mktemp("model")
  model = models.DiffusionModel(
    network=models.paper_network("tiny"),
    sampling=models.SamplingConfig(sampler="ddim", num_steps=1),
  )
  checkpoints.save_model_directory(
    path,
    {"model": models.to_config(model)},
    model.init(jax.random.key(0)),
  )
  return path


def start(tmp_path, model, *, duration_s, options=(), stand_ins=()):
  """Starts to render one long note to song.wav."""
  song = tmp_path / "song.mid"
  notes.write_midi(notes.Notes.from_columns(0.0, duration_s, 60, 80), song)
  folder = tmp_path / "stand_ins"
  folder.mkdir()
  for name in stand_ins:
    (folder / f"{name}.py").touch()
  return subprocess.Popen(
    [sys.executable, "-c", _SCRIPT, "render", song, "--model", model, *options],
    env=os.environ
    | {
      "PYTHONPATH": f"{folder}{os.pathsep}{os.getcwd()}",
      # As users compile.
      "XLA_FLAGS": "",
      "JAX_DISABLE_MOST_OPTIMIZATIONS": "false",
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def test_rendering_loads_neither_tensorflow_nor_torch(tmp_path, model):
  # Empty stand-ins, so that a guarded import shows where none is installed.
  forbidden = ["tensorflow", "torch", "note_seq", "seqio", "gin"]
  process = start(tmp_path, model, duration_s=3.0, stand_ins=forbidden)
  stdout, stderr = process.communicate(timeout=120)
  assert process.returncode == 0, stderr
  assert soundfile.info(tmp_path / "song.wav").duration == 4.0
  loaded = json.loads(stdout.splitlines()[-1])
  assert "jax" in loaded
  assert not set(loaded) & set(forbidden)


def test_control_c_leaves_a_playable_file_and_exits_130(tmp_path, model):
  steps = ["--steps", "40"]
  process = start(tmp_path, model, duration_s=3000.0, options=steps)
  deadline = time.monotonic() + 120
  while not any(
    path.stat().st_size > 2**18 for path in tmp_path.glob(".song.wav.*.part")
  ):
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.05)
  process.send_signal(signal.SIGINT)
  _, stderr = process.communicate(timeout=60)
  assert process.returncode == 130, stderr
  assert "Interrupted" in stderr and "Traceback" not in stderr
  assert 5.0 < soundfile.info(tmp_path / "song.wav").duration < 3000.0
  assert not json.loads((tmp_path / "song.json").read_text())["complete"]
  assert not list(tmp_path.glob(".*.part"))
