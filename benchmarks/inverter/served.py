"""A process that inverts on demand: the side that is measured.

Shared by worker.py and peer.py, which run in different environments; imports
the standard library alone. Memory is read from /proc, so this is for Linux.
"""

from collections.abc import Callable
import dataclasses
import json
import os
import sys
import time

FIRST_S = 0.1
"""Of the audio whose latency is measured, in seconds."""
NUM_CORES = 2

_MB = 1e6


@dataclasses.dataclass(frozen=True)
class Served:
  """An inverter, ready to be measured.

  Attributes:
    invert: Inverts the whole spectrogram.
    first: Inverts until `FIRST_S` of audio are there.
    frames_needed: Counts the frames that must be there for those.
    num_parameters: Of its network; 0 for none.
  """

  invert: Callable[[], object]
  first: Callable[[], object]
  frames_needed: Callable[[], int]
  num_parameters: int


def use_two_cores() -> None:
  """Keeps this process on two cores; call it before a library asks how many."""
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:NUM_CORES])


def serve(load: Callable[[], Served]) -> None:
  """Answers `time`, `first` and `end` on the standard input, a line each.

  The first line of the output comes unasked, when everything is loaded and
  compiled. All are JSON: seconds, CPU seconds of all
  threads, and megabytes of memory.

  Args:
    load: Makes the inverter, and compiles nothing yet.
  """
  baseline = _memory("VmRSS")
  start_s = time.perf_counter()
  served = load()
  served.first()
  cold_s = time.perf_counter() - start_s
  served.invert()  # Compiles what else there is.
  _answer(
    cold_s=cold_s,
    frames_needed=served.frames_needed(),
    num_parameters=served.num_parameters,
  )
  actions = {"time": served.invert, "first": served.first}
  for line in sys.stdin:
    if line.strip() == "end":
      peak = _memory("VmHWM")
      _answer(peak_mb=peak, increase_mb=peak - baseline)
      return
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    actions[line.strip()]()
    seconds = time.perf_counter() - start_s
    _answer(seconds=seconds, cpu_s=time.process_time() - start_cpu_s)


def _answer(**figures):
  print(json.dumps(figures), flush=True)


def _memory(field):
  """A line of /proc/self/status, in MB.

  Not getrusage: its peak is inherited from the process that started this one.
  """
  with open("/proc/self/status") as file:
    for line in file:
      if line.startswith(field):
        return int(line.split()[1]) * 1024 / _MB
  raise OSError(f"Expected {field} in /proc/self/status, found none.")
