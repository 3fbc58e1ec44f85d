"""Songs that share batches: a segment of each at a time, each in its own row.

What a song becomes does not depend on the songs beside it: its noise comes of a
key of its own, and the networks mix no rows.
"""

import collections
from collections.abc import Callable
import dataclasses

import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float32, Int32, Key, PRNGKeyArray
import numpy as np

from music_spectrogram_diffusion import audio, notes

Predict = Callable[
  [
    Int32[Array, "batch tokens"],
    Float32[Array, "batch frames mel_bins"],
    Bool[Array, "batch frames"],
    Key[Array, " batch"],
  ],
  Float32[np.ndarray, "batch frames mel_bins"],
]


@dataclasses.dataclass(eq=False)
class Song:
  """A song that is ready to be rendered.

  Attributes:
    tokens: Of each segment, padded.
    num_samples: Length of its audio.
    seed: Seeds its noise.
    overlap: Frames that each segment shares with the next one.
    is_wanted: Set it to False, and no more of it is rendered.
    played: Its notes, on the instruments that the models know, for an inverter
      that follows them.
  """

  tokens: Int32[np.ndarray, "segments tokens"]
  num_samples: int
  seed: int
  overlap: int = 0
  is_wanted: bool = True
  played: notes.Notes | None = None


@dataclasses.dataclass(eq=False)
class Row:
  """An iterator over the spectrogram of a song that shares batches.

  Attributes:
    song: The song.
    key: Key of its noise.
    heard: What the next segment follows on, at most as long as it.
    advance: Generates the next segment of this song, and of others.
    index: Number of segments generated.
    ending: What the next segment is crossfaded with.
    waiting: What is ready and was not taken yet, a part for each segment.
  """

  song: Song
  key: PRNGKeyArray
  heard: Float32[np.ndarray, "heard mel_bins"]
  advance: Callable[[], None]
  index: int = 0
  ending: Float32[np.ndarray, "overlap mel_bins"] | None = None
  waiting: collections.deque = dataclasses.field(
    default_factory=collections.deque
  )

  @property
  def is_complete(self) -> bool:
    """Whether all segments were generated."""
    return self.index == len(self.song.tokens)

  def take(self, log_mel: Float32[np.ndarray, "frames mel_bins"]) -> None:
    """Keeps a segment that was generated, and crossfades it with the last."""
    if self.ending is not None:
      log_mel = crossfade(self.ending, log_mel)
    self.index += 1
    hop = len(log_mel) - self.song.overlap
    if self.song.overlap and not self.is_complete:
      self.ending, ready = log_mel[hop:], log_mel[:hop]
    else:
      ready = log_mel
    self.heard = np.concatenate([self.heard, ready])[-len(log_mel) :]
    self.waiting.append(ready)

  def __iter__(self) -> "Row":
    return self

  def __next__(self) -> Float32[np.ndarray, "frames mel_bins"]:
    if not self.waiting:
      if self.is_complete:
        raise StopIteration
      self.advance()
    return self.waiting.popleft()


def crossfade(
  ending: Float32[np.ndarray, "overlap mel_bins"],
  log_mel: Float32[np.ndarray, "frames mel_bins"],
) -> Float32[np.ndarray, "frames mel_bins"]:
  """A segment that begins as what it overlaps, and goes over into itself."""
  overlap = len(ending)
  own = np.arange(1, overlap + 1, dtype=np.float32)[:, None] / (overlap + 1)
  begin = (1 - own) * ending + own * log_mel[:overlap]
  return np.concatenate([begin, log_mel[overlap:]])


class SharedBatches:
  """Generates spectrograms of songs that were opened, a segment of each.

  A batch is computed when a song is asked for a segment that is not there yet.
  A song that has all its segments frees its row for the next song.
  """

  def __init__(
    self,
    predict: Predict,
    config: audio.SpectrogramConfig,
    *,
    segment_frames: int,
    batch_size: int,
  ):
    """Prepares batches.

    Args:
      predict: Generates the next segment of each row.
      config: Features that are generated.
      segment_frames: Frames of a segment.
      batch_size: Most rows of a batch.
    """
    self._predict = predict
    self._config = config
    self._segment_frames = segment_frames
    self._batch_size = batch_size
    self._rows: list[Row] = []

  @property
  def has_room(self) -> bool:
    """Whether a row is free for another song."""
    return len(self._rows) < self._batch_size

  def open(self, song: Song) -> "Row":
    """Takes a song into the batches; gives its segments as they are made."""
    nothing = np.zeros((0, self._config.n_mels), np.float32)
    row = Row(song, jax.random.key(song.seed), nothing, self._advance)
    self._rows.append(row)
    return row

  def close(self, row: Row) -> None:
    """Frees the row of a song that is not wanted any more."""
    self._rows = [other for other in self._rows if other is not row]

  def _advance(self) -> None:
    """Generates the next segment of every song."""
    rows = self._rows
    # Sizes are powers of two, or the largest, so that few are compiled.
    size = min(1 << (len(rows) - 1).bit_length(), self._batch_size)
    filled = rows + [rows[-1]] * (size - len(rows))
    length = max(row.song.tokens.shape[1] for row in rows)
    tokens = np.full((size, length), notes.PAD, np.int32)
    for padded, row in zip(tokens, filled, strict=True):
      own = row.song.tokens[row.index]
      padded[: len(own)] = own
    shape = (size, self._segment_frames, self._config.n_mels)
    context = np.full(shape, self._config.mel_range[0], np.float32)
    mask = np.zeros(shape[:2], bool)
    for place, row in enumerate(filled):
      context[place, : len(row.heard)] = row.heard
      mask[place, : len(row.heard)] = True
    log_mels = self._predict(
      jnp.asarray(tokens),
      jnp.asarray(context),
      jnp.asarray(mask),
      jnp.stack([jax.random.fold_in(row.key, row.index) for row in filled]),
    )
    made = log_mels[: len(rows)]
    for row, log_mel in zip(rows, made, strict=True):
      row.take(log_mel)
    self._rows = [row for row in rows if not row.is_complete]
