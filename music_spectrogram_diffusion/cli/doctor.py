"""The verb `doctor`: whether this installation works, and how fast."""

import importlib.metadata
import importlib.util
import platform
import time

import typer

from music_spectrogram_diffusion.cli import console

_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "mido", "soundfile", "soxr")


def doctor() -> None:
  """Check the installation: versions, devices, model, speed, soundfont."""
  import jax
  import soundfile

  _row("music-spectrogram-diffusion", _version("music-spectrogram-diffusion"))
  _row("Python", f"{platform.python_version()}, {platform.platform()}")
  for package in _PACKAGES:
    _row(package, _version(package))
  _row("libsndfile", soundfile.__libsndfile_version__)
  devices = jax.devices()
  _row("devices", ", ".join(f"{d.platform} {d.device_kind}" for d in devices))
  _row("soundfont", _soundfont())
  problem = _self_test()
  if problem:
    console.complain(problem)
    raise typer.Exit(2)


def _row(name: str, value: str) -> None:
  print(f"{name:28}{value}", flush=True)


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return "not installed; run `pip install .`"


def _soundfont() -> str:
  """Where the soundfont is; only training data and benchmarks need it."""
  from music_spectrogram_diffusion import data

  try:
    path = data.find_soundfont()
  except ValueError as error:
    return f"none, fine unless you make training data: {error}"
  if not importlib.util.find_spec("tinysoundfont"):
    return f"{path}; to play it, `pip install --no-deps tinysoundfont`"
  return str(path)


def _self_test() -> str | None:
  """Renders one segment twice; returns what is wrong, if anything is."""
  import numpy as np

  from music_spectrogram_diffusion import inference, notes

  start = time.perf_counter()
  try:
    synthesizer = inference.Synthesizer.from_pretrained()
  except (ValueError, OSError) as error:
    return (
      f"the embedded model does not load: {console.reason(error)}; install"
      " the package again."
    )
  loading_s = time.perf_counter() - start
  _row("embedded model", f"{synthesizer.model_hash}, {loading_s:.1f} s to load")
  chord = notes.Notes.from_columns([0.0] * 3, 4.0, [60, 64, 67], 90)
  for label in ("first segment", "next segments"):
    start = time.perf_counter()
    samples = synthesizer(chord)
    spent_s = time.perf_counter() - start
    if not np.isfinite(samples).all() or not np.abs(samples).max() > 0.01:
      return (
        "the embedded model renders a chord as silence or noise; report it."
      )
    duration_s = len(samples) / synthesizer.spectrogram_config.sample_rate
    _row(label, f"{spent_s:.1f} s for {duration_s:.1f} s of audio")
  if spent_s > duration_s:
    console.say("hint: slower than real time; fewer --steps are faster.")
  return None
