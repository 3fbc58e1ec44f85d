"""A guided denoising step: ours, the peer's, the textbook's and the floor."""

import functools
import json
import sys

from options import HERE, Options, Row
import turns

# Targets of a step.
AGAINST_FLOOR, AGAINST_PEER, AGAINST_TEXTBOOK = 1.25, 7.0, 4.0

FEW_NOTES, ALL_NOTES = 256, 2048
WAYS = ("two passes", "one batch")

Costs = dict[str, dict[str, float]]


def step(options: Options) -> tuple[Row, list[Row]]:
  """Measures every model at every batch and number of notes."""
  header = (
    "guided step",
    "ms",
    "CPU ms",
    "steps/s",
    "ours is faster by",
    "target",
  )
  rows = []
  for name in options.names:
    for batch in (1, 16) if options.device == "gpu" else (1,):
      tokens = [FEW_NOTES]
      if not options.quick and name != "default":
        tokens.append(ALL_NOTES)
      size = dict(name=name, batch=batch, tokens=tokens, device=options.device)
      found, flops = measure(options, size)
      for count in tokens:
        rows += _rows(f"{name}, batch {batch}", count, tokens[-1], found, flops)
  return header, rows


def measure(options: Options, size: dict) -> tuple[Costs, dict[str, float]]:
  """Has ours and the peer take turns.

  Returns:
    What each function costs a step, or a segment where it encodes; those of the
    peer are named "diffusers, ...". And floating point operations of a step.
  """
  command = [sys.executable, HERE / "ours.py", json.dumps(size)]
  environment = options.environment | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
  peer = _peer_command(options, size)
  with turns.Server(command, environment) as ours, turns.Server(peer) as theirs:
    measures = {
      name: functools.partial(ours.cost, name) for name in ours.facts["names"]
    }
    for name in theirs.facts["names"]:
      measures[f"diffusers, {name}"] = functools.partial(theirs.cost, name)
    found = turns.in_turns(measures, rounds=3 if options.quick else 10)
    count = ours.facts["steps"]
    for name in ours.facts["names"]:
      if not name.startswith("encode"):
        found[name] = {key: cost / count for key, cost in found[name].items()}
    flops = {name: sum_ / count for name, sum_ in ours.facts["flops"].items()}
  return found, flops


def _peer_command(options, size):
  """Starts the peer; something that serves nothing where there is none."""
  nothing = [sys.executable, HERE / "turns.py"]
  if size["name"] == "default":
    return nothing
  if not options.peer.exists():
    print(f"No peer in {options.peer}: see setup_peer.sh.", file=sys.stderr)
    return nothing
  from music_spectrogram_diffusion import audio, models

  network = models.paper_network(size["name"])
  shape = dict(
    emb_dim=network.emb_dim,
    num_layers=network.num_decoder_layers,
    num_heads=network.num_heads,
    head_dim=network.head_dim,
    mlp_dim=network.mlp_dim,
    frames=network.segment_frames,
    n_mels=audio.SpectrogramConfig().n_mels,
    dtype="float32",
  )
  return [options.peer, HERE / "peer.py", json.dumps(size | shape)]


def _rows(label, count, most, found, flops):
  """The rows of one model at `count` notes; others have `most` always."""
  fast = found[f"fast, {count}"]

  def row(name, cost, target=""):
    return (
      f"{label}: {name}, {count} notes",
      f"{1e3 * cost['clock_s']:.1f}",
      f"{1e3 * cost['cpu_s']:.1f}",
      f"{1.0 / cost['clock_s']:.1f}",
      f"{cost['clock_s'] / fast['clock_s']:.2f}",
      target,
    )

  def against(names, wanted):
    if count > FEW_NOTES:
      return ""
    best = min(found[f"{name}, {most}"]["clock_s"] for name in names)
    return f"best of {most} notes: {best / fast['clock_s']:.2f} of {wanted:g}"

  rows = []
  for others, wanted in (
    ([f"diffusers, {way}" for way in WAYS], AGAINST_PEER),
    (["textbook"], AGAINST_TEXTBOOK),
  ):
    there = [name for name in others if f"{name}, {count}" in found]
    rows += [
      row(name, found[f"{name}, {count}"], against(there, wanted))
      for name in there
    ]
  rows.append(row("ours, plain", found[f"plain, {count}"]))
  encoders = {
    name: found[f"{name}, {count}"]
    for name in ("diffusers, encode", "encode")
    if f"{name}, {count}" in found
  }
  for name, cost in encoders.items():
    whose = "diffusers" if "diffusers" in name else "ours"
    rows.append(
      (
        f"{label}: {whose}, encoders of a segment, {count} notes",
        f"{1e3 * cost['clock_s']:.1f}",
        f"{1e3 * cost['cpu_s']:.1f}",
        "",
        f"{cost['clock_s'] / encoders['encode']['clock_s']:.2f}",
        "",
      )
    )
  for dtype in ("", " bfloat16"):
    own, products = found[f"fast{dtype}, {count}"], found[f"products{dtype}"]
    needed = flops[f"fast, {count}"]
    share = needed / flops[f"products{dtype}"]
    floor = {key: cost * share for key, cost in products.items()}
    rate = needed / floor["clock_s"]
    times = own["clock_s"] / floor["clock_s"]
    cpu_times = own["cpu_s"] / floor["cpu_s"]
    target = f"{times:.2f} floors, {cpu_times:.2f} by CPU; {AGAINST_FLOOR:g}"
    rows.append(row(f"ours{dtype}", own, target))
    rows.append(
      row(
        f"floor{dtype}, {needed / 1e9:.1f} GFLOP at {rate / 1e9:.0f} a second",
        floor,
      )
    )
  return rows
