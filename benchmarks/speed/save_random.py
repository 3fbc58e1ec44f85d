"""Saves a model with random weights: save_random.py NAME DTYPE DIRECTORY."""

import sys

import sizes

from music_spectrogram_diffusion import checkpoints, models

if __name__ == "__main__":
  name, dtype, path = sys.argv[1:]
  model, parameters = sizes.build(name, dtype)
  config = {"model": models.to_config(model)}
  checkpoints.save_model_directory(path, config, parameters)
