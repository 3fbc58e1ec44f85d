"""Speed and memory of training, in one table.

`python benchmarks/training/run.py [--quick] [PART ...]`: see README.md.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
PARTS = ("step", "batch", "base", "loop")
ENVIRONMENT = {
  "JAX_PLATFORMS": "cpu",
  # What is measured is compiled anew.
  "JAX_ENABLE_COMPILATION_CACHE": "false",
  "PYTHONPATH": str(HERE.parents[1]),
}


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
  parser.add_argument(
    "--quick", action="store_true", help="tiny models, to try it"
  )
  args = parser.parse_args()
  unknown = sorted(set(args.parts) - set(PARTS))
  if unknown:
    parser.error(f"expected parts of {', '.join(PARTS)}; got {unknown[0]!r}")
  lines = ["| what | measured | target |", "|---|---|---|"]
  print("\n".join(lines), flush=True)
  for part in args.parts or PARTS:
    command = [sys.executable, HERE / "parts.py", part]
    result = subprocess.run(
      command + ["--quick"] * args.quick,
      env=os.environ | ENVIRONMENT,
      stdout=subprocess.PIPE,
      text=True,
      check=True,
    )
    for row in json.loads(result.stdout.splitlines()[-1]):
      lines.append(f"| {' | '.join(row)} |")
      print(lines[-1], flush=True)
  results = HERE / "results"
  results.mkdir(exist_ok=True)
  table = results / ("quick.md" if args.quick else "table.md")
  table.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
  main()
