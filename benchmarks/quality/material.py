"""What is played: pieces, families and drums of them alone, and figures."""

from collections.abc import Sequence
import dataclasses

import families
import numpy as np
import renderings

from music_spectrogram_diffusion import audio, notes
from music_spectrogram_diffusion.data import soundfont

VELOCITIES = (56, 104, 24, 120, 40, 88, 72)
"""Velocities of a figure's notes, in their order: no trend, no pairs."""

# All notes of a figure and the silence after it fit into one segment.
_FIGURE_SPACING_S = 0.58
_FIGURE_LENGTH_S = 0.38

# Over the first join, with room on both sides.
_HELD_LENGTH_S = 9.0
_HELD_VELOCITY = 88

# Where an instrument is at home, of those that do not play middle C.
_MIDDLE_C = 60
_FIGURE_PITCHES = {
  8: 72,
  32: 40,
  33: 40,
  40: 69,
  42: 48,
  43: 40,
  47: 45,
  57: 53,
  58: 41,
  67: 50,
  70: 48,
  73: 76,
}
_FIGURE_DRUMS = {"kick": 36, "snare": 38, "closed hi-hat": 42, "low tom": 45}

# Pieces in which a family is heard alone at most: where it plays the most
# pitches, of those that have notes enough.
_SOLOS_OF_A_FAMILY = 2
_LEAST_NOTES = 10


@dataclasses.dataclass(frozen=True)
class Material:
  """Everything that a row of the table plays.

  Attributes:
    pieces: The excerpts.
    solos: {family: excerpts with its notes alone}. A piece that has no others
      is there as it is.
    drums: Excerpts with their drums alone.
    figures: {instrument: one note at many velocities}.
    held: {instrument: a note that is held over a join}.
  """

  pieces: Sequence[renderings.Piece]
  solos: dict[str, list[renderings.Piece]]
  drums: Sequence[renderings.Piece]
  figures: dict[str, renderings.Piece]
  held: dict[str, renderings.Piece]

  @property
  def transcribed(self) -> dict[str, renderings.Piece]:
    """{name: what a transcriber listens to}, each once."""
    solos = [piece for of_family in self.solos.values() for piece in of_family]
    return {piece.name: piece for piece in [*self.pieces, *solos]}

  @property
  def played(self) -> dict[str, renderings.Piece]:
    """{name: what has to be played}, each once."""
    rest = [*self.drums, *self.figures.values(), *self.held.values()]
    return self.transcribed | {piece.name: piece for piece in rest}


def make_material(
  pieces: Sequence[renderings.Piece],
  renderer: soundfont.SoundfontRenderer,
  config: audio.SpectrogramConfig,
  *,
  num_figures: int | None = None,
) -> Material:
  """Takes pieces apart, and adds figures.

  Args:
    pieces: The excerpts.
    renderer: The soundfont.
    config: The features.
    num_figures: How many, and how many held notes, spread over the
      instruments; None for all.
  """

  def part(piece, name, mask):
    if mask.all():
      return piece
    name = f"{piece.name}-{name.replace(' ', '-')}"
    longest_s = len(piece.samples) / config.sample_rate
    return renderings.play_soundfont(
      name, piece.notes[mask], renderer, config, longest_s=longest_s
    )

  solos = {}
  for family in families.FAMILIES:
    masks = [families.mask(piece.notes, family) for piece in pieces]
    chosen = sorted(
      (i for i, mask in enumerate(masks) if mask.sum() >= _LEAST_NOTES),
      key=lambda i: (
        masks[i].sum() < families.MIN_NOTES,
        -len(np.unique(pieces[i].notes.pitch[masks[i]])),
      ),
    )
    if chosen:
      solos[family] = [
        part(pieces[i], family, masks[i]) for i in chosen[:_SOLOS_OF_A_FAMILY]
      ]
  drums = [
    part(piece, "drums", piece.notes.is_drum)
    for piece in pieces
    if piece.notes.is_drum.sum() >= _LEAST_NOTES
  ]

  def play(kind, music):
    return {
      name: renderings.play_soundfont(
        f"{kind}-{name.lower().replace(' ', '-').replace('/', '-')}",
        piece,
        renderer,
        config,
      )
      for name, piece in choose(list(music.items()), num_figures)
    }

  return Material(
    pieces,
    solos,
    drums,
    figures=play("figure", figure_notes()),
    held=play("held", held_notes()),
  )


def figure_notes() -> dict[str, notes.Notes]:
  """{instrument: its figure}: all classes that the models know, and drums."""
  onset = _FIGURE_SPACING_S * np.arange(len(VELOCITIES))
  columns = onset, onset + _FIGURE_LENGTH_S
  pitched = {
    name: notes.Notes.from_columns(
      *columns, _FIGURE_PITCHES.get(program, _MIDDLE_C), VELOCITIES, program
    )
    for name, program in notes.SLAKH_CLASSES.items()
  }
  drums = {
    name: notes.Notes.from_columns(*columns, drum, VELOCITIES, 0, True)
    for name, drum in _FIGURE_DRUMS.items()
  }
  return pitched | drums


def held_notes() -> dict[str, notes.Notes]:
  """{instrument: a note held over a join}: all classes that models know."""
  return {
    name: notes.Notes.from_columns(
      [0.0],
      [_HELD_LENGTH_S],
      _FIGURE_PITCHES.get(program, _MIDDLE_C),
      [_HELD_VELOCITY],
      program,
    )
    for name, program in notes.SLAKH_CLASSES.items()
  }


def choose(items: Sequence, number: int | None) -> list:
  """As many of the items as are wanted, spread over all of them."""
  if number is None or number >= len(items):
    return list(items)
  rows = np.linspace(0, len(items) - 1, number).round().astype(int)
  return [items[row] for row in rows]
