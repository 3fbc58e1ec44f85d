"""Processes that take turns, so that what else a machine does falls on all.

One side serves functions by name, the other calls them; a line of JSON each
way. Imports the standard library alone: the peer's environment has little else.
"""

from collections.abc import Callable, Mapping, Sequence
import json
import os
import subprocess
import sys
import time

NUM_CORES = 2


def use_two_cores() -> None:
  """Keeps this process on two cores; call it before a library asks how many."""
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:NUM_CORES])


def cost(function: Callable[[], object]) -> dict[str, float]:
  """Seconds of the clock, and of the CPU over all threads, of one call."""
  clock, cpu = time.perf_counter(), time.process_time()
  function()
  return {
    "clock_s": time.perf_counter() - clock,
    "cpu_s": time.process_time() - cpu,
  }


def serve(functions: Mapping[str, Callable[[], object]], **facts) -> None:
  """Calls each function once, tells the facts, then calls what is asked for."""
  for function in functions.values():
    function()
  print(json.dumps({"names": list(functions), **facts}), flush=True)
  for line in sys.stdin:
    print(json.dumps(cost(functions[line.strip()])), flush=True)


class Server:
  """A process that serves functions.

  Args:
    command: Starts it.
    environment: Variables to add to this process's own.
  """

  def __init__(
    self, command: Sequence[object], environment: Mapping[str, str] = {}
  ):
    self._process = subprocess.Popen(
      [str(part) for part in command],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      env=os.environ | environment,
    )
    self.facts = self._answer()

  def cost(self, name: str) -> dict[str, float]:
    """As `cost`, of a function over there."""
    print(name, file=self._process.stdin, flush=True)
    return self._answer()

  def _answer(self):
    line = self._process.stdout.readline()
    if not line:
      raise RuntimeError(f"{self._process.args[:2]} ended early; see above.")
    return json.loads(line)

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._process.stdin.close()
    self._process.wait()


def in_turns(
  measures: Mapping[str, Callable[[], dict[str, float]]], rounds: int
) -> dict[str, dict[str, float]]:
  """The least that each has cost, over rounds in which all have their turn."""
  found = {name: [] for name in measures}
  for _ in range(rounds):
    for name, measure in measures.items():
      found[name].append(measure())
  return {
    name: {key: min(cost[key] for cost in costs) for key in costs[0]}
    for name, costs in found.items()
  }


if __name__ == "__main__":
  serve({})
