"""How far a model's prediction is from the truth, with the true context.

  python benchmarks/quality/one_step.py default NAME=DIR

Every segment of the held-out pieces but their first is predicted from noise in
one step, with the soundfont's own spectrogram before it as context, and with
none: what training lowers, without errors that add up over a song.
"""

import argparse
import functools
import pathlib
import sys

import jax
from jax import numpy as jnp
from jaxtyping import Float32
import material
import numpy as np
import renderings

from music_spectrogram_diffusion import audio, inference
from music_spectrogram_diffusion.data import soundfont

_HERE = pathlib.Path(__file__).parent
_HALF_SECOND = 25  # Frames.


def main():
  arguments = _parse_arguments()
  config = audio.SpectrogramConfig()
  renderer = soundfont.SoundfontRenderer(
    soundfont.find_soundfont(), config.sample_rate
  )
  paths = sorted(arguments.folder.glob("*.mid"))
  pieces = [
    renderings.load_piece(path, arguments.seconds, renderer, config)
    for path in material.choose(paths, arguments.pieces)
  ]
  synthesizers = {}
  for model in arguments.models:
    name, _, path = model.rpartition("=")
    synthesizers[name or path] = inference.Synthesizer.from_pretrained(
      None if path == "default" else path
    )
  least = 2 * max(
    synthesizer.model.network.segment_frames
    for synthesizer in synthesizers.values()
  )
  longest = max((len(piece.log_mel) for piece in pieces), default=0)
  if longest < least:
    sys.exit(
      f"Expected pieces of two segments ({least} frames) or more in"
      f" {arguments.folder}; the longest excerpt has {longest} frames."
    )
  pieces = [piece for piece in pieces if len(piece.log_mel) >= least]
  print("| nats | true context | its first half second | no context |")
  print("| --- | --- | --- | --- |")
  for name, synthesizer in synthesizers.items():
    errors = [
      np.concatenate([distances(synthesizer, piece, told) for piece in pieces])
      for told in (True, False)
    ]
    figures = errors[0].mean(), errors[0][:, :_HALF_SECOND].mean()
    cells = [f"{figure:.3f}" for figure in (*figures, errors[1].mean())]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def distances(
  synthesizer: inference.Synthesizer, piece: renderings.Piece, told: bool
) -> Float32[np.ndarray, "segments frames"]:
  """Mean absolute difference of each frame's mel bins, in nats.

  Args:
    synthesizer: A diffusion model.
    piece: A piece of two segments or more; of the first one, nothing is
      predicted, and what is left at the end is not looked at.
    told: Whether the model knows the true segment before.
  """
  model = synthesizer.model
  frames = model.network.segment_frames
  number = len(piece.log_mel) // frames
  truth = piece.log_mel[: number * frames].reshape(number, frames, -1)
  tokens = synthesizer.prepare(piece.notes, overlap=0).tokens[1:number]
  context, truth = truth[:-1], truth[1:]
  is_known = np.full(truth.shape[:2], told)
  noise = np.random.default_rng(0).normal(size=truth.shape)
  found = _predict(
    synthesizer.parameters,
    tokens,
    context,
    is_known,
    np.float32(noise),
    model=model,
  )
  return np.abs(np.asarray(found) - truth).mean(axis=-1)


@functools.partial(jax.jit, static_argnames="model")
def _predict(parameters, tokens, context, is_known, noise, *, model):
  """Natural log-mel spectrograms of a batch, from noise in one step."""
  conditioning = model.encode(parameters, tokens, context, is_known)
  clean = model.denoise(parameters, noise, jnp.ones(len(noise)), conditioning)
  return audio.unscale_log_mel(jnp.clip(clean, -1, 1), model.spectrogram)


def _parse_arguments():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("models", nargs="*", default=["default"], help="as of run.py's --model")
  add("--pieces", type=int, help="how many, spread over all (default: all)")
  add("--seconds", type=float, default=20.0, help="of each piece (default: 20)")
  add("--folder", type=pathlib.Path, default=_HERE / "pieces")
  return parser.parse_args()


if __name__ == "__main__":
  main()
