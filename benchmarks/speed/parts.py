"""What `run.py` measures: each part gives the rows of a table."""

import json
import os
from pathlib import Path
import subprocess
import sys
import tempfile

from options import Options, Row
from steps import step

HERE = Path(__file__).parent

# Targets of realtime factors.
REALTIME = {"base": 1.0, "small": 3.0, "default": 10.0}


def render(options: Options) -> tuple[Row, list[Row]]:
  """How much faster than realtime whole songs are, inversion included."""
  rows = []
  for name in options.names:
    for dtype in ("float32", "bfloat16"):
      found = _run(
        "render.py",
        options,
        dict(
          name=name,
          dtype=dtype,
          device=options.device,
          segments=2 if options.quick else {"base": 3}.get(name, 6),
          repeats=1 if options.quick else 3,
          settings={} if name == "default" else options.paper_settings,
        ),
      )
      rows.append(
        (
          f"{name}, {dtype}: {found['settings']}",
          f"{found['realtime']:.2f}",
          f"{found['cpu_realtime']:.2f}",
          f"{found['sampler_ms']:.0f}",
          f"{found['inverter_ms']:.0f}",
          f"{REALTIME.get(name, 0):g}",
        )
      )
  header = (
    "song",
    "x realtime",
    "audio a CPU second",
    "ms a segment",
    "of it inversion",
    "target",
  )
  return header, rows


def start(options: Options) -> tuple[Row, list[Row]]:
  """From nothing to the first audio of the embedded model."""
  rows, repeats = [], 1 if options.quick else 5
  with tempfile.TemporaryDirectory() as cache:
    settings = dict(cache=cache, device=options.device)
    cold = _run("first.py", options, settings)
    warm = [_run("first.py", options, settings) for _ in range(repeats)]
  best = min(warm, key=lambda found: found["audio_s"])
  for label, found, target in (
    ("cold: nothing compiled", cold, ""),
    ("warm: compiled by an earlier run", best, "3 s"),
  ):
    rows.append(
      (
        label,
        *(f"{found[key]:.2f}" for key in ("import_s", "load_s", "audio_s")),
        f"{found['cpu_s']:.2f}",
        target,
      )
    )
  header = (
    "time to first audio",
    "imported, s",
    "loaded, s",
    "first audio, s",
    "CPU s",
    "target",
  )
  return header, rows


def memory(options: Options) -> tuple[Row, list[Row]]:
  """Peak memory of processes that render songs of 1, 10 and 60 minutes."""
  minutes = (0.1, 0.5) if options.quick else (1, 10, 60)
  rows = []
  for length in minutes:
    settings = dict(name="default", minutes=length, device=options.device)
    found = _run("memory.py", options, settings)
    rows.append(
      (
        f"default, {length:g} min",
        f"{found['peak_mb']:.0f}",
        f"{found['loaded_mb']:.0f}",
        f"{found['realtime']:.1f}",
        "constant",
      )
    )
  if "base" in options.names:
    for dtype in ("float32", "bfloat16"):
      settings = dict(name="base", minutes=0.25, dtype=dtype, steps=2)
      found = _run("memory.py", options, settings | {"device": options.device})
      rows.append(
        (
          f"base, {dtype}, 15 s, 2 steps",
          f"{found['peak_mb']:.0f}",
          f"{found['loaded_mb']:.0f}",
          "-",
          "2500" if dtype == "float32" else "",
        )
      )
  header = ("song", "peak MB", "of it loading", "x realtime", "target")
  return header, rows


def precision(options: Options) -> tuple[Row, list[Row]]:
  """What low precision does to results, part by part."""
  found = _run(
    "precision.py",
    options,
    dict(segments=1 if options.quick else 4, device=options.device),
  )
  rows = [(label, *(f"{x:.4f}" for x in values)) for label, *values in found]
  header = ("in bfloat16", "mean error, nats", "99th percentile")
  return header, rows


def _run(script, options, settings):
  """What a script of this folder says, in a process of its own."""
  result = subprocess.run(
    [sys.executable, HERE / script, json.dumps(settings)],
    env=os.environ | options.environment,
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  return json.loads(result.stdout.splitlines()[-1])


PARTS = {
  part.__name__: part for part in (step, render, start, memory, precision)
}
