"""The audio that is compared: the soundfont's, the inverter's, a model's."""

import ast
import dataclasses
import hashlib
import pathlib
import re

import jax
from jaxtyping import Float32
import numpy as np

from music_spectrogram_diffusion import audio, inference, inverter, notes
from music_spectrogram_diffusion.data import soundfont

# Room for the last notes to die away, where a piece ends before its excerpt.
_TAIL_S = 1.0


@dataclasses.dataclass(frozen=True)
class Piece:
  """An excerpt: what is asked for, and how the soundfont plays it.

  Attributes:
    name: The file's name without its suffix.
    notes: Its notes, on the instruments that the models know.
    samples: The soundfont's audio.
    log_mel: Its spectrogram, natural logarithm.
  """

  name: str
  notes: notes.Notes
  samples: Float32[np.ndarray, " samples"]
  log_mel: Float32[np.ndarray, "frames mel_bins"]


@dataclasses.dataclass(frozen=True)
class Rendering:
  """One way to play a piece.

  Attributes:
    samples: Its audio.
    log_mel: The spectrogram that an inverter made the audio from, in the
      frames of the piece.
  """

  samples: Float32[np.ndarray, " samples"]
  log_mel: Float32[np.ndarray, "frames mel_bins"]


def load_piece(
  path: pathlib.Path,
  seconds: float,
  renderer: soundfont.SoundfontRenderer,
  config: audio.SpectrogramConfig,
) -> Piece:
  """Reads the first seconds of a MIDI file and plays them on the soundfont."""
  piece = notes.to_slakh_classes(notes.read_midi(path))
  piece = piece[piece.onset < seconds]
  piece = notes.trim_overlaps(
    dataclasses.replace(piece, offset=np.minimum(piece.offset, seconds))
  )
  return play_soundfont(path.stem, piece, renderer, config, longest_s=seconds)


def play_soundfont(
  name: str,
  piece: notes.Notes,
  renderer: soundfont.SoundfontRenderer,
  config: audio.SpectrogramConfig,
  *,
  longest_s: float = np.inf,
) -> Piece:
  """Plays notes on the soundfont, to a second after the last one.

  Args:
    name: Of the result.
    piece: The notes, on the instruments that the models know.
    renderer: The soundfont.
    config: The features.
    longest_s: Where the audio ends at the latest.
  """
  duration_s = min(longest_s, piece.duration_s + _TAIL_S)
  samples = renderer.render(piece, duration_s)
  return Piece(name, piece, samples, audio.log_mel(samples, config))


def play_ground_truth(
  piece: Piece, invert: inverter.Inverter, key: str, cache: pathlib.Path
) -> Rendering:
  """Puts the soundfont's own spectrogram, and the notes, through the inverter.

  What a perfect model would sound like. Kept in `cache` under a hash of what
  went in.

  Args:
    piece: What is played.
    invert: The inverter.
    key: Its `fingerprint`.
    cache: A folder.
  """
  digest = hashlib.sha256(key.encode() + piece.log_mel.tobytes())
  for column in vars(piece.notes).values():
    digest.update(column.tobytes())
  path = cache / f"{digest.hexdigest()}.npy"
  if not path.exists():
    np.save(path, np.asarray(invert(piece.log_mel, piece.notes)))
  return Rendering(np.load(path), piece.log_mel)


def fingerprint(invert: inverter.Inverter) -> str:
  """What tells inverters apart: a hash of code, settings and weights."""
  digest = hashlib.sha256()
  for path in sorted(pathlib.Path(inverter.__file__).parent.glob("*.py")):
    digest.update(path.read_bytes())
  _describe(invert, digest)
  return digest.hexdigest()


def _describe(invert, digest):
  # Inverters are made of others: `inner`, and `guided`.
  settings = dict(vars(invert))
  for name in ("inner", "guided"):
    other = settings.pop(name, None)
    if other is not None:
      _describe(other, digest)
  leaves, structure = jax.tree.flatten(settings)
  digest.update(f"{type(invert).__name__} {structure}".encode())
  for leaf in leaves:
    is_array = isinstance(leaf, np.ndarray | jax.Array)
    digest.update(
      np.asarray(leaf).tobytes() if is_array else repr(leaf).encode()
    )


def play_model(
  piece: Piece, synthesizer: inference.Synthesizer, settings: dict
) -> Rendering:
  """Plays a piece by a model; settings are those of `Synthesizer.stream`."""
  segments = list(synthesizer.stream(piece.notes, **settings))
  samples = np.concatenate([segment.samples for segment in segments])
  log_mel = np.concatenate([segment.log_mel for segment in segments])
  return Rendering(samples[: len(piece.samples)], log_mel[: len(piece.log_mel)])


def parse_settings(text: str) -> dict:
  """Reads "steps=6,guidance_interval=(0,0.5)" as keyword arguments."""
  settings = {}
  # At commas that are not within brackets.
  for assignment in filter(None, re.split(r",(?![^([]*[)\]])", text)):
    name, _, value = assignment.partition("=")
    try:
      settings[name] = ast.literal_eval(value)
    except (SyntaxError, ValueError):
      settings[name] = value
  return settings
