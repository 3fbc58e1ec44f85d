"""From the start of a process to its first audio: first.py SETTINGS-AS-JSON."""

import json
import os
import sys
import time

BEGIN_S = time.time()

given = json.loads(sys.argv[1])
os.environ["SPEC_DIFF_CACHE"] = given["cache"]

import turns  # noqa: E402

if given["device"] == "cpu":
  turns.use_two_cores()

from music_spectrogram_diffusion import cache  # noqa: E402

cache.keep_compiled_programs()

import reading  # noqa: E402

from music_spectrogram_diffusion import inference  # noqa: E402


def main():
  """Prints when what was there, in seconds since the process began."""
  started = {"import_s": time.time() - BEGIN_S}
  player = inference.Synthesizer.from_pretrained()
  started["load_s"] = time.time() - BEGIN_S
  for segment in player.stream(reading.song(20.0)):
    if len(segment.samples):
      break
  started["audio_s"] = time.time() - BEGIN_S
  print(json.dumps(started | {"cpu_s": time.process_time()}))


if __name__ == "__main__":
  main()
