"""Which part must not be in bfloat16: precision.py SETTINGS-AS-JSON.

The embedded model renders the same segments from the same noise and contexts,
with one part after the other rounded to bfloat16, each time that it is used.
"""

import contextlib
import dataclasses
import json
import sys
from unittest import mock

given = json.loads(sys.argv[1])

import turns  # noqa: E402

if given["device"] == "cpu":
  turns.use_two_cores()

import jax  # noqa: E402
from jax import numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import reading  # noqa: E402

from music_spectrogram_diffusion import diffusion, inference  # noqa: E402
from music_spectrogram_diffusion.models import (  # noqa: E402
  decoders,
  diffusion_model,
  precision,
  sampling_network,
)

SEED = 0


def rounded(x):
  """What bfloat16 makes of it."""
  return x.astype(jnp.bfloat16).astype(jnp.float32)


def patched(owner, name, make):
  """Replaces a function by one made of it, for a while."""
  return mock.patch.object(owner, name, make(getattr(owner, name)))


def rounding(function):
  """The function, its result rounded."""
  return lambda *args, **kwargs: rounded(function(*args, **kwargs))


def round_times(encode):
  """`encode_noise_time`, of rounded times."""
  return lambda time, channels: encode(rounded(time), channels)


@dataclasses.dataclass(frozen=True)
class RoundedEps:
  """The outputs as if they were eps, rounded unless x0 would suffer."""

  own: diffusion.parameterization.Parameterization
  max_gain: float = np.inf
  num_outputs = 1

  def network_input(self, z_t, logsnr):
    """As the model has learned it."""
    return self.own.network_input(z_t, logsnr)

  def predict(self, output, z_t, logsnr):
    """x0 by way of eps."""
    x0, eps = self.own.predict(output, z_t, logsnr)
    low = diffusion.parameterization.eps_to_x0(rounded(eps), z_t, logsnr)
    gain = jnp.exp(-0.5 * logsnr)[:, None, None]
    return jnp.where(gain > self.max_gain, x0, low), eps


def variants(model):
  """Names, models and what is patched while they predict."""
  half = dataclasses.replace(
    model, network=dataclasses.replace(model.network, dtype="bfloat16")
  )
  nothing = contextlib.nullcontext()
  step = diffusion_model.SAMPLERS[model.sampling.sampler]
  samplers = {
    **diffusion_model.SAMPLERS,
    model.sampling.sampler: rounding(step),
  }
  limit = precision.MAX_GAIN

  def eps(max_gain):
    parameterization = RoundedEps(model.parameterization, max_gain)
    return dataclasses.replace(model, parameterization=parameterization)

  return [
    ("products (`dtype=bfloat16`)", half, nothing),
    (
      "noise times",
      model,
      patched(decoders, "encode_noise_time", round_times),
    ),
    ("log-SNR", model, patched(type(model.schedule), "logsnr", rounding)),
    (
      "the sampler's state",
      model,
      mock.patch.object(diffusion_model, "SAMPLERS", samplers),
    ),
    (
      "the last layer's output",
      model,
      patched(sampling_network, "decode", rounding),
    ),
    ("eps, were that the output", eps(np.inf), nothing),
    (f"the same, but not beyond sigma = {limit:g} alpha", eps(limit), nothing),
  ]


def main():
  """Prints names, mean errors and their 99th percentiles, in nats."""
  player = inference.Synthesizer.from_pretrained()
  model, config = player.model, player.model.spectrogram
  frames = model.network.segment_frames
  length_s = given["segments"] * frames / config.frame_rate
  song = player.prepare(reading.song(length_s), seed=SEED)
  tokens = jnp.asarray(song.tokens[: given["segments"]])

  def predict(model, context):
    return model.predict(
      player.parameters,
      tokens,
      context,
      jnp.ones(context.shape[:2], bool),
      jax.random.key(SEED),
    )

  shape = (len(tokens), frames, config.n_mels)
  first = predict(model, jnp.full(shape, config.mel_range[0]))
  context = jnp.roll(first, 1, axis=0)
  exact = predict(model, context)
  rows = []
  for name, changed, patch in variants(model):
    jax.clear_caches()  # Programs know nothing of patches.
    with patch:
      error = np.abs(predict(changed, context) - exact)
    rows.append((name, float(error.mean()), float(np.percentile(error, 99))))
  print(json.dumps(rows))


if __name__ == "__main__":
  main()
