"""What `run.py` was asked for."""

import dataclasses
from pathlib import Path

HERE = Path(__file__).parent
PEER = HERE / ".venv-peer" / "bin" / "python"

# How the paper's sizes are sampled here: their own default of 1000 steps is for
# a GPU.
PAPER_SETTINGS = dict(sampler="dpm", steps=8, guidance=2.0)

Row = tuple[str, ...]


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
    return {"PYTHONPATH": str(HERE.parents[1]), **platforms}
