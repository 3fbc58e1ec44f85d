"""Serves the peer for speed.py: peer.py SETTINGS BLOCK_FRAMES MEL.npy.

Vocos (Siuzdak 2023, https://arxiv.org/abs/2306.00814) as its package has it, on
PyTorch, with random weights. Runs in an environment of its own, and so imports
nothing of the project: see setup_peer.sh.
"""

import importlib.util
import json
import math
import sys
import types

import served

served.use_two_cores()

import numpy as np  # noqa: E402  # Libraries count the cores when imported.
import torch  # noqa: E402

_KERNEL = 7


def _stub(name, **attributes):
  module = types.ModuleType(name)
  vars(module).update(attributes)
  sys.modules[name] = module


# What only its feature extractors and other heads use is not installed.
_SPEC = importlib.util.find_spec("vocos")
_stub("vocos", __path__=list(_SPEC.submodule_search_locations))
_stub("torchaudio", __path__=[])
_stub("torchaudio.functional", __path__=[])
_stub("torchaudio.functional.functional", _hz_to_mel=None, _mel_to_hz=None)

from vocos import heads, models  # noqa: E402


class Peer(torch.nn.Module):
  """Trunk and head.

  Args:
    settings: As speed.py's `peer_settings`.
  """

  def __init__(self, settings: dict[str, int]):
    super().__init__()
    self.half = bool(settings["bfloat16"])
    self.trunk = models.VocosBackbone(
      input_channels=settings["n_mels"],
      dim=settings["channels"],
      intermediate_dim=settings["hidden_channels"],
      num_layers=settings["num_blocks"],
    )
    self.head = heads.ISTFTHead(
      settings["channels"], settings["n_fft"], settings["hop_length"], "same"
    )
    # There are no complex numbers of halves.
    self.head.out.register_forward_hook(lambda *called: called[-1].float())

  def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
    """Samples of [batch, mel_bins, frames]."""
    with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
      return self.head(self.trunk(log_mel))


def main():
  """Serves until it is told to end."""
  settings, block_frames, mel = sys.argv[1:]
  torch.set_num_threads(served.NUM_CORES)
  log_mel = np.load(mel)
  with torch.inference_mode():
    served.serve(lambda: load(json.loads(settings), int(block_frames), log_mel))


def load(
  settings: dict[str, int], block_frames: int, log_mel: np.ndarray
) -> served.Served:
  """Builds the peer, and what is measured of it.

  Args:
    settings: As of `Peer`.
    block_frames: Frames that are inverted at once, without any neighbours; 0
      for all.
    log_mel: [frames, mel_bins].
  """
  torch.manual_seed(0)
  peer = Peer(settings).eval()
  inputs = torch.from_numpy(np.ascontiguousarray(log_mel.T))[None]
  blocks = inputs.split(block_frames or inputs.shape[-1], dim=-1)
  # It has no stream: the frames that so many samples depend on.
  hop, n_fft = settings["hop_length"], settings["n_fft"]
  needed = math.ceil(served.FIRST_S * settings["sample_rate"] / hop)
  needed += _KERNEL // 2 * (1 + settings["num_blocks"]) + n_fft // hop // 2 + 1
  return served.Served(
    invert=lambda: np.concatenate([peer(x).numpy()[0] for x in blocks]),
    first=lambda: peer(inputs[..., :needed]).numpy(),
    frames_needed=lambda: needed,
    num_parameters=sum(weights.numel() for weights in peer.parameters()),
  )


if __name__ == "__main__":
  main()
