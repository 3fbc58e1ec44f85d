"""What is measured of a trained model: errors, distances, notes, loudness."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import itertools
import pathlib
from typing import Any

import jax
from jax import numpy as jnp
from jaxtyping import Float32, Int32
import numpy as np
import renderings
import scores

from music_spectrogram_diffusion import (
  audio,
  diffusion,
  evaluation,
  inverter,
  models,
  notes,
  training,
)
from music_spectrogram_diffusion.data import soundfont
from music_spectrogram_diffusion.training import sources

ERROR_TIMES = (0.95, 0.6, 0.2)
ONE_STEP, FEW_STEPS, ALL_THE_WAY = "one step", "few steps", "all the way"
SAMPLINGS = {
  ONE_STEP: models.SamplingConfig(num_steps=1, guidance_weight=1.0),
  # The default's setting when these were scored.
  FEW_STEPS: models.SamplingConfig(
    num_steps=3, guidance_weight=1.5, end_time=0.7
  ),
  ALL_THE_WAY: models.SamplingConfig(num_steps=8, guidance_weight=1.0),
}
"""All of them DDIM."""

BATCH = 12
"""Examples of every batch here, so that few programs are compiled."""

_NUM_HELD_OUT = 3  # Batches.
_MAX_TOKENS = 512

# The first programs of Slakh's classes whose notes die away or can be struck
# harder; fixed pitches, in the middle of their ranges.
_PLAYED = {
  0: 60,
  4: 55,
  8: 72,
  24: 55,
  26: 55,
  32: 40,
  40: 69,
  42: 48,
  48: 60,
  56: 67,
  68: 67,
  73: 74,
}
_NOTES_A_SEGMENT = 5
_SEGMENTS_OF_DYNAMICS = 3


@dataclasses.dataclass(frozen=True)
class References:
  """What all variants are compared with; made once.

  Attributes:
    pieces: Excerpts that nothing is trained on, as many as fit a batch.
    invert: Plays spectrograms.
    renderer: Plays notes.
    transcriber: Python of the environment that transcribes.
    output: Folder for audio and transcriptions.
  """

  pieces: Sequence[renderings.Piece]
  invert: inverter.Inverter
  renderer: soundfont.SoundfontRenderer
  transcriber: pathlib.Path
  output: pathlib.Path

  @functools.cached_property
  def ground_truth_f1(self) -> float:
    """Note F1 of the soundfont's spectrograms through the inverter."""
    truth = {"truth": [piece.log_mel for piece in self.pieces]}
    return self.note_f1(truth)["truth"]

  def note_f1(
    self,
    played: Mapping[str, Sequence[Float32[np.ndarray, "frames mel_bins"]]],
  ) -> dict[str, float]:
    """Mean over the pieces of the note F1 of what a transcriber hears.

    Args:
      played: Spectrograms of the pieces, by a name of their own.
    """
    config = self.invert.config
    paths = []
    for name, log_mels in played.items():
      for piece, log_mel in zip(self.pieces, log_mels, strict=True):
        paths.append(self.output / "audio" / name / f"{piece.name}.wav")
        samples = np.asarray(self.invert(log_mel, piece.notes))
        samples = samples[: len(piece.samples)]
        scores.write_audio(paths[-1], samples, config)
    heard = scores.transcribe(
      paths, python=self.transcriber, cache=self.output / "cache"
    )
    found = [
      evaluation.note_f1(piece.notes[~piece.notes.is_drum], transcription)
      for piece, transcription in zip(
        [*self.pieces] * len(played), heard, strict=True
      )
    ]
    means = np.reshape(found, (len(played), -1)).mean(axis=1)
    return dict(zip(played, means.tolist(), strict=True))


class Player:
  """A model and its weights; few programs serve all that is measured.

  Args:
    model: What was trained.
    parameters: Its weights.
  """

  def __init__(self, model: models.DiffusionModel, parameters: Any):
    self.model = model
    self._parameters = parameters
    self._encode = jax.jit(model.encode)
    self._advance = jax.jit(self._step, static_argnames="guidance_weight")

  def encode(self, note_tokens, context, context_mask):
    """Encodes notes and context, see `DiffusionModel.encode`."""
    tokens = np.zeros((len(note_tokens), _MAX_TOKENS), np.int32)
    tokens[:, : note_tokens.shape[1]] = note_tokens
    return self._encode(self._parameters, tokens, context, context_mask)

  def x0_error(self, batch: sources.Batch, conditioning, time: float) -> float:
    """Mean |x0_hat - x0| for noise that is the same for every model."""
    x0 = audio.scale_log_mel(
      batch["targets"], self.model.spectrogram, clip=True
    )
    eps = jax.random.normal(jax.random.key(0), x0.shape)
    z_t, _ = diffusion.losses.noised(
      x0, jnp.full(len(x0), time), eps, self.model.schedule
    )
    _, x0_hat = self._advance(self._parameters, z_t, time, 0.0, conditioning)
    error = jnp.abs(x0_hat - x0)
    return float(diffusion.losses.masked_mean(error, batch["targets_mask"]))

  def sample(
    self, conditioning, sampling: models.SamplingConfig, seed: int
  ) -> Float32[np.ndarray, "batch frames mel_bins"]:
    """Generates log-mel spectrograms."""
    network, spectrogram = self.model.network, self.model.spectrogram
    shape = (len(conditioning.keys), network.segment_frames, spectrogram.n_mels)
    z_t = jax.random.normal(jax.random.key(seed), shape)
    end = sampling.end_time
    times = end + (1.0 - end) * np.linspace(1.0, 0.0, sampling.num_steps + 1)
    for time, after in itertools.pairwise(times):
      z_t, x0 = self._advance(
        self._parameters,
        z_t,
        time,
        after,
        conditioning,
        guidance_weight=sampling.guidance_weight,
      )
    return np.asarray(audio.unscale_log_mel(x0, spectrogram))

  def play(
    self,
    pieces: Sequence[renderings.Piece],
    sampling: models.SamplingConfig,
  ) -> list[Float32[np.ndarray, "frames mel_bins"]]:
    """Plays pieces side by side, each segment the context of the next."""
    model = self.model
    frames = model.network.segment_frames
    num_segments = -(-max(len(piece.log_mel) for piece in pieces) // frames)
    tokens = [_tokens(model, piece.notes, num_segments) for piece in pieces]
    shape = (len(pieces), frames, model.spectrogram.n_mels)
    context = np.full(shape, model.spectrogram.mel_range[0], np.float32)
    segments = []
    for index, row in enumerate(np.stack(tokens, axis=1)):
      mask = np.full(shape[:2], index > 0)
      conditioning = self.encode(row, context, mask)
      context = self.sample(conditioning, sampling, index)
      segments.append(context)
    played = np.concatenate(segments, axis=1)
    return [
      log_mel[: len(piece.log_mel)]
      for log_mel, piece in zip(played, pieces, strict=True)
    ]

  def _step(
    self, parameters, z_t, time, after, conditioning, *, guidance_weight=1.0
  ):
    """A step of DDIM, and the x0 that it goes towards."""
    schedule = self.model.schedule
    time, after = (jnp.full(len(z_t), t, jnp.float32) for t in (time, after))
    x0 = self.model.denoise(
      parameters, z_t, time, conditioning, guidance_weight
    )
    x0 = jnp.clip(x0, -1.0, 1.0)
    z_s = diffusion.samplers.ddim_step(
      z_t,
      x0,
      logsnr_t=schedule.logsnr(time),
      logsnr_s=schedule.logsnr(after),
    )
    return z_s, x0


def score(
  name: str,
  player: Player,
  held_out: training.BatchIterator,
  references: References,
) -> dict[str, float]:
  """Measures a model.

  Args:
    name: Of the variant, for its files.
    player: The model.
    held_out: Windows of songs that were not trained on, batches of `BATCH`.
    references: What it is compared with.

  Returns:
    `x0 TIME`: mean |x0_hat - x0| on the models' scale. `mel NAME`: log-mel
    distance of a sample, nats. `f1 NAME`: note F1. `velocity` and `dynamics`:
    see `loudness`.
  """
  errors, distances = [], []
  for index, batch in enumerate(itertools.islice(held_out, _NUM_HELD_OUT)):
    conditioning = player.encode(
      batch["note_tokens"], batch["context"], batch["context_mask"]
    )
    errors.append(
      {
        f"x0 {time}": player.x0_error(batch, conditioning, time)
        for time in ERROR_TIMES
      }
    )
    valid = batch["targets_mask"]
    for sampling, settings in SAMPLINGS.items():
      sample = player.sample(conditioning, settings, index)
      distance = evaluation.log_mel_distance(
        batch["targets"][valid], sample[valid]
      )
      distances.append({f"mel {sampling}": distance})
  found = _means(errors) | _means(distances)
  played = {
    f"{name}/{sampling}": player.play(references.pieces, SAMPLINGS[sampling])
    for sampling in (ONE_STEP, FEW_STEPS)
  }
  for label, f1 in references.note_f1(played).items():
    found[f"f1 {label.partition('/')[2]}"] = f1
  return found | loudness(player, references.renderer)


def _means(rows):
  names = dict.fromkeys(name for row in rows for name in row)
  return {
    name: float(np.mean([row[name] for row in rows if name in row]))
    for name in names
  }


def loudness(
  player: Player, renderer: soundfont.SoundfontRenderer
) -> dict[str, float]:
  """How loud notes of many velocities are, on several instruments.

  Returns:
    `velocity`: correlation of velocity and level in dB, mean over instruments.
    `dynamics`: slope of the level over that of the soundfont, 1 for as much.
    `velocity of the soundfont`: as the first.
  """
  config = player.model.spectrogram
  segment_s = player.model.network.segment_frames / config.frame_rate
  count = _NOTES_A_SEGMENT * _SEGMENTS_OF_DYNAMICS
  onsets = np.arange(count) * segment_s / _NOTES_A_SEGMENT
  length_s = 0.6 * segment_s / _NOTES_A_SEGMENT
  velocities = np.random.default_rng(0).permutation(np.linspace(16, 127, count))
  pieces = []
  for program, pitch in _PLAYED.items():
    played = notes.Notes.from_columns(
      onsets, onsets + length_s, pitch, np.rint(velocities), program
    )
    samples = renderer.render(played, segment_s * _SEGMENTS_OF_DYNAMICS)
    log_mel = np.asarray(audio.log_mel(samples, config))
    pieces.append(renderings.Piece(str(program), played, samples, log_mel))
  generated = player.play(pieces, SAMPLINGS[ONE_STEP])
  correlations, slopes, reference = [], [], []
  frames = np.rint(onsets * config.frame_rate).astype(int)
  window = int(length_s * config.frame_rate)
  for piece, log_mel in zip(pieces, generated, strict=True):
    ours, theirs = (
      np.array([_level_db(mel[start : start + window]) for start in frames])
      for mel in (log_mel, piece.log_mel)
    )
    correlations.append(np.corrcoef(velocities, ours)[0, 1])
    reference.append(np.corrcoef(velocities, theirs)[0, 1])
    slopes.append(
      np.polyfit(velocities, ours, 1)[0] / np.polyfit(velocities, theirs, 1)[0]
    )
  return {
    "velocity": float(np.mean(correlations)),
    "dynamics": float(np.median(slopes)),
    "velocity of the soundfont": float(np.mean(reference)),
  }


def _level_db(log_mel):
  """Level of all bins together."""
  return 20.0 * np.log10(np.exp(log_mel).sum(axis=1).mean())


def _tokens(
  model: models.DiffusionModel, piece: notes.Notes, num_segments: int
) -> Int32[np.ndarray, "segments tokens"]:
  segments = notes.tokenize_segments(
    notes.to_slakh_classes(piece),
    vocabulary=model.vocabulary,
    segment_frames=model.network.segment_frames,
    frame_rate=model.spectrogram.frame_rate,
    max_tokens=_MAX_TOKENS,
    max_notes=model.network.max_notes,
    num_segments=num_segments,
  )
  return np.stack([np.pad(s, (0, _MAX_TOKENS - len(s))) for s in segments])
