"""Samples a batch of segments, and measures what comes out."""

from collections.abc import Sequence
import dataclasses
import hashlib
import itertools
import json
import pathlib
import tempfile
import time

import jax
from jax import numpy as jnp
import numpy as np
import plan
import segments as segments_lib

from music_spectrogram_diffusion import diffusion, evaluation, inference

# After the import of `segments`, which makes them found.
import renderings  # isort: skip
import scores  # isort: skip

_GAP_S = 1.0
_SAMPLES = ".npy"  # Which no inverter has touched.


@dataclasses.dataclass(frozen=True, eq=False)
class Bench:
  """Segments, a model, and where what was computed is kept.

  Attributes:
    synthesizer: The model and its inverter.
    segments: What it renders.
    seeds: How many times, each with noise of its own.
    cache: A folder; files in it are named after the hash of what went in.
  """

  synthesizer: inference.Synthesizer
  segments: Sequence[segments_lib.Segment]
  seeds: int
  cache: pathlib.Path

  def path(self, setting: plan.Setting, suffix: str) -> pathlib.Path:
    """Where a result of a setting is kept."""
    parts = [
      self.synthesizer.model_hash,
      segments_lib.digest(self.segments),
      repr((self.seeds, setting)),
      _sources(),
    ]
    if suffix != _SAMPLES:
      parts.append(renderings.fingerprint(self.synthesizer.inverter))
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return self.cache / f"{key}{suffix}"

  def sample(self, setting: plan.Setting) -> np.ndarray:
    """Log-mel spectrograms [seeds, segments, frames, mel_bins]."""
    path = self.path(setting, _SAMPLES)
    if not path.exists():
      np.save(path, self._sample(setting).astype(np.float16))
    return np.load(path).astype(np.float32)

  def _sample(self, setting):
    model = self.synthesizer.model
    tokens, context, mask = (
      jnp.concatenate([part] * self.seeds)
      for part in segments_lib.as_batch(self.segments, self.synthesizer)
    )
    keys = jax.random.split(jax.random.key(0), self.seeds * len(self.segments))
    log_mels = model.predict(
      self.synthesizer.parameters,
      tokens,
      context,
      mask,
      keys,
      **dataclasses.asdict(setting),
    )
    shape = (self.seeds, len(self.segments), *log_mels.shape[1:])
    return np.asarray(log_mels).reshape(shape)

  def seconds_of_inverting(self, log_mels: np.ndarray) -> float:
    """Seconds of the inverter, for spectrograms like those of `sample`."""
    start = time.perf_counter()
    self._audio(log_mels)
    return time.perf_counter() - start

  def seconds_of(self, setting: plan.Setting) -> tuple[float, float]:
    """Seconds of a first sampling, compiling included, and of a second one."""
    spent = []
    for _ in range(2):
      start = time.perf_counter()
      self._sample(setting)
      spent.append(time.perf_counter() - start)
    return spent[0], spent[1]

  def hear(
    self, settings: Sequence[plan.Setting], transcriber: pathlib.Path
  ) -> None:
    """Inverts and transcribes what was sampled, all at once."""
    missing = [s for s in settings if not self.path(s, ".json").exists()]
    config = self.synthesizer.spectrogram_config
    with tempfile.TemporaryDirectory() as folder:
      paths = []
      for setting in missing:
        paths.append(pathlib.Path(folder) / f"{len(paths)}.wav")
        joined = self._audio(self.sample(setting))
        scores.write_audio(paths[-1], joined, config)
      heard = scores.transcribe(paths, python=transcriber, cache=self.cache)
    for setting, notes in zip(missing, heard, strict=True):
      text = json.dumps(self._note_f1(notes))
      self.path(setting, ".json").write_text(text)

  def note_f1(self, setting: plan.Setting) -> float | None:
    """Mean note F1 over segments and seeds, None where it was not heard."""
    path = self.path(setting, ".json")
    return json.loads(path.read_text()) if path.exists() else None

  def _audio(self, log_mels):
    """All segments one after the other, with gaps."""
    invert = self.synthesizer.inverter
    gap = np.zeros(self._samples(_GAP_S), np.float32)
    parts = [
      part
      for of_seed in log_mels
      for log_mel, segment in zip(of_seed, self.segments, strict=True)
      for part in (np.asarray(invert(log_mel, segment.piece.notes)), gap)
    ]
    return np.concatenate(parts)

  def _samples(self, seconds):
    return round(seconds * self.synthesizer.spectrogram_config.sample_rate)

  def _note_f1(self, heard):
    config = self.synthesizer.spectrogram_config
    frames = self.synthesizer.model.network.segment_frames
    length_s = frames / config.frame_rate + _GAP_S
    found = []
    for index, segment in enumerate(list(self.segments) * self.seeds):
      start = index * length_s
      own = heard[(heard.onset >= start) & (heard.onset < start + length_s)]
      own = dataclasses.replace(
        own, onset=own.onset - start, offset=own.offset - start
      )
      piece = segment.piece
      rendering = renderings.Rendering(piece.samples, piece.log_mel)
      found.append(scores.score(piece, rendering, own, config).onset_f1)
    return float(np.mean(found))


def distance_to_mean(log_mels: np.ndarray, reference: np.ndarray) -> float:
  """Distance of the means over seeds, in nats; segments as in `reference`."""
  number = reference.shape[1]
  return evaluation.log_mel_distance(
    reference.mean(0), log_mels[:, :number].mean(0)
  )


def diversity(log_mels: np.ndarray) -> float:
  """Mean distance of two seeds, in nats."""
  pairs = itertools.combinations(log_mels, 2)
  return float(np.mean([evaluation.log_mel_distance(*pair) for pair in pairs]))


def distance_to_soundfont(
  log_mels: np.ndarray, segments: Sequence[segments_lib.Segment]
) -> float:
  """Mean distance from what the soundfont plays, in nats."""
  distances = [
    evaluation.log_mel_distance(
      segment.piece.log_mel, log_mel[: len(segment.piece.log_mel)]
    )
    for of_seed in log_mels
    for segment, log_mel in zip(segments, of_seed, strict=True)
  ]
  return float(np.mean(distances))


def _sources() -> str:
  """The samplers' own code, which is part of what was computed."""
  parts = (diffusion.samplers, diffusion.spacings, diffusion.guidance)
  return "".join(pathlib.Path(part.__file__).read_text() for part in parts)
