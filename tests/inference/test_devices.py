import os
import subprocess
import sys

import jax
import pytest

from music_spectrogram_diffusion import inference
from music_spectrogram_diffusion.inference import devices


def test_a_device_that_is_not_there_is_one_line():
  # A process of its own: JAX keeps the device that it has found.
  script = (
    "from music_spectrogram_diffusion.cli import main;"
    " import sys; sys.argv = ['spec-diff', 'render', sys.argv[1]]; main.main()"
  )
  folder = os.path.dirname(devices.__file__)
  root = os.path.dirname(os.path.dirname(folder))
  songs = sorted(
    name for name in os.listdir(f"{root}/examples") if name.endswith(".mid")
  )
  song = f"{root}/examples/{songs[0]}"
  result = subprocess.run(
    [sys.executable, "-c", script, song],
    env=os.environ | {"JAX_PLATFORMS": "rocket", "PYTHONPATH": root},
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 2
  [line] = result.stderr.splitlines()
  assert line.startswith("error: JAX_PLATFORMS=rocket asks for a device")
  assert "unset it" in line


@pytest.mark.parametrize("error", [RuntimeError("no GPU"), AssertionError()])
def test_whatever_jax_says_of_a_device_it_does_not_find(monkeypatch, error):
  def fail():
    raise error

  monkeypatch.setattr(jax, "devices", fail)
  with pytest.raises(inference.DeviceError, match="JAX_PLATFORMS=cpu asks"):
    inference.Synthesizer.from_pretrained()


def test_a_batch_that_fits_is_no_error(monkeypatch):
  monkeypatch.setattr(devices, "available_bytes", lambda: 10**9)
  devices.check_batch_fits(8, 10**9)
  devices.check_batch_fits(8, None)


def test_the_size_that_is_suggested_fits(monkeypatch):
  monkeypatch.setattr(devices, "available_bytes", lambda: 10 * 10**9)
  with pytest.raises(inference.BatchTooLargeError) as raised:
    devices.check_batch_fits(64, 32 * 10**9)
  assert str(raised.value) == (
    "A batch of 64 needs 32.0 GB of memory, of which 10.0 GB are free; try a"
    " batch size of 20."
  )


def test_what_a_device_says_of_memory_is_told_apart_from_other_errors():
  full = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
  told = devices.out_of_memory(8, full)
  assert isinstance(told, inference.BatchTooLargeError)
  assert "batch of 8" in str(told) and "batch size of 4" in str(told)
  alone = str(devices.out_of_memory(1, full))
  assert "batch of 1" in alone and "smaller model" in alone
  other = jax.errors.JaxRuntimeError("INTERNAL: something")
  assert devices.out_of_memory(8, other) is None


def test_a_container_may_use_what_it_caches_of_files(monkeypatch):
  files = {
    "/proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n",
    "/sys/fs/cgroup/memory.max": "5000000\n",
    "/sys/fs/cgroup/memory.current": "4000000\n",
    "/sys/fs/cgroup/memory.stat": (
      "file 2600000\ninactive_anon 7\nactive_file 500000\n"
      "inactive_file 2000000\n"
    ),
  }
  monkeypatch.setattr(devices, "_read", lambda path: files.get(path, ""))
  assert devices.available_bytes() == 3_500_000
  files["/sys/fs/cgroup/memory.max"] = "max\n"  # No limit of its own.
  assert devices.available_bytes() == 8_192_000


def test_free_memory_is_that_of_the_machine_at_most():
  total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  assert 0 < devices.available_bytes() <= total
  assert "GB" in inference.peak_memory()
