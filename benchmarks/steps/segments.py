"""Segments of the pieces of benchmarks/quality, as one batch."""

from collections.abc import Sequence
import dataclasses
import hashlib
import math
import pathlib
import sys

from jax import numpy as jnp
import numpy as np

from music_spectrogram_diffusion import inference
from music_spectrogram_diffusion.data import soundfont

QUALITY = pathlib.Path(__file__).parents[1] / "quality"

sys.path.append(str(QUALITY))
import renderings  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Segment:
  """A segment to generate.

  Attributes:
    piece: Its notes, and how the soundfont plays them.
    tokens: What the model is given.
    context: The soundfont's spectrogram before it; None for the first one.
  """

  piece: renderings.Piece
  tokens: np.ndarray
  context: np.ndarray | None


def load(
  synthesizer: inference.Synthesizer, number: int, folder: pathlib.Path
) -> list[Segment]:
  """The first or the second segment of pieces that are spread over all.

  Both are rendered at once, so the second one has the context that a perfect
  model would have made.
  """
  model, config = synthesizer.model, synthesizer.spectrogram_config
  paths = sorted(folder.glob("*.mid"))
  chosen = np.linspace(0, len(paths) - 1, number).round().astype(int)
  renderer = soundfont.SoundfontRenderer(
    soundfont.find_soundfont(), config.sample_rate
  )
  frames = model.network.segment_frames
  length_s = frames / config.frame_rate
  segments = []
  for place, path in enumerate(paths[index] for index in chosen):
    whole = renderings.load_piece(path, 2 * length_s, renderer, config)
    index = place % 2 if len(whole.log_mel) >= 2 * frames else 0
    start = index * frames
    own = whole.notes[
      (whole.notes.onset >= index * length_s)
      & (whole.notes.onset < (index + 1) * length_s)
    ]
    piece = dataclasses.replace(
      whole,
      notes=dataclasses.replace(
        own,
        onset=own.onset - index * length_s,
        offset=own.offset - index * length_s,
      ),
      samples=whole.samples[start * config.hop_length :][
        : frames * config.hop_length
      ],
      log_mel=whole.log_mel[start : start + frames],
    )
    segments.append(
      Segment(
        piece,
        synthesizer.prepare(whole.notes, overlap=0).tokens[index],
        whole.log_mel[start - frames : start] if index else None,
      )
    )
  return segments


def as_batch(
  segments: Sequence[Segment], synthesizer: inference.Synthesizer
) -> tuple:
  """Tokens, context and its mask, as the model's `predict` takes them."""
  config = synthesizer.spectrogram_config
  frames = synthesizer.model.network.segment_frames
  length = max(len(segment.tokens) for segment in segments)
  silence = np.full((frames, config.n_mels), math.log(config.log_floor))
  contexts = [
    silence if segment.context is None else segment.context
    for segment in segments
  ]
  heard = [[segment.context is not None] for segment in segments]
  return (
    jnp.asarray(
      np.stack(
        [np.pad(s.tokens, (0, length - len(s.tokens))) for s in segments]
      )
    ),
    jnp.asarray(np.stack(contexts), jnp.float32),
    jnp.asarray(np.repeat(heard, frames, axis=1)),
  )


def digest(segments: Sequence[Segment]) -> str:
  """A hash of what is generated from and compared with."""
  result = hashlib.sha256()
  for segment in segments:
    result.update(segment.tokens.tobytes() + segment.piece.log_mel.tobytes())
  return result.hexdigest()
