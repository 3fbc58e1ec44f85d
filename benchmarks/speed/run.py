"""How fast rendering is, in tables: see README.md.

`python benchmarks/speed/run.py [--quick] [PART ...]`
"""

import argparse
import json
from pathlib import Path
import sys

import options
import parts

HERE = Path(__file__).parent
NAMES = ("small", "base", "default")


def main() -> None:
  """Measures the parts that were asked for, or all."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("parts", nargs="*", help=", ".join(parts.PARTS))
  parser.add_argument("--quick", action="store_true", help="a try: minutes")
  parser.add_argument(
    "--models", nargs="+", default=NAMES, choices=NAMES, help="which"
  )
  parser.add_argument("--device", default="cpu", choices=("cpu", "gpu"))
  parser.add_argument("--peer", type=Path, default=options.PEER, help="Python")
  for name, value in options.PAPER_SETTINGS.items():
    parser.add_argument(
      f"--{name}", default=value, type=type(value), help="of small and base"
    )
  args = parser.parse_args()
  unknown = sorted(set(args.parts) - set(parts.PARTS))
  if unknown:
    parser.error(
      f"expected parts of {', '.join(parts.PARTS)}; got {unknown[0]!r}"
    )
  asked = options.Options(
    names=tuple(args.models),
    device=args.device,
    quick=args.quick,
    peer=args.peer,
    paper_settings={name: vars(args)[name] for name in options.PAPER_SETTINGS},
  )
  results = HERE / "results"
  results.mkdir(exist_ok=True)
  for name in args.parts or parts.PARTS:
    header, rows = parts.PARTS[name](asked)
    text = table(header, rows)
    print(text, flush=True)
    stem = f"{name}-{args.device}{'-quick' * args.quick}"
    (results / f"{stem}.md").write_text(text)
    (results / f"{stem}.json").write_text(json.dumps([header, *rows], indent=1))


def table(header: options.Row, rows: list[options.Row]) -> str:
  """The rows in Markdown."""
  lines = [header, ("---",) * len(header), *rows]
  return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
  sys.exit(main())
