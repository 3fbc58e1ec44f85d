"""What `run.py` measures: each part gives the rows of a table."""

import dataclasses
import json
import os
from pathlib import Path
import subprocess
import sys
import tempfile

import turns

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PEER = HERE / ".venv-peer" / "bin" / "python"

# Targets: of a guided step, and realtime factors.
AGAINST_FLOOR, AGAINST_PEER = 1.25, 7.0
REALTIME = {"base": 1.0, "small": 3.0, "default": 10.0}

# How the paper's sizes are sampled here: their own default of 1000 steps is for
# a GPU.
PAPER_SETTINGS = dict(sampler="dpm", steps=8, guidance=2.0)


@dataclasses.dataclass(frozen=True)
class Options:
  """What `run.py` was asked for.

  Attributes:
    names: Which models.
    device: "cpu" or "gpu".
    quick: Whether this is a try.
    peer: Python of the peer's environment.
    paper_settings: Settings of `Synthesizer.stream` for the paper's sizes.
  """

  names: tuple[str, ...]
  device: str
  quick: bool
  peer: Path
  paper_settings: dict

  @property
  def environment(self) -> dict[str, str]:
    """Of processes of ours."""
    platforms = {"cpu": {"JAX_PLATFORMS": "cpu"}, "gpu": {}}[self.device]
    return {"PYTHONPATH": str(ROOT), **platforms}


Row = tuple[str, ...]


def step(options: Options) -> tuple[Row, list[Row]]:
  """One guided denoising step, ours beside the peer's and the floor."""
  batches = (1, 16) if options.device == "gpu" else (1,)
  rows = []
  for name in options.names:
    for batch in batches:
      rows += _step(options, name, batch)
  header = (
    "guided step",
    "ms",
    "CPU ms",
    "steps/s x batch",
    "ours is faster by",
    "target",
  )
  return header, rows


def _step(options, name, batch):
  """Of one model and batch."""
  # Few notes, and as many as there can be.
  tokens = [256] if options.quick or name == "default" else [256, 2048]
  size = dict(name=name, batch=batch, tokens=tokens, device=options.device)
  command = [sys.executable, HERE / "ours.py", json.dumps(size)]
  uncached = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
  rounds = 3 if options.quick else 10
  with turns.Server(command, options.environment | uncached) as ours:
    servers = {key: ours for key in ours.facts["names"]}
    peer = _peer(options, size) if name != "default" else None
    if peer:
      servers |= {f"peer, {key}": peer for key in peer.facts["names"]}
    found = turns.in_turns(
      {
        key: lambda key=key, server=server: server.cost(
          key.removeprefix("peer, ")
        )
        for key, server in servers.items()
      },
      rounds,
    )
    facts = ours.facts
    if peer:
      peer.__exit__()
  for key in facts["names"]:
    found[key] = {k: v / facts["steps"] for k, v in found[key].items()}

  def row(label, key, target="", cost=None):
    cost = cost or found[key]
    ratio = cost["clock_s"] / fast["clock_s"]
    cpu = f"{1e3 * cost['cpu_s']:.1f}" if "cpu_s" in cost else "-"
    return (
      f"{name}, batch {batch}: {label}",
      f"{1e3 * cost['clock_s']:.1f}",
      cpu,
      f"{batch / cost['clock_s']:.1f}",
      f"{ratio:.2f}",
      target,
    )

  rows = []
  for count in tokens:
    fast = found[f"fast, {count}"]
    suffix = f", {count} notes"
    if peer:
      for way in ("two passes", "one batch"):
        key = f"peer, {way}, {count}"
        rows.append(row(f"diffusers, {way}{suffix}", key))
      # Its pipeline always has 2048 positions for notes.
      best = min(
        found[f"peer, {way}, {tokens[-1]}"]["clock_s"]
        for way in ("two passes", "one batch")
      )
      ratio = best / fast["clock_s"]
      target = (
        f"its best of {tokens[-1]} notes: {ratio:.2f} of {AGAINST_PEER:g}"
      )
      rows.append((*rows.pop()[:-1], target if count <= 256 else ""))
    rows.append(row(f"ours, plain{suffix}", f"plain, {count}"))
    rows.append(row(f"ours{suffix}", f"fast, {count}"))
    rows.append(row(f"ours, bfloat16{suffix}", f"fast bfloat16, {count}"))
    for kind in ("", " bfloat16"):
      base = found[f"products{kind}"]
      own = found[f"fast{kind}, {count}"]
      rate = (
        facts["flops"][f"products{kind}"] / facts["steps"] / base["clock_s"]
      )
      needed = facts["flops"][f"fast, {count}"] / facts["steps"]
      cpu_s = base["cpu_s"] * needed * facts["steps"]
      cpu_s /= facts["flops"][f"products{kind}"]
      floor = {"clock_s": needed / rate, "cpu_s": cpu_s}
      over = own["clock_s"] / floor["clock_s"]
      over_cpu = own["cpu_s"] / cpu_s
      label = (
        f"floor{kind}{suffix}: {needed / 1e9:.1f} GFLOP at"
        f" {rate / 1e9:.0f} GFLOP/s"
      )
      target = f"{over:.2f} times it, {over_cpu:.2f} by CPU, of {AGAINST_FLOOR}"
      rows.append(row(label, None, target, floor))
  return rows


def _peer(options, size):
  """The peer's server; None with a word where it is not installed."""
  if not options.peer.exists():
    print(f"No peer in {options.peer}: see setup_peer.sh.", file=sys.stderr)
    return None
  from music_spectrogram_diffusion import models

  network = models.paper_network(size["name"])
  shape = dict(
    emb_dim=network.emb_dim,
    num_layers=network.num_decoder_layers,
    num_heads=network.num_heads,
    head_dim=network.head_dim,
    mlp_dim=network.mlp_dim,
    frames=network.segment_frames,
    n_mels=128,
    dtype="float32",
  )
  command = [options.peer, HERE / "peer.py", json.dumps(size | shape)]
  return turns.Server(command)


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
