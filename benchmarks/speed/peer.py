"""Serves the peer: peer.py SIZE-AS-JSON, in the environment of setup_peer.sh.

The networks of diffusers' SpectrogramDiffusionPipeline, with random weights. It
has no guidance, so a guided step is two passes; both ways are served, one after
the other and as one batch. Its pipeline gives it 2048 note positions always.
"""

import json
import os
import sys

import turns

size = json.loads(sys.argv[1])
if size["device"] == "cpu":
  turns.use_two_cores()

os.environ["HF_HUB_OFFLINE"] = "1"

import diffusers  # noqa: E402  # Libraries count the cores when imported.
from diffusers.pipelines.deprecated import (  # noqa: E402
  spectrogram_diffusion,
)
import torch  # noqa: E402


def notes_encoder(size, tokens):
  """The encoder of note tokens, with random weights."""
  return spectrogram_diffusion.SpectrogramNotesEncoder(
    max_length=tokens, vocab_size=1536, **layers(size)
  )


def context_encoder(size):
  """The encoder of the spectrogram before, with random weights."""
  return spectrogram_diffusion.SpectrogramContEncoder(
    input_dims=size["n_mels"],
    targets_context_length=size["frames"],
    **layers(size),
  )


def layers(size):
  """What both encoders have in common."""
  return dict(
    d_model=size["emb_dim"],
    dropout_rate=0.0,
    num_layers=size["num_layers"],
    num_heads=size["num_heads"],
    d_kv=size["head_dim"],
    d_ff=size["mlp_dim"],
    feed_forward_proj="gated-gelu",
  )


def main():
  """Serves until the input ends."""
  if size["device"] == "cpu":
    torch.set_num_threads(turns.NUM_CORES)
  elif not torch.cuda.is_available():
    raise SystemExit("Expected a GPU that this PyTorch can use, found none.")
  torch.manual_seed(0)
  device = torch.device("cpu" if size["device"] == "cpu" else "cuda")
  decoder = diffusers.T5FilmDecoder(
    input_dims=size["n_mels"],
    targets_length=size["frames"],
    max_decoder_noise_time=20000.0,
    d_model=size["emb_dim"],
    num_layers=size["num_layers"],
    num_heads=size["num_heads"],
    d_kv=size["head_dim"],
    d_ff=size["mlp_dim"],
  )
  dtype = getattr(torch, size["dtype"])
  decoder = decoder.eval().to(device, dtype)

  def passes(batch, tokens, count):
    def draw(length, channels):
      return torch.randn(batch, length, channels, device=device, dtype=dtype)

    encodings = [
      (draw(length, size["emb_dim"]), torch.ones(batch, length, device=device))
      for length in (tokens, size["frames"])
    ]
    inputs = draw(size["frames"], size["n_mels"])
    time = torch.full((batch,), 0.5, device=device)

    @torch.inference_mode()
    def run():
      for _ in range(count):
        decoder(encodings, inputs, time)
      if device.type == "cuda":
        torch.cuda.synchronize()

    return run

  def encoders(batch, tokens):
    """Those of notes and of a full context."""
    kinds = notes_encoder(size, tokens), context_encoder(size)
    notes, context = (kind.eval().to(device, dtype) for kind in kinds)
    note_tokens = torch.full((batch, tokens), 1004, device=device)
    some = torch.ones(batch, tokens, dtype=torch.bool, device=device)
    frames = torch.zeros(
      batch, size["frames"], size["n_mels"], device=device, dtype=dtype
    )
    heard = torch.ones(batch, size["frames"], dtype=torch.bool, device=device)

    @torch.inference_mode()
    def run():
      notes(encoder_input_tokens=note_tokens, encoder_inputs_mask=some)
      context(encoder_inputs=frames, encoder_inputs_mask=heard)
      if device.type == "cuda":
        torch.cuda.synchronize()

    return run

  functions = {}
  for tokens in size["tokens"]:
    functions[f"two passes, {tokens}"] = passes(size["batch"], tokens, 2)
    functions[f"one batch, {tokens}"] = passes(2 * size["batch"], tokens, 1)
    functions[f"encode, {tokens}"] = encoders(size["batch"], tokens)
  turns.serve(
    functions, torch=torch.__version__, diffusers=diffusers.__version__
  )


if __name__ == "__main__":
  main()
