"""Parity with diffusers at the size of base_with_context, run by hand.

412 M random weights are too much for a test. In the environment of
make_diffusers_fixture.py, then twice in the project's own:

  python tests/parity/base_size.py write /tmp/base
  spec-diff convert diffusers /tmp/base/pipeline /tmp/base/model
  python tests/parity/base_size.py compare /tmp/base
"""

from pathlib import Path
import sys
import time

import numpy as np

# Over those of make_diffusers_fixture.py.
BASE = dict(
  WIDTHS=dict(d_model=768, num_heads=12, d_kv=64, d_ff=2048, dropout_rate=0.1),
  NUM_LAYERS=12,
  MEL_BINS=128,
  NUM_FRAMES=256,
  NUM_TOKENS=512,
  MAX_TOKENS=2048,
  TIMESTEPS=(999, 500, 0),
)


def write(path: Path) -> None:
  """Saves a random pipeline and what it makes of random inputs."""
  import make_diffusers_fixture as fixture

  vars(fixture).update(BASE)
  pipeline = fixture.build_pipeline()
  # Padded notes without context, and notes with a full one.
  inputs = {name: array[1:3] for name, array in fixture.draw_inputs().items()}
  outputs = fixture.run_pipeline(pipeline, inputs)
  pipeline.save_pretrained(path / "pipeline", safe_serialization=True)
  np.savez(path / "reference.npz", **inputs, **outputs)


def compare(path: Path) -> None:
  """Prints by how much of their norm the converted model's arrays differ."""
  import jax
  from jax import numpy as jnp

  from music_spectrogram_diffusion import audio, checkpoints, models
  from music_spectrogram_diffusion.diffusion import samplers

  def report(name, found, expected):
    found, expected = (np.asarray(a, np.float64) for a in (found, expected))
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    print(f"{name:24} {error:.1e}", flush=True)
    return error

  start = time.monotonic()
  config, parameters = checkpoints.load_model_directory(path / "model")
  print(f"loaded in {time.monotonic() - start:.1f} s")
  model = models.from_config(config["model"])
  parameters = jax.device_put(parameters)
  with np.load(path / "reference.npz") as arrays:
    reference = {name: jnp.asarray(array) for name, array in arrays.items()}

  conditioning = jax.jit(model.encode)(
    parameters,
    reference["note_tokens"],
    audio.unscale_log_mel(reference["context"], model.spectrogram),
    reference["context_mask"],
  )
  expected = jnp.concatenate(
    [reference["encoded_notes"], reference["encoded_context"]], axis=1
  )
  valid = conditioning.mask
  errors = [report("encodings", conditioning.keys[valid], expected[valid])]

  output, denoise = jax.jit(model.output), jax.jit(model.denoise)
  noisy = reference["noisy"]
  for level, expected in zip(
    reference["timesteps"], reference["outputs"], strict=True
  ):
    when = jnp.full(len(noisy), level / 1000)
    found = output(parameters, noisy, when, conditioning)
    errors.append(report(f"output at {level}", found, expected))

  # The whole segment, each step from where the step before it has led.
  levels = [*reference["levels"], -1]
  noises = [*reference["noises"], jnp.zeros_like(noisy)]
  z = noisy
  for step, noise in enumerate(noises):
    time_t, time_s = (
      jnp.full(len(z), level / 1000) for level in levels[step : step + 2]
    )
    logsnr = dict(
      logsnr_t=model.schedule.logsnr(time_t),
      logsnr_s=model.schedule.logsnr(time_s),
    )
    x0 = jnp.clip(denoise(parameters, z, time_t, conditioning), -1.0, 1.0)
    mean = samplers.ddpm_step(
      z,
      x0,
      key=jax.random.key(0),
      variance=lambda logsnr_t, logsnr_s: jnp.zeros_like(logsnr_t),
      **logsnr,
    )
    deviation = jnp.sqrt(samplers.large_variance(**logsnr))[:, None, None]
    z = mean + deviation * noise
    expected = reference["trajectory"][step + 1]
    errors.append(report(f"after step {step + 1}", z, expected))
  if max(errors) > 1e-3:
    sys.exit("Expected all errors below 1.0e-03.")


if __name__ == "__main__":
  {"write": write, "compare": compare}[sys.argv[1]](Path(sys.argv[2]))
