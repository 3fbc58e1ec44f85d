"""The synthesizer: notes in, audio out, as a stream of segments."""

from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import functools
import math
import os
from typing import Any

import jax
from jaxtyping import Float32
import numpy as np

from music_spectrogram_diffusion import audio, checkpoints, models
from music_spectrogram_diffusion import inverter as inverter_lib
from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.inference import (
  batching,
  devices,
  inverters,
)
from music_spectrogram_diffusion.inference.batching import Song

TAIL_S = 1.0
"""Audio after the last note has ended, for what it leaves ringing."""

Model = models.DiffusionModel | models.AutoregressiveModel

# Settings of `Synthesizer.stream`, and what the models call them.
_SETTINGS = {
  "steps": "num_steps",
  "sampler": "sampler",
  "guidance": "guidance_weight",
  "end_time": "end_time",
  "spacing": "spacing",
  "guidance_interval": "guidance_interval",
  "overlap": "overlap_frames",
}
_TOKEN_BUCKETS = (128, 256, 512, 1024, 2048)


@dataclasses.dataclass(frozen=True)
class Segment:
  """What one step of a stream brings.

  Attributes:
    index: Number of the last segment generated, from 0.
    num_segments: Segments of the whole song.
    samples: Audio that goes on from what came before. An inverter may look
      ahead, so it does not cover exactly the frames of `log_mel`.
    log_mel: Spectrogram that was generated for it, natural logarithm; no frames
      where there is more audio of what came before.
  """

  index: int
  num_segments: int
  samples: Float32[np.ndarray, " samples"]
  log_mel: Float32[np.ndarray, "frames mel_bins"]


@dataclasses.dataclass(frozen=True, eq=False)
class Synthesizer:
  """Plays notes: tokens, spectrograms segment by segment, audio.

  Build one with `from_pretrained`.

  Attributes:
    model: Makes spectrograms of notes.
    parameters: Its parameters, on the device.
    inverter: Makes audio of its spectrograms.
    model_hash: SHA-256 of the weights.
  """

  model: Model
  parameters: Mapping[str, Any]
  inverter: inverter_lib.Inverter
  model_hash: str

  @classmethod
  def from_pretrained(
    cls,
    name: str | os.PathLike | None = None,
    *,
    inverter: str | os.PathLike | None = None,
    follow_notes: bool | None = None,
    dtype: str | None = None,
  ) -> "Synthesizer":
    """Loads a model; downloads and converts published ones on first use.

    Args:
      name: A model directory, the directory of a diffusers pipeline or of a t5x
        checkpoint, the name of a published model (`spec-diff models list`), or
        None for the model that the package carries.
      inverter: What plays the spectrograms in place of the model's own:
        "griffin-lim", an ONNX file, a SavedModel's directory, or a model that
        has an inverter of ours.
      follow_notes: Whether the inverter is told the notes, so that their tones
        are clean, by an `inverter.NoteGuidedInverter`. None for what the
        inverter is made for: the fast one yes, others no.
      dtype: What the products of sampling steps and of an inverter of ours are
        made in, "float32" or "bfloat16": faster on GPUs, TPUs and newer CPUs.
        None for the model's and the inverter's own.

    Raises:
      ValueError: There is no such dtype, or an inverter of such features cannot
        follow notes.
      checkpoints.CheckpointError: Something is missing, damaged or of another
        model.
      checkpoints.DownloadError: A published model cannot be downloaded.
      DeviceError: The device that JAX is told to use is not there.
    """
    devices.check_device()
    path = checkpoints.find_model(name)
    config, parameters = checkpoints.load_model_directory(path)
    try:
      model = models.from_config(config.get("model"))
    except ValueError as error:
      raise checkpoints.CheckpointError(
        f"Expected a model in {path / 'config.json'}: {error}"
      ) from error
    if not isinstance(model, Model):
      raise checkpoints.CheckpointError(
        f"Expected a DiffusionModel or an AutoregressiveModel as model in"
        f" {path / 'config.json'}, got {type(model).__name__}."
      )
    checkpoints.check_parameters(
      jax.eval_shape(model.init, jax.random.key(0)), parameters, path
    )
    if dtype is not None:
      network = dataclasses.replace(model.network, dtype=dtype)
      model = dataclasses.replace(model, network=network)
    features = model.spectrogram
    overlap = model.sampling_settings.get("overlap_frames", 0)
    chunk_frames = model.network.segment_frames - overlap
    settings = dict(
      chunk_frames=chunk_frames, follow_notes=follow_notes, dtype=dtype
    )
    if inverter is None:
      chosen = inverters.own_inverter(path, features, **settings)
    else:
      chosen = inverters.find_inverter(inverter, features, **settings)
    return cls(
      model=model,
      parameters=_move_to_device(parameters),
      inverter=chosen,
      model_hash=checkpoints.weights_hash(path),
    )

  @property
  def spectrogram_config(self) -> audio.SpectrogramConfig:
    """The features that are generated; gives the sample rate."""
    return self.model.spectrogram

  @property
  def inverter_name(self) -> str:
    """The class of the inverter; of the inner one, where notes are followed."""
    inner = self.inverter.inner if self.follows_notes else self.inverter
    return type(inner).__name__

  @property
  def follows_notes(self) -> bool:
    """Whether the inverter is told the notes and goes by them."""
    return isinstance(self.inverter, inverter_lib.NoteGuidedInverter)

  @property
  def defaults(self) -> dict[str, Any]:
    """Settings of `stream` that hold unless they are given."""
    own = self.model.sampling_settings
    return {ours: own[its] for ours, its in _SETTINGS.items() if its in own} | {
      "seed": 0
    }

  def __call__(self, music: Any, **settings: Any) -> Float32[np.ndarray, "_"]:
    """Renders a whole song; arguments and errors are those of `stream`.

    Returns:
      Mono samples, nominally in [-1, 1] and not clipped.
    """
    segments = self.stream(music, **settings)
    return np.concatenate([segment.samples for segment in segments])

  def stream(
    self, music: Any, *, seed: int = 0, **settings: Any
  ) -> Iterator[Segment]:
    """Renders a song segment by segment, in memory that does not grow.

    Programs are replaced by the instruments that the models know. The same
    seed gives the same audio, whole or streamed.

    Args:
      music: Path of a MIDI file, `notes.Notes`, or a note_seq NoteSequence.
      seed: Seeds the noise; 0 to 2**32 - 1.
      **settings: See `check_settings`.

    Yields:
      Audio and spectrograms in their order, to `TAIL_S` after the last note.

    Raises:
      ValueError: The file cannot be read, or a setting is out of range.
    """
    self.check_settings(**settings)
    overlap = settings.pop("overlap", None)
    song = self.prepare(music, seed=seed, overlap=overlap)
    for _, segment in self.stream_batch([song], **settings):
      if segment is not None:
        yield segment

  def prepare(
    self, music: Any, *, seed: int = 0, overlap: int | None = None
  ) -> Song:
    """Reads and tokenizes a song for `stream_batch`; as `stream` says."""
    self.check_settings(overlap=overlap)
    if overlap is None:
      overlap = self.defaults.get("overlap", 0)
    if not 0 <= seed < 2**32:  # JAX would not tell others from these.
      raise ValueError(f"Expected a seed from 0 to {2**32 - 1}, got {seed}.")
    return self._tokenize(_as_notes(music), seed, overlap)

  def stream_batch(
    self, songs: Iterable[Song], *, batch_size: int = 1, **settings: Any
  ) -> Iterator[tuple[Song, Segment | None]]:
    """Renders several songs at once, or several variations of one.

    Songs of different lengths share batches segment by segment, and each comes
    out as if it were alone, but for rounding errors. They are taken from
    `songs` as there is room for them, so memory does not grow with their number
    or length.

    Args:
      songs: What `prepare` gives.
      batch_size: Most songs at a time.
      **settings: See `check_settings`; not the overlap, which is the songs'.

    Yields:
      A song, and its next segment; or None once after its last one.

    Raises:
      ValueError: A setting is out of range.
      BatchTooLargeError: A batch does not fit in memory.
    """
    if batch_size < 1:
      raise ValueError(f"Expected a batch size of 1 or more, got {batch_size}.")
    if settings.get("overlap") is not None:
      raise ValueError("Expected the overlap in `prepare`: it is a song's own.")
    self.check_settings(**settings)
    batches = batching.SharedBatches(
      functools.partial(self._predict, settings=self._own_names(settings)),
      self.model.spectrogram,
      segment_frames=self.model.network.segment_frames,
      batch_size=batch_size,
    )
    waiting = iter(songs)
    playing: dict[batching.Row, Iterator[Segment]] = {}
    while True:
      while batches.has_room and (song := next(waiting, None)) is not None:
        row = batches.open(song)
        playing[row] = self._play(song, row)
      if not playing:
        return
      for row in list(playing):
        segment = None
        if row.song.is_wanted:
          segment = next(playing[row], None)
        # What others made it generate ahead is not left to pile up.
        while segment is not None and row.waiting:
          yield row.song, segment
          segment = next(playing[row], None)
        if segment is None:
          batches.close(row)
          del playing[row]
        yield row.song, segment

  def check_settings(
    self,
    *,
    steps: int | None = None,
    sampler: str | None = None,
    guidance: float | None = None,
    end_time: float | None = None,
    spacing: str | None = None,
    guidance_interval: tuple[float, float] | None = None,
    overlap: int | None = None,
  ) -> None:
    """Makes sure that one can render with these settings.

    None stands for the model's own setting.

    Args:
      steps: Sampling steps.
      sampler: How a step is made: a name in `models.SAMPLERS`.
      guidance: Weight of the notes and the context; 1 for no guidance.
      end_time: Noise time at which the grid of steps ends, from 0 to below 1.
      spacing: How the steps lie in time: a name in `models.SPACINGS`.
      guidance_interval: Lowest and highest noise time with guidance; outside
        of it a step costs half.
      overlap: Frames that a segment shares with the next one, over which they
        are crossfaded. Where it is more than the model's own, the first audio
        comes with the second segment.

    Raises:
      ValueError: A setting is out of range, or the model does not have it.
    """
    given = dict(
      steps=steps,
      sampler=sampler,
      guidance=guidance,
      end_time=end_time,
      spacing=spacing,
      guidance_interval=guidance_interval,
      overlap=overlap,
    )
    given = {name: value for name, value in given.items() if value is not None}
    unknown = given.keys() - self.defaults.keys()
    if unknown:
      raise ValueError(
        f"{type(self.model).__name__} has no setting"
        f" {', '.join(sorted(unknown))}; leave it out."
      )
    if given:
      self.model.sampling_plan(**self._own_names(given))

  def log_mel(
    self, music: Any, **settings: Any
  ) -> Float32[np.ndarray, "frames mel_bins"]:
    """The spectrogram of a whole song; arguments are those of `stream`."""
    return np.concatenate([s.log_mel for s in self.stream(music, **settings)])

  def _own_names(self, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that were given, under the names of the model."""
    return {
      _SETTINGS[name]: value
      for name, value in settings.items()
      if value is not None
    }

  def _tokenize(self, notes: notes_lib.Notes, seed: int, overlap: int) -> Song:
    """Padded tokens of each segment, and how many samples are to be heard."""
    config, network = self.model.spectrogram, self.model.network
    notes = notes_lib.to_slakh_classes(notes)
    duration_s = notes.duration_s + TAIL_S
    num_frames = math.ceil(duration_s * config.frame_rate)
    lengths = dict(
      segment_frames=network.segment_frames,
      hop_frames=network.segment_frames - overlap,
    )
    segments = notes_lib.tokenize_segments(
      notes,
      vocabulary=self.model.vocabulary,
      **lengths,
      frame_rate=config.frame_rate,
      max_tokens=network.max_tokens,
      max_notes=network.max_notes,
      num_segments=notes_lib.num_covering(num_frames, **lengths),
    )
    # One length for the whole song, so that one program serves all segments.
    longest = max(len(tokens) for tokens in segments)
    fitting = [size for size in _TOKEN_BUCKETS if longest <= size]
    length = min(fitting[0] if fitting else longest, network.max_tokens)
    padded = np.full((len(segments), length), notes_lib.PAD, np.int32)
    for row, tokens in zip(padded, segments, strict=True):
      row[: len(tokens)] = tokens
    num_samples = round(duration_s * config.sample_rate)
    return Song(padded, num_samples, seed, overlap, played=notes)

  def _play(self, song: Song, log_mels: Iterable) -> Iterator[Segment]:
    """The audio of a song's spectrograms, as these are made."""
    fresh: list[np.ndarray] = []  # Spectrograms that were not handed out yet.
    index = -1

    def spectrograms():
      nonlocal index
      for log_mel in log_mels:
        fresh.append(log_mel)
        index += 1
        yield log_mel

    left = song.num_samples
    for samples in self.inverter.stream(spectrograms(), song.played):
      if not left and not fresh:
        break
      nothing = np.zeros((0, self.model.spectrogram.n_mels), np.float32)
      yield Segment(
        index=index,
        num_segments=len(song.tokens),
        samples=samples[:left],
        log_mel=np.concatenate([nothing, *fresh]),
      )
      left = max(0, left - len(samples))
      fresh.clear()

  def _predict(self, tokens, context, context_mask, keys, *, settings):
    """The model's prediction of a batch, if there is memory for it."""
    batch_size = len(tokens)
    arrays = (self.parameters, tokens, context, context_mask, keys)
    predict = functools.partial(self.model.predict, **settings)
    try:
      if batch_size > 1:
        key = (tokens.shape, *sorted(settings.items()))
        if key not in self._programs:
          self._programs[key] = _compile(predict, batch_size, arrays)
        predict = self._programs[key]
      return np.asarray(predict(*arrays))
    except jax.errors.JaxRuntimeError as error:
      told = devices.out_of_memory(batch_size, error)
      if told is None:
        raise
      raise told from error

  @functools.cached_property
  def _programs(self) -> dict[tuple, Any]:
    """Compiled predictions of batches, by shape and settings."""
    return {}


def _move_to_device(parameters: dict[str, Any]) -> dict[str, Any]:
  """Puts arrays on the device, one after the other, and lets go of them.

  So memory holds large models once, never twice.
  """
  for name, value in parameters.items():
    if isinstance(value, dict):
      _move_to_device(value)
    else:
      parameters[name] = jax.block_until_ready(jax.device_put(value))
  return parameters


def _compile(predict, batch_size, arrays):
  """Compiles for such arrays; tells first of memory that is not there."""
  program = jax.jit(predict).lower(*arrays).compile()
  memory = program.memory_analysis()
  devices.check_batch_fits(
    batch_size,
    memory and memory.temp_size_in_bytes + memory.output_size_in_bytes,
  )
  return program


def _as_notes(music: Any) -> notes_lib.Notes:
  """Notes of a file, of a NoteSequence, or as they are."""
  if isinstance(music, notes_lib.Notes):
    return music
  if isinstance(music, str | os.PathLike):
    return notes_lib.read_midi(music)
  return notes_lib.from_note_sequence(music)
