"""Writes tests/data/diffusers_tiny: a tiny random pipeline and what it gives.

Run from the root of the checkout, in an environment of its own, after a change
of what is compared; the tests then need neither torch nor diffusers:

  pip install torch==2.13.0 diffusers==0.27.2 transformers==4.38.2 \
    "tokenizers==0.15.*" "huggingface_hub==0.23.*" numpy safetensors
  python tests/parity/make_diffusers_fixture.py
"""

from pathlib import Path

import numpy as np
import torch

MEL_BINS = 8
NUM_FRAMES = 16
NUM_TOKENS = 24
MAX_TOKENS = 32
NUM_LAYERS = 2
TIMESTEPS = (999, 950, 500, 100, 1, 0)
NUM_STEPS = 10

# Wider inside attention than outside, so that no transposed kernel fits.
WIDTHS = dict(d_model=24, num_heads=2, d_kv=16, d_ff=40, dropout_rate=0.1)


def randomize(module: torch.nn.Module, seed: int) -> torch.nn.Module:
  """Draws weights that let every part of a T5 count, and that float16 holds."""
  generator = torch.Generator().manual_seed(seed)
  for name, weight in module.named_parameters():
    noise = torch.randn(weight.shape, generator=generator)
    if weight.ndim == 1:  # The scale of a norm.
      noise = 1.0 + 0.3 * noise
    elif "position_encoding" not in name and "token_embedder" not in name:
      noise = noise * weight.shape[1] ** -0.5
      if name.endswith((".q.weight", ".to_q.weight")):
        noise = noise * WIDTHS["d_kv"] ** -0.5
    weight.data = noise.half().float()
  return module.eval()


def build_pipeline():
  """The pipeline, with settings like the published one's."""
  from diffusers import DDPMScheduler, T5FilmDecoder

  # The package itself hands these out only where note_seq is installed.
  from diffusers.pipelines.deprecated.spectrogram_diffusion import (
    pipeline_spectrogram_diffusion as published,
  )

  t5 = dict(feed_forward_proj="gated-gelu", num_layers=NUM_LAYERS, **WIDTHS)
  return published.SpectrogramDiffusionPipeline(
    notes_encoder=randomize(
      published.SpectrogramNotesEncoder(
        max_length=MAX_TOKENS, vocab_size=1536, **t5
      ),
      seed=1,
    ),
    continuous_encoder=randomize(
      published.SpectrogramContEncoder(
        input_dims=MEL_BINS, targets_context_length=NUM_FRAMES, **t5
      ),
      seed=2,
    ),
    decoder=randomize(
      T5FilmDecoder(
        input_dims=MEL_BINS,
        targets_length=NUM_FRAMES,
        max_decoder_noise_time=20000.0,
        num_layers=NUM_LAYERS,
        **WIDTHS,
      ),
      seed=3,
    ),
    scheduler=DDPMScheduler(
      num_train_timesteps=1000,
      beta_schedule="squaredcos_cap_v2",
      variance_type="fixed_large",
      clip_sample=True,
    ),
    melgan=None,
  )


def draw_inputs() -> dict[str, np.ndarray]:
  """Padded and unpadded notes, each with an empty and with a full context."""
  rng = np.random.default_rng(0)
  tokens = rng.integers(3, 1391, (4, NUM_TOKENS)).astype(np.int32)
  for row, length in zip(tokens, (NUM_TOKENS, 10, 17, 1), strict=True):
    row[length - 1] = 1  # EOS
    row[length:] = 0
  full = np.array([False, False, True, True])
  context = rng.uniform(-1, 1, (4, NUM_FRAMES, MEL_BINS)).astype(np.float32)
  return {
    "note_tokens": tokens,
    "context": context,
    "context_mask": np.repeat(full[:, None], NUM_FRAMES, axis=1),
    "noisy": rng.normal(size=context.shape).astype(np.float32),
  }


@torch.no_grad()
def run_pipeline(pipeline, inputs: dict) -> dict[str, np.ndarray]:
  """Encodings, decoder outputs at several times and a DDPM trajectory."""
  tokens, context, context_mask, noisy = (
    torch.from_numpy(inputs[name])
    for name in ("note_tokens", "context", "context_mask", "noisy")
  )
  # One by one: its context encoder cannot take a batch.
  encoded = [
    pipeline.encode(tokens[i, None], context[i, None], context_mask[i, None])
    for i in range(len(tokens))
  ]
  encodings_and_masks = [
    tuple(torch.cat(parts) for parts in zip(*stack, strict=True))
    for stack in zip(*encoded, strict=True)
  ]

  def decode(x, timestep):
    return pipeline.decode(encodings_and_masks, x, timestep / 1000)

  outputs = torch.stack([decode(noisy, t) for t in torch.tensor(TIMESTEPS)])

  scheduler = pipeline.scheduler
  scheduler.set_timesteps(NUM_STEPS)
  seeds, noise_seeds = (torch.Generator().manual_seed(4) for _ in range(2))
  trajectory, noises = [noisy], []
  for timestep in scheduler.timesteps:
    z_t = trajectory[-1]
    step = scheduler.step(decode(z_t, timestep), timestep, z_t, generator=seeds)
    trajectory.append(step.prev_sample)
    if timestep > 0:  # The last step adds none.
      noises.append(torch.randn(z_t.shape, generator=noise_seeds))
  return {
    "encoded_notes": encodings_and_masks[0][0].numpy(),
    "encoded_context": encodings_and_masks[1][0].numpy(),
    "timesteps": np.array(TIMESTEPS),
    "outputs": outputs.numpy(),
    "levels": scheduler.timesteps.numpy(),
    "trajectory": torch.stack(trajectory).numpy(),
    "noises": torch.stack(noises).numpy(),
    "alphas_cumprod": scheduler.alphas_cumprod.numpy(),
  }


def main() -> None:
  path = Path("tests/data/diffusers_tiny")
  pipeline = build_pipeline()
  inputs = draw_inputs()
  outputs = run_pipeline(pipeline, inputs)
  pipeline.to(torch.float16).save_pretrained(path, safe_serialization=True)
  np.savez_compressed(path / "reference.npz", **inputs, **outputs)


if __name__ == "__main__":
  main()
