"""From prepared songs to training examples, as steps of a seqio task.

    song -> `split_songs` -> pieces of 40 s with their log-mel and notes
         -> (seqio's cache, if one was made)
         -> `random_windows` or `consecutive_windows` -> examples

A song is a dict of `id`, `audio` [samples] int16 and `notes`, the columns of
`notes.Notes`: see `data.builders.base`. An example has `inputs` [tokens] int32,
`targets` [frames, mel_bins] float32 and, for models with context,
`targets_context` [frames, mel_bins] float32 (natural log-mel, nothing padded),
with `id` and `first_frame`, the song and the frame of it where the targets
start. Needs TensorFlow.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import threading
from typing import Any

from jaxtyping import Float16, Float32, Float64, Int16, Int64
import numpy as np
import seqio
import tensorflow as tf

from music_spectrogram_diffusion import audio as audio_lib
from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.audio import SpectrogramConfig
from music_spectrogram_diffusion.data.builders.problems import Problems, Rule

# Nothing here is written for AutoGraph.
_as_it_is = tf.autograph.experimental.do_not_convert

Song = Mapping[str, Any]
Example = dict[str, tf.Tensor]

PIECE_FRAMES = 2000
"""Frames of a piece in which windows start: 40 s, as in MT3's caches."""

MARGIN_FRAMES = 256
"""Frames before and after a piece that are kept with it: the longest context
and target of a window."""

EXTRA_HOPS = 16
"""Hops of audio after the last frame that its spectrogram is made from."""

OPEN_PIECES = 128
"""Pieces from which windows are taken in turn, which is how they are shuffled.
Each takes about 0.6 MB."""

PIECE_FEATURES = {
  **dict.fromkeys(("id", "log_mel", "notes"), tf.string),
  **dict.fromkeys(
    ("kept_from", "first_frame", "last_frame", "song_frames"), tf.int64
  ),
}
"""Types of the scalars that a piece consists of."""

SEQUENCE_LENGTH = {"inputs": 2048, "targets": 256, "targets_context": 256}
"""Lengths of an example's features in the paper."""

_INPUTS, _TARGETS, _CONTEXT = SEQUENCE_LENGTH
_LOCK = threading.Lock()
_CONFIG = SpectrogramConfig()
_VOCABULARY = notes_lib.Vocabulary()
_COLUMNS = ("onset", "offset", "pitch", "velocity", "program", "is_drum")
_PIECE_FRAMES = (
  *("kept_from", "kept_to", "first_frame", "last_frame"),
  "song_frames",
)
_INT16_SCALE = 32767.0
_MARGIN_S = 0.02  # Times are rounded when they become tokens.


def split_songs(
  dataset: tf.data.Dataset,
  *,
  config: SpectrogramConfig = _CONFIG,
  piece_frames: int = PIECE_FRAMES,
) -> tf.data.Dataset:
  """Cuts songs into pieces, and makes their log-mel spectrograms.

  Frames are those of the whole song's spectrogram, to the last bit of the
  sum: each is made from its own audio and what follows. So the last frame of a
  context sees the first hop of the target, as frames overlap by half, and
  nothing beyond. A piece is small enough to be kept, shuffled and cached: it
  holds the spectrogram as float16, which is half a percent of a magnitude.

  Args:
    dataset: Songs.
    config: How to transform; its sample rate is that of the songs.
    piece_frames: Frames of a piece in which windows start.

  Returns:
    Pieces, in order: `id`, `log_mel` and `notes` (serialized: float16
    [frames, mel_bins] from frame `kept_from` on, and float64 [notes, 6]), and
    `first_frame`, `last_frame` (where windows start, the last one excluded),
    `song_frames`: counted from the song's start.
  """
  cut = functools.partial(_cut, config=config, piece_frames=piece_frames)

  @_as_it_is
  def pieces(song: Song) -> Example:
    columns = [tf.cast(song["notes"][name], tf.float64) for name in _COLUMNS]
    audio, notes, *frames = tf.numpy_function(
      cut,
      [song["audio"], tf.stack(columns, axis=1)],
      [tf.string, tf.string, *[tf.int64] * len(_PIECE_FRAMES)],
      stateful=False,
    )
    names = ("audio", "notes", *_PIECE_FRAMES)
    piece = {
      name: tf.ensure_shape(values, [None])
      for name, values in zip(names, (audio, notes, *frames), strict=True)
    }
    return piece | {"id": tf.fill(tf.shape(piece["audio"]), song["id"])}

  @_as_it_is
  def with_log_mel(piece: Example) -> Example:
    num_frames = piece.pop("kept_to") - piece["kept_from"]
    log_mel = tf.numpy_function(
      functools.partial(_log_mel, config=config),
      [tf.io.decode_raw(piece.pop("audio"), tf.int16), num_frames],
      tf.float16,
      stateful=False,
    )
    notes = tf.io.decode_raw(piece["notes"], tf.float64)
    notes = tf.reshape(notes, [-1, len(_COLUMNS)])
    return piece | {
      "notes": tf.io.serialize_tensor(notes),
      "log_mel": tf.io.serialize_tensor(log_mel),
    }

  # Not `flat_map`, as tf.data would remember an iterator of each song.
  return (
    dataset.map(pieces)
    .unbatch()
    .map(with_log_mel, num_parallel_calls=tf.data.AUTOTUNE)
  )


def _cut(
  audio: Int16[np.ndarray, " samples"],
  notes: Float64[np.ndarray, "notes 6"],
  *,
  config: SpectrogramConfig,
  piece_frames: int,
) -> tuple[np.ndarray, ...]:
  """Pieces of a song: bytes of their audio and notes, and `_PIECE_FRAMES`."""
  hop, rate = config.hop_length, config.frame_rate
  song_frames = -(-len(audio) // hop)
  first = np.arange(0, song_frames, piece_frames)
  last = np.minimum(first + piece_frames, song_frames)
  kept_from = np.maximum(first - MARGIN_FRAMES, 0)
  kept_to = np.minimum(last + MARGIN_FRAMES, song_frames)
  onset, offset = notes[:, 0], notes[:, 1]
  audios, rows = [], []
  for index in range(len(first)):
    start, end = kept_from[index] * hop, (kept_to[index] + EXTRA_HOPS) * hop
    audios.append(audio[start:end].tobytes())
    start_s = first[index] / rate - _MARGIN_S
    end_s = kept_to[index] / rate + _MARGIN_S
    is_last = kept_to[index] == song_frames
    near = (offset >= start_s) & ((onset < end_s) | is_last)
    rows.append(notes[near].tobytes())
  return (
    np.array(audios, np.object_),
    np.array(rows, np.object_),
    *(kept_from, kept_to, first, last),
    np.full_like(first, song_frames),
  )


def random_windows(
  dataset: tf.data.Dataset,
  sequence_length: Mapping[str, int] | None,
  output_features: Mapping[str, Any],
  *,
  problems: Problems,
  vocabulary: notes_lib.Vocabulary = _VOCABULARY,
  config: SpectrogramConfig = _CONFIG,
  short_context_probability: float = 0.1,
  open_pieces: int = OPEN_PIECES,
) -> tf.data.Dataset:
  """Takes windows at random places of pieces: examples to train on.

  In each pass over a song its windows start a window's length apart, from a
  random frame on, so that every frame is as likely as another; the context is
  what precedes a window, as far as there is something. Windows are taken from
  `open_pieces` pieces in turn. Windows of too many tokens are dropped.

  Args:
    dataset: Pieces, repeated as often as wanted.
    sequence_length: Longest `inputs` (tokens, EOS included), `targets` and
      `targets_context` (frames); `SEQUENCE_LENGTH` where not given.
    output_features: The task's; `targets_context` among them asks for context.
    problems: Counts windows that are dropped.
    vocabulary: Ids of the note tokens.
    config: Shape of the spectrogram.
    short_context_probability: Share of windows whose context is cut to a
      random length.
    open_pieces: Pieces that are kept at a time.
  """
  windows = _Windows(
    places=functools.partial(
      random_places, short_context_probability=short_context_probability
    ),
    lengths=Lengths.of_task(sequence_length, output_features),
    vocabulary=vocabulary,
    config=config,
    problems=problems,
  )
  return (
    seqio.map_over_dataset(windows.choose, num_seeds=1)(dataset)
    .interleave(windows.of_piece, cycle_length=open_pieces, block_length=1)
    .map(windows.widen, num_parallel_calls=tf.data.AUTOTUNE)
  )


def consecutive_windows(
  dataset: tf.data.Dataset,
  sequence_length: Mapping[str, int] | None,
  output_features: Mapping[str, Any],
  *,
  problems: Problems,
  vocabulary: notes_lib.Vocabulary = _VOCABULARY,
  config: SpectrogramConfig = _CONFIG,
) -> tf.data.Dataset:
  """Takes the segments of songs, one after the other: examples to evaluate on.

  Segments start at multiples of their length; the context of each is what
  precedes it, and that of the first is empty. For the arguments see
  `random_windows`.
  """
  windows = _Windows(
    places=consecutive_places,
    lengths=Lengths.of_task(sequence_length, output_features),
    vocabulary=vocabulary,
    config=config,
    problems=problems,
  )
  no_seed = [tf.zeros((), tf.int64)] * 2
  parallel = {"num_parallel_calls": tf.data.AUTOTUNE}
  return (
    dataset.map(functools.partial(windows.choose, seed=no_seed), **parallel)
    .flat_map(windows.of_piece)
    .map(windows.widen, **parallel)
  )


def whole_songs(
  dataset: tf.data.Dataset,
  *,
  vocabulary: notes_lib.Vocabulary = _VOCABULARY,
  config: SpectrogramConfig = _CONFIG,
  max_tokens: int = 2048,
  segment_frames: int = 256,
) -> tf.data.Dataset:
  """Makes one example a song: all of its tokens, spectrogram and audio.

  Args:
    dataset: Songs.
    vocabulary: Ids of the note tokens.
    config: How to transform.
    max_tokens: Tokens of a segment; one that needs more loses its softest
      notes, with a warning, as when a song is rendered.
    segment_frames: Frames of a segment.

  Returns:
    `id`; `inputs` [segments, tokens] int32, padded with 0; `targets`
    [frames, mel_bins] float32, natural log-mel; `audio` [samples] float32.
  """

  def tokens(notes, song_frames):
    segments = notes_lib.tokenize_segments(
      notes_lib.Notes.from_columns(*notes.T),
      vocabulary=vocabulary,
      segment_frames=segment_frames,
      frame_rate=config.frame_rate,
      max_tokens=max_tokens,
      song_frames=int(song_frames),
      num_segments=max(1, -(-int(song_frames) // segment_frames)),
    )
    padded = np.zeros((len(segments), max_tokens), np.int32)
    for row, values in enumerate(segments):
      padded[row, : len(values)] = values
    return padded

  @_as_it_is
  def example(song: Song) -> Example:
    song_frames = -(-tf.size(song["audio"], tf.int64) // config.hop_length)
    columns = [tf.cast(song["notes"][name], tf.float64) for name in _COLUMNS]
    inputs = tf.numpy_function(
      tokens, [tf.stack(columns, axis=1), song_frames], tf.int32
    )
    log_mel = tf.numpy_function(
      lambda samples: audio_lib.log_mel(_to_float(samples), config),
      [song["audio"]],
      tf.float32,
    )
    return {
      "id": song["id"],
      "inputs": tf.ensure_shape(inputs, [None, max_tokens]),
      "targets": tf.ensure_shape(log_mel, [None, config.n_mels]),
      "audio": tf.cast(song["audio"], tf.float32) / _INT16_SCALE,
    }

  # One song at a time: they may be long.
  return dataset.map(example)


def _log_mel(
  samples: Int16[np.ndarray, " samples"],
  num_frames: np.int64,
  *,
  config: SpectrogramConfig,
) -> Float16[np.ndarray, "frames mel_bins"]:
  log_mel = audio_lib.log_mel(_to_float(samples), config)
  return log_mel[:num_frames].astype(np.float16)


def _to_float(
  samples: Int16[np.ndarray, " samples"],
) -> Float32[np.ndarray, " samples"]:
  return samples.astype(np.float32) / np.float32(_INT16_SCALE)


@dataclasses.dataclass(frozen=True)
class Lengths:
  """Longest note tokens of a window, its frames, and those of its context."""

  tokens: int
  target: int
  context: int

  @classmethod
  def of_task(
    cls,
    sequence_length: Mapping[str, int] | None,
    output_features: Mapping[str, Any],
  ) -> "Lengths":
    """From what seqio hands to a preprocessor."""
    lengths = {**SEQUENCE_LENGTH, **(sequence_length or {})}
    if _CONTEXT not in output_features:
      lengths[_CONTEXT] = 0
    for name in (_TARGETS, _CONTEXT):
      if lengths[name] > MARGIN_FRAMES:
        raise ValueError(
          f"Expected {name} of at most {MARGIN_FRAMES} frames, got"
          f" {lengths[name]}; pieces hold no more around their windows."
        )
    return cls(lengths[_INPUTS], lengths[_TARGETS], lengths[_CONTEXT])


Places = tuple[Int64[np.ndarray, " windows"], Int64[np.ndarray, " windows"]]
"""The frame of the song at which each window starts, and the length of its
context."""


def random_places(
  first: int,
  last: int,
  song_frames: int,
  seed: Int64[np.ndarray, " 2"],
  lengths: Lengths,
  *,
  short_context_probability: float,
) -> Places:
  """Where windows of a piece start, at random; see `random_windows`.

  Args:
    first: First frame at which one may start.
    last: The frame after the last one at which one may start.
    song_frames: Length of the song.
    seed: Any numbers; the same give the same places.
    lengths: Of windows.
    short_context_probability: Share of contexts that are cut.
  """
  rng = np.random.default_rng(seed.astype(np.uint64))
  # A song that is shorter than a window has one, too.
  start = first + rng.integers(min(lengths.target, song_frames))
  starts = rng.permutation(np.arange(start, last, lengths.target))
  context = np.minimum(starts, lengths.context)
  short = rng.random(len(starts)) < short_context_probability
  shorter = rng.integers(max(lengths.context, 1), size=len(starts))
  return starts, np.where(short, np.minimum(context, shorter), context)


def consecutive_places(
  first: int,
  last: int,
  song_frames: int,
  seed: Int64[np.ndarray, " 2"],
  lengths: Lengths,
) -> Places:
  """Where windows of a piece start that follow each other in the song."""
  del song_frames, seed
  segments = np.arange(-(-first // lengths.target), -(-last // lengths.target))
  starts = segments * lengths.target
  return starts, np.minimum(starts, lengths.context)


@dataclasses.dataclass(frozen=True)
class _Windows:
  """Chooses the windows of pieces and cuts them out.

  Attributes:
    places: Chooses where windows start.
    lengths: Of a window.
    vocabulary: Ids of the note tokens.
    config: Shape of the spectrogram.
    problems: Counts windows that are dropped.
  """

  places: Callable[..., Places]
  lengths: Lengths
  vocabulary: notes_lib.Vocabulary
  config: SpectrogramConfig
  problems: Problems

  @_as_it_is
  def choose(self, piece: Example, seed: Sequence[tf.Tensor]) -> Example:
    """Adds the columns `window`: starts, lengths and padded note tokens."""
    start, context, tokens, num_tokens = tf.numpy_function(
      self._choose,
      [
        piece["id"],
        tf.io.parse_tensor(piece["notes"], tf.float64),
        piece["first_frame"],
        piece["last_frame"],
        piece["song_frames"],
        tf.stack(seed),
      ],
      (tf.int64, tf.int64, tf.int32, tf.int64),
    )
    log_mel = tf.io.parse_tensor(piece["log_mel"], tf.float16)
    return {
      "id": piece["id"],
      "kept_from": piece["kept_from"],
      "log_mel": tf.ensure_shape(log_mel, [None, self.config.n_mels]),
      "window": {
        "start": tf.ensure_shape(start, [None]),
        "context": tf.ensure_shape(context, [None]),
        "tokens": tf.ensure_shape(tokens, [None, self.lengths.tokens]),
        "num_tokens": tf.ensure_shape(num_tokens, [None]),
      },
    }

  def _choose(self, id, notes, first, last, song_frames, seed):
    """The columns of `window`, without windows of too many tokens."""
    notes = notes_lib.Notes.from_columns(*notes.T)
    starts, contexts = self.places(
      int(first), int(last), int(song_frames), seed, self.lengths
    )
    tokens, kept = [], np.ones(len(starts), np.bool_)
    for row, start in enumerate(starts.tolist()):
      try:
        tokens += notes_lib.tokenize_segments(
          notes,
          vocabulary=self.vocabulary,
          segment_frames=self.lengths.target,
          frame_rate=self.config.frame_rate,
          max_tokens=self.lengths.tokens,
          first_frame=start,
          num_segments=1,
          song_frames=int(song_frames),
          on_overflow="raise",
        )
      except notes_lib.SegmentOverflowError:
        kept[row] = False
        self._count_overlong(f"{id.decode()} from frame {start}")
    padded = np.zeros((len(tokens), self.lengths.tokens), np.int32)
    for row, values in enumerate(tokens):
      padded[row, : len(values)] = values
    num_tokens = np.array([len(values) for values in tokens], np.int64)
    return starts[kept], contexts[kept], padded, num_tokens

  def _count_overlong(self, window: str) -> None:
    rule = Rule(
      "overlong_segment",
      "segments dropped",
      f"over {self.lengths.tokens} tokens",
    )
    with _LOCK:
      self.problems.add(rule, window)

  @_as_it_is
  def of_piece(self, piece: Example) -> tf.data.Dataset:
    """The windows of a piece, still as float16."""
    log_mel, kept_from = piece["log_mel"], piece["kept_from"]

    @_as_it_is
    def cut(window: Example) -> Example:
      start = window["start"] - kept_from
      example = {
        "id": piece["id"],
        "first_frame": window["start"],
        _INPUTS: window["tokens"][: window["num_tokens"]],
        _TARGETS: log_mel[start : start + self.lengths.target],
      }
      if self.lengths.context:
        example[_CONTEXT] = log_mel[start - window["context"] : start]
      return example

    return tf.data.Dataset.from_tensor_slices(piece["window"]).map(cut)

  @_as_it_is
  def widen(self, example: Example) -> Example:
    """Spectrograms as float32."""
    spectrograms = {_TARGETS, _CONTEXT} & set(example)
    return example | {n: tf.cast(example[n], tf.float32) for n in spectrograms}
