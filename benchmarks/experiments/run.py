"""Trains variants of the default model's recipe and lays out their scores.

  python benchmarks/experiments/run.py --songs DIR [--only NAME ...]

DIR is what `spec-diff prepare soundfont --format=arrays` has written. Each
variant of variants.py is the small setting of base.gin with one thing changed,
trained for the same number of floating-point operations, then scored. Variants
that have a result in --output are not trained again. See docs/experiments.md.
"""

import argparse
import json
import pathlib
import re
import sys
import time

import jax

_HERE = pathlib.Path(__file__).parent
_QUALITY = _HERE.parent / "quality"
sys.path.append(str(_QUALITY))

import numpy as np  # noqa: E402
import renderings  # noqa: E402
import scoring  # noqa: E402
import table  # noqa: E402
import trial  # noqa: E402
import variants  # noqa: E402

from music_spectrogram_diffusion import inference  # noqa: E402
from music_spectrogram_diffusion.cli import gin_files  # noqa: E402
from music_spectrogram_diffusion.data import soundfont  # noqa: E402

_HELD_OUT_EVERY = 40  # Of the songs, by name.


def main():
  arguments = _parse_arguments()
  output = arguments.output
  (output / "cache").mkdir(parents=True, exist_ok=True)
  # Many programs are those of another variant.
  jax.config.update("jax_compilation_cache_dir", str(output / "cache" / "xla"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
  folders = split_songs(arguments.songs, output)
  references = None
  base = configured(variants.BASE, folders, output)
  budget = base.num_steps * arguments.scale * base.step_flops()
  for variant in variants.VARIANTS:
    path = output / "runs" / f"{_file_name(variant.name)}.json"
    if path.exists() or (arguments.only and variant.name not in arguments.only):
      continue
    print(f"{time.strftime('%H:%M:%S')} {variant.name}", flush=True)
    if references is None:
      references = _references(arguments)
    found = run_variant(variant, budget, folders, output, references)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    jax.clear_caches()
    _write_table(output)
  print(_write_table(output))


def configured(variant, folders, output, num_steps=None) -> trial.Trial:
  """The trial of a variant, made by gin.

  Args:
    variant: Which.
    folders: Of songs to train on, and of others.
    output: Where data's statistics go.
    num_steps: Steps to make in place of those of the setting.
  """
  import gin

  bindings = [
    f"MODEL_DIR = {str(output / 'statistics')!r}",
    f"DATA_DIR = {str(folders[0])!r}",
    f"EVAL_DATA_DIR = {str(folders[1])!r}",
  ]
  if num_steps is not None:
    bindings += [
      f"TRAIN_STEPS = {num_steps}",
      f"WARMUP_STEPS = {round(0.15 * num_steps)}",
      f"DECAY_STEPS = {round(0.4 * num_steps)}",
    ]
  gin_files.load([str(_HERE / "base.gin")], [*bindings, *variant.bindings])
  with gin_files.explained():
    return gin.get_configurable(trial.Trial)()


def run_variant(variant, budget, folders, output, references) -> dict:
  """Trains a variant for `budget` operations and scores it."""
  flops = configured(variant, folders, output).step_flops()
  num_steps = round(budget / flops)
  attempt = configured(variant, folders, output, num_steps)
  started = time.process_time()
  state, cost = attempt.train()
  trained = time.process_time()
  found = scoring.score(
    _file_name(variant.name),
    scoring.Player(attempt.learner.model, state.average),
    attempt.held_out(scoring.BATCH),
    references,
  )
  return {
    "name": variant.name,
    "group": variant.group,
    "bindings": variant.bindings,
    "steps": num_steps,
    "gigaflops_a_step": flops / 1e9,
    "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.average)),
    "training_cpu_s": trained - started,
    "scoring_cpu_s": time.process_time() - trained,
    "scores": found | {"f1 of ground truth": references.ground_truth_f1},
  } | cost


def split_songs(songs, output):
  """Folders of links to the songs to train on, and to those held out."""
  paths = sorted(songs.glob("*.safetensors"))
  if len(paths) < 2 * _HELD_OUT_EVERY:
    sys.exit(
      f"Expected at least {2 * _HELD_OUT_EVERY} prepared songs in {songs},"
      f" found {len(paths)}; make some: spec-diff prepare soundfont"
      f" --format arrays --hours 14 --data_dir {songs}"
    )
  folders = (output / "train", output / "held_out")
  for folder in folders:
    folder.mkdir(exist_ok=True)
  for index, path in enumerate(paths):
    link = folders[index % _HELD_OUT_EVERY == 0] / path.name
    if not link.is_symlink():
      link.symlink_to(path.resolve())
  return folders


def _references(arguments):
  invert = inference.Synthesizer.from_pretrained().inverter
  renderer = soundfont.SoundfontRenderer(
    soundfont.find_soundfont(), invert.config.sample_rate
  )
  paths = sorted((_QUALITY / "pieces").glob("*.mid"))
  chosen = np.linspace(0, len(paths) - 1, scoring.BATCH).round().astype(int)
  return scoring.References(
    pieces=[
      renderings.load_piece(
        paths[index], arguments.seconds, renderer, invert.config
      )
      for index in chosen
    ],
    invert=invert,
    renderer=renderer,
    transcriber=arguments.transcriber,
    output=arguments.output,
  )


def _write_table(output):
  results = {}
  for path in (output / "runs").glob("*.json"):
    found = json.loads(path.read_text())
    results[found["name"]] = found
  text = table.layout(results)
  (output / "table.md").write_text(text)
  return text


def _file_name(name):
  return re.sub(r"[^\w.-]+", "_", name)


def _parse_arguments():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--songs", type=pathlib.Path, required=True, help="prepared songs")
  add("--only", nargs="*", help="names of variants (default: all)")
  add("--scale", type=float, default=1.0, help="train so many times as long")
  add("--seconds", type=float, default=10.0, help="of each piece (default: 10)")
  add("--output", type=pathlib.Path, default=_HERE / "results")
  add(
    "--transcriber",
    type=pathlib.Path,
    default=_QUALITY / ".venv-transcriber/bin/python",
    help="Python of the environment made by quality/setup_transcriber.sh",
  )
  return parser.parse_args()


if __name__ == "__main__":
  main()
