"""How quality depends on sampler, spacing, steps and guidance.

  python benchmarks/steps/run.py --budget 12
  python benchmarks/steps/run.py --quick
  python benchmarks/steps/run.py sampler=dpm,num_steps=6 num_steps=12

Without SETTINGS it compares every sampler with every spacing, and early ends,
guidance weights and intervals, cheapest first, until the budget is used up;
what was computed is kept, so the same command goes on. See README.md.
"""

import argparse
import dataclasses
import pathlib
import sys
import time

import measure
import numpy as np
import plan
import segments as segments_lib
import tables

from music_spectrogram_diffusion import inference

_HERE = pathlib.Path(__file__).parent
_STEPS = (2, 4, 8, 10, 15, 20, 30, 50, 100)


def main():
  started = time.monotonic()
  arguments = _parse_arguments()
  cache = arguments.output / "cache"
  cache.mkdir(parents=True, exist_ok=True)
  synthesizer = inference.Synthesizer.from_pretrained(arguments.model)
  model = synthesizer.model
  base = plan.default_of(model)
  everything = segments_lib.load(
    synthesizer, arguments.segments, segments_lib.QUALITY / "pieces"
  )
  bench = measure.Bench(synthesizer, everything, arguments.seeds, cache)
  few = measure.Bench(
    synthesizer,
    everything[: arguments.reference_segments],
    arguments.reference_seeds,
    cache,
  )
  reference = plan.reference_of(base)
  if arguments.settings:
    settings = [plan.parse(text, base) for text in arguments.settings]
  else:
    settings = [base, *plan.solvers(base, tuple(arguments.steps))]
    for name in arguments.groups:
      settings += plan.GROUPS[name](base)
  settings = plan.cheapest_first(settings, model)
  pace = _estimate(bench, few, settings, reference, arguments)

  reference_mels, programs = None, set()
  if not arguments.no_reference:
    _say(f"reference: {reference.num_steps} steps")
    reference_mels = few.sample(reference)
  done = []
  for setting in settings:
    left_s = 60 * arguments.budget - (time.monotonic() - started)
    needed_s = pace.hearing_s * (len(done) + 1)
    if not bench.path(setting, ".npy").exists():
      needed_s += pace.of(setting, model, programs)
    if needed_s > left_s:
      break
    programs.add(setting.program(model))
    _say(f"{len(done) + 1}/{len(settings)}: {tables.name(setting)}")
    bench.sample(setting)
    done.append(setting)
  long = plan.long(base) if arguments.long else []
  for setting in long:
    _say(f"on the reference's segments: {tables.name(setting)}")
    few.sample(setting)
  if arguments.transcriber.exists():
    _say("transcribing")
    bench.hear(done, arguments.transcriber)
    few.hear(long, arguments.transcriber)
  else:
    _say(f"no note F1: there is no transcriber at {arguments.transcriber}")

  text = tables.table(bench, done, base, reference_mels)
  if reference_mels is not None:
    text += tables.about_reference(reference, reference_mels)
  if long:
    text += "\nOn the reference's segments:\n\n"
    text += tables.table(few, long, base, reference_mels)
  if left_out := settings[len(done) :]:
    text += f"\n{len(left_out)} settings did not fit in the budget, from"
    text += f" {tables.name(left_out[0])} on; the same command goes on.\n"
  (arguments.output / "table.md").write_text(text)
  print(text)


@dataclasses.dataclass(frozen=True)
class _Pace:
  """Seconds of compiling, of a pass of the batch, and of hearing a setting."""

  compiling_s: float
  pass_s: float
  hearing_s: float

  def of(self, setting, model, programs=()):
    is_new = setting.program(model) not in programs
    return is_new * self.compiling_s + self.pass_s * setting.passes(model)


def _estimate(bench, few, settings, reference, arguments):
  """Measures one setting, and says how long all will take."""
  model = bench.synthesizer.model
  probe = dataclasses.replace(
    plan.default_of(model), num_steps=4, sampler="ddim", end_time=0.0
  )
  first_s, second_s = bench.seconds_of(probe)
  pass_s = second_s / probe.passes(model)
  config, frames = model.spectrogram, model.network.segment_frames
  shape = (bench.seeds, len(bench.segments), frames, config.n_mels)
  silence = np.full(shape, config.mel_range[0], np.float32)
  bench.seconds_of_inverting(silence)  # Compiles.
  # The transcriber is given twice as long as the inverter, which is on the
  # safe side.
  pace = _Pace(
    first_s - second_s, pass_s, 3 * bench.seconds_of_inverting(silence)
  )
  missing = [s for s in settings if not bench.path(s, ".npy").exists()]
  unheard = [s for s in settings if not bench.path(s, ".json").exists()]
  needed_s, programs = 0.0, set()
  for setting in missing:
    needed_s += pace.of(setting, model, programs)
    programs.add(setting.program(model))
  needed_s += pace.hearing_s * len(unheard)
  share = few.seeds * len(few.segments) / (bench.seeds * len(bench.segments))
  if not arguments.no_reference and not few.path(reference, ".npy").exists():
    reference_s = pace.compiling_s + share * pass_s * reference.passes(model)
    needed_s += reference_s
    _say(f"the reference alone: about {reference_s / 60:.1f} minutes")
  passes = sum(setting.passes(model) for setting in missing)
  _say(
    f"{len(missing)} of {len(settings)} settings to compute, {passes} passes of"
    f" {bench.seeds * len(bench.segments)} segments at {pass_s:.2f} s: about"
    f" {needed_s / 60:.0f} minutes of {arguments.budget:g}"
  )
  return pace


def _say(line):
  print(line, file=sys.stderr, flush=True)


def _parse_arguments():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("settings", nargs="*", help="NAME=VALUE,... over the model's default")
  add("--model", help="model directory (default: the embedded one)")
  add("--steps", type=int, nargs="+", default=_STEPS)
  add("--groups", nargs="*", choices=plan.GROUPS, default=list(plan.GROUPS))
  add("--segments", type=int, default=6, help="how many (default: 6)")
  add("--seeds", type=int, default=2, help="of each (default: 2)")
  add("--reference-segments", type=int, default=2)
  add("--reference-seeds", type=int, default=3)
  add("--no-reference", action="store_true", help="no 1000 steps")
  add(
    "--long",
    action="store_true",
    help="also every sampler at 1000 steps, on the reference's segments;"
    " whatever the budget",
  )
  add("--budget", type=float, default=np.inf, help="minutes (default: no end)")
  add(
    "--quick", action="store_true", help="2 segments, few steps, no reference"
  )
  add("--output", type=pathlib.Path, default=_HERE / "results")
  add(
    "--transcriber",
    type=pathlib.Path,
    default=segments_lib.QUALITY / ".venv-transcriber/bin/python",
    help="Python of the environment of benchmarks/quality",
  )
  arguments = parser.parse_args()
  if arguments.quick:
    arguments.segments, arguments.no_reference = 2, True
    arguments.steps, arguments.groups = [2, 4], []
  return arguments


if __name__ == "__main__":
  main()
