"""Writes tests/data/torch_tensors: what torch saves, and what is in it.

Run from the root of the checkout, in an environment of its own, as
make_diffusers_fixture.py says; the tests then need no torch:

  python tests/parity/make_torch_fixture.py
"""

from pathlib import Path

import numpy as np
import torch


def main() -> None:
  path = Path("tests/data/torch_tensors")
  path.mkdir(parents=True, exist_ok=True)
  generator = torch.Generator().manual_seed(0)
  table = torch.randn(6, 5, generator=generator)
  tensors = {
    "float32": table,
    "float16": table.half(),
    "bfloat16": table.bfloat16(),
    "transposed": table.T,
    "rows": table[2:4],
    "every_other": table[1, ::2],
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
  }
  torch.save(tensors, path / "tensors.bin")
  np.savez(
    path / "tensors.npz",
    **{name: tensor.float().numpy() for name, tensor in tensors.items()},
  )
  # As a module saves itself: an OrderedDict that carries metadata.
  module = torch.nn.Linear(3, 2)
  module.weight.data = table[:2, :3].contiguous()
  module.bias.data = table[0, :2].contiguous()
  torch.save(module.state_dict(), path / "state_dict.bin")
  torch.save(module, path / "module.bin")
  torch.save(
    tensors, path / "before_1.6.bin", _use_new_zipfile_serialization=False
  )


if __name__ == "__main__":
  main()
