"""The device that renders: whether it is there, and how much memory it has."""

from pathlib import Path
import re
import resource
import sys

import jax


class DeviceError(ValueError):
  """The device that was asked for is not there."""


class BatchTooLargeError(ValueError):
  """A batch does not fit in the memory of the device."""


def check_device() -> None:
  """Makes sure that JAX finds a device.

  Raises:
    DeviceError: It does not; in one line, with what to change.
  """
  try:
    jax.devices()
  # Some names that JAX knows, and has no package for, fail an assertion of its.
  except (RuntimeError, AssertionError) as error:
    wanted = jax.config.jax_platforms
    if not wanted:
      raise DeviceError(f"JAX finds no device: {error}") from error
    raise DeviceError(
      f"JAX_PLATFORMS={wanted} asks for a device that JAX does not find here;"
      " unset it to take what there is, or set it to cpu."
    ) from error


def available_bytes() -> int | None:
  """Free memory of the device, None where nothing tells it."""
  stats = jax.devices()[0].memory_stats()
  if stats and "bytes_limit" in stats:
    return stats["bytes_limit"] - stats["bytes_in_use"]
  found = re.search(r"MemAvailable: +(\d+) kB", _read("/proc/meminfo"))
  free = [int(found[1]) * 1024] if found else []
  cgroup = "/sys/fs/cgroup/memory."
  limit, used = (_read(cgroup + name).strip() for name in ("max", "current"))
  if limit.isdecimal() and used.isdecimal():  # A container's own limit.
    # What is cached of files counts as used, and is given up when need be.
    kept = _read(cgroup + "stat")
    cached = re.findall(r"^(?:in)?active_file (\d+)$", kept, re.MULTILINE)
    free.append(int(limit) - int(used) + sum(map(int, cached)))
  return min(free, default=None)


def peak_memory() -> str:
  """The most memory that this process has held so far, for people."""
  unit = 1 if sys.platform == "darwin" else 1024
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
  text = f"at most {peak / 1e9:.2f} GB"
  stats = jax.devices()[0].memory_stats()
  if stats and "peak_bytes_in_use" in stats:
    text += f", {stats['peak_bytes_in_use'] / 1e9:.2f} GB on the device"
  return text


def check_batch_fits(batch_size: int, needed: int | None) -> None:
  """Makes sure that a batch fits in the memory that is free.

  Args:
    batch_size: Its rows.
    needed: Bytes that it needs; None where that is not known.

  Raises:
    BatchTooLargeError: It does not; in one line, with a size that should.
  """
  free = available_bytes()
  if needed is None or free is None or needed <= free:
    return
  fitting = max(1, int(batch_size * free / needed))
  raise BatchTooLargeError(
    f"A batch of {batch_size} needs {needed / 1e9:.1f} GB of memory, of which"
    f" {free / 1e9:.1f} GB are free; try a batch size of {fitting}."
  )


def out_of_memory(
  batch_size: int, error: Exception
) -> BatchTooLargeError | None:
  """An error of JAX in one line, if it lacked memory for a batch; else None."""
  if "RESOURCE_EXHAUSTED" not in str(error):
    return None
  if batch_size > 1:
    advice = f"try a batch size of {batch_size // 2}"
  else:
    advice = "free some of it, or take a smaller model"
  return BatchTooLargeError(
    f"A batch of {batch_size} does not fit in the memory of"
    f" {jax.devices()[0].device_kind}; {advice}."
  )


def _read(path: str) -> str:
  try:
    return Path(path).read_text()
  except OSError:
    return ""
