"""Peak memory of rendering a song: memory.py SETTINGS-AS-JSON."""

import json
from pathlib import Path
import subprocess
import sys
import tempfile
import time

given = json.loads(sys.argv[1])

import turns  # noqa: E402

if given["device"] == "cpu":
  turns.use_two_cores()

import reading  # noqa: E402

from music_spectrogram_diffusion import inference  # noqa: E402


def main():
  """Prints megabytes, and how fast it was."""
  if given["name"] == "default":
    measure(None)
    return
  with tempfile.TemporaryDirectory() as path:
    # By another process, whose memory is not counted.
    command = [sys.executable, Path(__file__).parent / "save_random.py"]
    command += [given["name"], given.get("dtype", "float32"), path]
    subprocess.run(command, check=True)
    measure(path)


def measure(path):
  """Streams a song of a model directory and throws the audio away."""
  player = inference.Synthesizer.from_pretrained(
    path, inverter=None if path is None else "griffin-lim"
  )
  loaded_mb = reading.memory_mb("VmHWM")
  settings = {"steps": given["steps"]} if "steps" in given else {}
  start_s = time.perf_counter()
  num_samples = 0
  for segment in player.stream(
    reading.song(60.0 * given["minutes"]), **settings
  ):
    num_samples += len(segment.samples)
  spent_s = time.perf_counter() - start_s
  audio_s = num_samples / player.spectrogram_config.sample_rate
  print(
    json.dumps(
      {
        "peak_mb": reading.memory_mb("VmHWM"),
        "loaded_mb": loaded_mb,
        "realtime": audio_s / spent_s,
      }
    )
  )


if __name__ == "__main__":
  main()
