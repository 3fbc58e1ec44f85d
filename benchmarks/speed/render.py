"""Renders a song after it has been rendered once: render.py SETTINGS."""

import json
import sys

import turns

given = json.loads(sys.argv[1])
if given["device"] == "cpu":
  turns.use_two_cores()

import jax  # noqa: E402  # It counts the cores when it is imported.
import reading  # noqa: E402
import sizes  # noqa: E402

from music_spectrogram_diffusion import inference  # noqa: E402
from music_spectrogram_diffusion.inference import synthesizer  # noqa: E402


def main():
  """Prints seconds of audio a second, and where the time goes."""
  model, parameters = sizes.build(given["name"], given["dtype"])
  embedded = inference.Synthesizer.from_pretrained()
  player = inference.Synthesizer(
    model=model,
    parameters=jax.device_put(parameters),
    inverter=embedded.inverter,
    model_hash="",
  )
  spectrogram, frames = model.spectrogram, model.network.segment_frames
  segment_s = frames / spectrogram.frame_rate
  piece = reading.song(given["segments"] * segment_s - synthesizer.TAIL_S)
  settings = given["settings"]
  mel = player.log_mel(piece, **settings)  # Compiles.

  whole = [
    turns.cost(lambda: player(piece, **settings))
    for _ in range(given["repeats"])
  ]
  played = player.prepare(piece).played
  inversion = [
    turns.cost(lambda: player.inverter(mel, played))
    for _ in range(given["repeats"])
  ]
  audio_s = given["segments"] * segment_s
  num_segments = len(player.prepare(piece).tokens)
  clock_s = min(cost["clock_s"] for cost in whole)
  inverter_s = min(cost["clock_s"] for cost in inversion)
  shown = player.defaults | settings
  print(
    json.dumps(
      {
        "realtime": audio_s / clock_s,
        "cpu_realtime": audio_s / min(cost["cpu_s"] for cost in whole),
        "sampler_ms": 1e3 * clock_s / num_segments,
        "inverter_ms": 1e3 * inverter_s / num_segments,
        "settings": f"{shown['steps']} steps of {shown['sampler']},"
        f" guidance {shown['guidance']:g}",
      }
    )
  )


if __name__ == "__main__":
  main()
