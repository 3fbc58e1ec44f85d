"""Makes docs/examples: what the default model makes of examples/*.mid.

For each piece NAME.ogg, NAME-soundfont.ogg (what it is to sound like) and
NAME.png (notes over both spectrograms); and made.json, which says by what.

  python docs/make_examples.py [--model DIR] [--out DIR] [NAME ...]

Needs a soundfont (Debian's fluid-soundfont-gm) and tinysoundfont.
"""

import argparse
import io
import json
import pathlib

from jaxtyping import Float32
from matplotlib import collections as mpl_collections
from matplotlib import figure as mpl_figure
import numpy as np
from PIL import Image

import music_spectrogram_diffusion
from music_spectrogram_diffusion import audio, data, inference
from music_spectrogram_diffusion import notes as notes_lib

ROOT = pathlib.Path(__file__).parents[1]
STARTS_S = {"freedoom-doom2": 14.0}
"""Where the excerpt of a piece starts, if not at its beginning."""

PEAK = 0.9
FADE_S = 0.4
DPI = 75
NUM_COLORS = 64


def excerpt(
  piece: notes_lib.Notes, start_s: float, seconds: float
) -> notes_lib.Notes:
  """The notes that begin in a part of a piece, whose times count from there."""
  kept = piece[(piece.onset >= start_s) & (piece.onset < start_s + seconds)]
  return notes_lib.Notes.from_columns(
    kept.onset - start_s,
    np.minimum(kept.offset - start_s, seconds),
    kept.pitch,
    kept.velocity,
    kept.program,
    kept.is_drum,
  )


def write_audio(
  path: pathlib.Path, samples: Float32[np.ndarray, " samples"], rate: int
) -> None:
  """Writes as loud as the peak allows, with a fade at the end."""
  fade = round(FADE_S * rate)
  samples = samples * PEAK / max(float(np.abs(samples).max()), 1e-3)
  samples[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
  with audio.AudioWriter(path, rate, overwrite=True) as writer:
    writer.write(samples)


def write_picture(path: pathlib.Path, figure: mpl_figure.Figure) -> None:
  """Writes a PNG of few colours, a third as large."""
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", dpi=DPI)
  Image.open(buffer).convert("RGB").quantize(NUM_COLORS).save(path)


def draw(
  piece: notes_lib.Notes,
  spectrograms: dict[str, Float32[np.ndarray, "frames mel_bins"]],
  config: audio.SpectrogramConfig,
  seconds: float,
) -> mpl_figure.Figure:
  """Notes, coloured by program, over named spectrograms."""
  figure = mpl_figure.Figure(figsize=(9.0, 6.0), layout="constrained")
  axes = figure.subplots(1 + len(spectrograms), sharex=True)
  offset = np.where(piece.is_drum, piece.onset + 0.05, piece.offset)
  corners = np.stack([piece.onset, piece.pitch, offset, piece.pitch], axis=1)
  colors = np.unique(piece.program + 128 * piece.is_drum, return_inverse=True)
  axes[0].add_collection(
    mpl_collections.LineCollection(
      corners.reshape(-1, 2, 2), array=colors[1], cmap="tab10", linewidths=2.5
    )
  )
  axes[0].set_ylim(piece.pitch.min() - 2, piece.pitch.max() + 2)
  axes[0].set_ylabel("pitch")
  for panel, (name, log_mel) in zip(
    axes[1:], spectrograms.items(), strict=True
  ):
    panel.imshow(
      log_mel.T,
      aspect="auto",
      origin="lower",
      cmap="magma",
      vmin=config.mel_range[0],
      vmax=config.mel_range[1],
      extent=(0.0, len(log_mel) / config.frame_rate, 0.0, config.n_mels),
    )
    panel.set_ylabel(f"{name}: mel bin")
  axes[-1].set_xlim(0.0, seconds)
  axes[-1].set_xlabel("time (s)")
  return figure


def main() -> None:
  """See the top of this file."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("names", nargs="*", help="pieces; by default all")
  parser.add_argument("--model", help="a model directory or a name")
  parser.add_argument("--seconds", type=float, default=12.0)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument(
    "--out", type=pathlib.Path, default=ROOT / "docs" / "examples"
  )
  options = parser.parse_args()
  options.out.mkdir(parents=True, exist_ok=True)
  synthesizer = inference.Synthesizer.from_pretrained(options.model)
  config = synthesizer.spectrogram_config
  renderer = data.SoundfontRenderer(data.find_soundfont(), config.sample_rate)
  names = options.names or sorted(
    path.stem for path in (ROOT / "examples").glob("*.mid")
  )
  num_samples = round(options.seconds * config.sample_rate)
  num_frames = config.num_frames(num_samples)
  for name in names:
    whole = notes_lib.read_midi(ROOT / "examples" / f"{name}.mid")
    piece = excerpt(whole, STARTS_S.get(name, 0.0), options.seconds)
    segments = list(synthesizer.stream(piece, seed=options.seed))
    samples = np.concatenate([segment.samples for segment in segments])
    log_mel = np.concatenate([segment.log_mel for segment in segments])
    played = notes_lib.to_slakh_classes(piece)
    truth = renderer.render(played, options.seconds)
    write_audio(
      options.out / f"{name}.ogg", samples[:num_samples], config.sample_rate
    )
    write_audio(
      options.out / f"{name}-soundfont.ogg", truth, config.sample_rate
    )
    figure = draw(
      played,
      {
        "soundfont": audio.log_mel(truth, config),
        "model": log_mel[:num_frames],
      },
      config,
      options.seconds,
    )
    write_picture(options.out / f"{name}.png", figure)
    print(f"{name}: written", flush=True)
  made = {
    "version": music_spectrogram_diffusion.__version__,
    "model_sha256": synthesizer.model_hash,
    "settings": synthesizer.defaults | {"seed": options.seed},
    "soundfont": renderer.path.name,
  }
  (options.out / "made.json").write_text(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
  main()
