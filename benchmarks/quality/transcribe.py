"""Transcribes audio files; runs in the transcriber's own environment.

Each line of the input is "AUDIO<tab>JSON". The notes heard in the first are
written to the second: [onset_s, offset_s, pitch, loudness], sorted. Imports
nothing of the project, which needs another NumPy: see setup_transcriber.sh.
"""

import contextlib
import json
import logging
import os
import pathlib
import sys


def main():
  logging.disable(logging.WARNING)  # On import: what basic-pitch lacks.
  import basic_pitch
  from basic_pitch import inference

  suffix = basic_pitch.FilenameSuffix.onnx
  model = inference.Model(basic_pitch.build_icassp_2022_model_path(suffix))
  for line in sys.stdin:
    audio, result = line.rstrip("\n").split("\t")
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
      _, _, heard = inference.predict(audio, model)
    rows = sorted(
      [float(onset), float(offset), int(pitch), float(loudness)]
      for onset, offset, pitch, loudness, _ in heard
    )
    pathlib.Path(result).write_text(json.dumps(rows))


if __name__ == "__main__":
  main()
