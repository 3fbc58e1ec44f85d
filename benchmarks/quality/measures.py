"""Everything that is measured of one row of the table."""

from collections.abc import Mapping
import dataclasses

import drums
import dynamics
import families
import joins
import material
import numpy as np
import renderings
import scores

from music_spectrogram_diffusion import audio, notes
from music_spectrogram_diffusion.evaluation import embeddings, frechet


@dataclasses.dataclass(frozen=True)
class Measures:
  """What was measured of a row.

  Attributes:
    pieces: {piece: notes and spectrograms}.
    solos: {family: notes of the family alone}.
    drums: {piece: onsets of its drums alone}.
    dynamics: {instrument: levels of its figure}.
    held: {instrument: level of a note held over a join}.
    levels: {piece: loudness}.
    joins: Rank of the change at each join, over all pieces.
    soundfont_joins: The same of the soundfont's audio, at the same places.
    fad: Fréchet distance of the pieces from the soundfont's.
  """

  pieces: dict[str, scores.Score]
  solos: dict[str, scores.Counts]
  drums: dict[str, drums.OnsetScore]
  dynamics: dict[str, dynamics.Dynamics]
  held: dict[str, dynamics.Held]
  levels: dict[str, dynamics.Level]
  joins: list[float]
  soundfont_joins: list[float]
  fad: float


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of the table.

  Attributes:
    name: What is played, and how.
    truth: Name of the row of the soundfont's spectrograms through the same
      inverter; its own name for that row.
    is_model: Whether a model plays, and not a reference.
    measures: What was measured.
  """

  name: str
  truth: str
  is_model: bool
  measures: Measures


def measure(
  played: material.Material,
  renderings_of: Mapping[str, renderings.Rendering],
  heard: Mapping[str, notes.Notes],
  embedding: embeddings.Embedding,
  *,
  places: joins.Places,
  config: audio.SpectrogramConfig,
) -> Measures:
  """Measures what one row played.

  Args:
    played: What was asked for, as the soundfont plays it.
    renderings_of: {name: how the row plays it}.
    heard: {name: what the transcriber hears in it}.
    embedding: What the Fréchet distance compares.
    places: Where the row's joins are, or would be.
    config: The features.
  """
  samples = {name: x.samples for name, x in renderings_of.items()}
  rate = config.sample_rate
  return Measures(
    pieces={
      piece.name: scores.score(
        piece, renderings_of[piece.name], heard[piece.name], config
      )
      for piece in played.pieces
    },
    solos={
      family: scores.count(
        solos,
        [heard[solo.name] for solo in solos],
        folded=family in families.FOLDED,
      )
      for family, solos in played.solos.items()
    },
    drums={
      piece.name: drums.score(piece.notes, samples[piece.name], config)
      for piece in played.drums
    },
    dynamics={
      name: dynamics.measure_figure(
        piece.notes.onset,
        piece.notes.velocity,
        samples[piece.name],
        piece.samples,
        rate,
      )
      for name, piece in played.figures.items()
    },
    held={
      name: dynamics.measure_held(
        samples[piece.name],
        piece.samples,
        rate,
        duration_s=piece.notes.duration_s,
        joins_s=places.middles(len(piece.log_mel)) / config.frame_rate,
        reach_s=places.reach / config.frame_rate,
      )
      for name, piece in played.held.items()
    },
    levels={
      piece.name: dynamics.measure_level(
        samples[piece.name], piece.samples, rate
      )
      for piece in played.pieces
    },
    joins=_ranks([samples[x.name] for x in played.pieces], places, config),
    soundfont_joins=_ranks([x.samples for x in played.pieces], places, config),
    fad=_fad(
      [piece.samples for piece in played.pieces],
      [samples[piece.name] for piece in played.pieces],
      embedding,
    ),
  )


def _ranks(played, places, config):
  """Ranks of all joins of some audio."""
  of_each = [joins.ranks(samples, places, config) for samples in played]
  return np.concatenate(of_each).tolist()


def _fad(reference, estimate, embedding):
  """Fréchet distance of two sets of audio."""
  statistics = [
    frechet.GaussianStatistics.of(np.concatenate([embedding(x) for x in of]))
    for of in (reference, estimate)
  ]
  return frechet.frechet_distance(*statistics)
