"""Note tokens as a list of notes, one position each, and their timing.

The published encoder reads 3 to 4 tokens per event and has to learn which of
them make a note, and when it sounds. Parsing the same tokens into notes first
gives the aligned models one position per note and the exact distance in time
between every note and every frame.
"""

from flax import struct
from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from music_spectrogram_diffusion import notes

NEVER = 1 << 20
"""Offset, in steps, of a note that does not end within the segment."""

WAITING, SOUNDING, RELEASED = 4, 9, 8
TIED = WAITING + SOUNDING + RELEASED
NULL = TIED + 1
CONTEXT = NULL + 1
NUM_BUCKETS = CONTEXT + 1
"""Buckets of relative time: by powers of two until the onset, since the onset
and since the offset; a note held from before, nobody knows how long; no note; a
context frame."""


@struct.dataclass
class NoteList:
  """Notes of a batch of segments, in the order of their tokens.

  Attributes:
    pitch: MIDI pitch, or drum.
    is_drum: Whether `pitch` is a drum.
    program: MIDI program; 0 for drums.
    velocity: Velocity bin over the number of bins, in (0, 1]; 0 if unknown.
    onset: Start, in shift steps of 10 ms from the segment's start: below 0
      where a note is held from before, -1000 at the least, or 0 if unknown.
    offset: End, likewise; `NEVER` where the segment ends first, and of drums.
    tied: Whether the note began before the segment.
    mask: Which positions hold a note.
  """

  pitch: Int[Array, "batch notes"]
  is_drum: Bool[Array, "batch notes"]
  program: Int[Array, "batch notes"]
  velocity: Float[Array, "batch notes"]
  onset: Int[Array, "batch notes"]
  offset: Int[Array, "batch notes"]
  tied: Bool[Array, "batch notes"]
  mask: Bool[Array, "batch notes"]


def parse_note_list(
  note_tokens: Int[Array, "batch tokens"],
  *,
  vocabulary: notes.Vocabulary,
  max_notes: int,
) -> NoteList:
  """Parses note tokens into notes, on the device.

  Args:
    note_tokens: Tokens of a segment each, padded with 0.
    vocabulary: What the tokens mean.
    max_notes: Number of positions, or that of the tokens if that is smaller;
      further notes of a segment are left out.

  Returns:
    The notes that the segments hold.
  """
  tokens = note_tokens.astype(jnp.int32)
  index = jnp.arange(tokens.shape[1], dtype=jnp.int32)

  def of_kind(ids):
    inside = (tokens >= ids.start) & (tokens < ids.stop)
    return inside, tokens - ids.start

  def latest(is_kind, values, otherwise):
    """The value of the latest token of a kind, at every position."""
    where = lax.cummax(jnp.where(is_kind, index, -1), axis=1)
    held = jnp.take_along_axis(values, jnp.maximum(where, 0), axis=1)
    return jnp.where(where >= 0, held, otherwise)

  is_shift, shift = of_kind(vocabulary.shift)
  is_pitch, pitch = of_kind(vocabulary.pitch)
  is_drum, drum = of_kind(vocabulary.drum)
  velocity = latest(*of_kind(vocabulary.velocity), 0)
  program = latest(*of_kind(vocabulary.program), 0)

  # A long time is split over a run of shift tokens, which add up. The tie
  # section's times are its own.
  is_tie = tokens == vocabulary.tie
  is_tie &= jnp.cumsum(is_tie, axis=1) == 1
  total = jnp.cumsum(jnp.where(is_shift, shift, 0), axis=1)
  run_starts = is_shift & ~jnp.pad(is_shift, ((0, 0), (1, 0)))[:, :-1]
  before = jnp.where(is_shift, total - shift, total)
  time = total - latest(run_starts | is_tie, before, 0)

  after_tie = jnp.cumsum(is_tie, axis=1) > 0
  tied = is_pitch & ~after_tie
  pitched_event = is_pitch & after_tie
  is_note = tied | (pitched_event & (velocity > 0)) | (is_drum & (velocity > 0))

  # A note ends at the next event of its program and pitch: sorting by both,
  # stably, makes that event its neighbour.
  unique = 128 * 128 + index
  key = jnp.where(is_pitch, program * 128 + pitch, unique)
  order = jnp.argsort(key, axis=1, stable=True)
  sorted_key = jnp.take_along_axis(key, order, axis=1)
  sorted_time = jnp.take_along_axis(time, order, axis=1)
  ends = jnp.where(
    sorted_key[:, :-1] == sorted_key[:, 1:], sorted_time[:, 1:], NEVER
  )
  ends = jnp.pad(ends, ((0, 0), (0, 1)), constant_values=NEVER)
  offset = jnp.take_along_axis(ends, jnp.argsort(order, axis=1), axis=1)

  chosen = jnp.argsort(~is_note, axis=1, stable=True)[:, :max_notes]

  def choose(values):
    return jnp.take_along_axis(values, chosen, axis=1)

  bins = np.float32(vocabulary.velocity_bins)
  return NoteList(
    pitch=choose(jnp.where(is_drum, drum, pitch)) % 128,
    is_drum=choose(is_drum),
    program=choose(jnp.where(is_drum, 0, program)),
    velocity=choose(velocity).astype(jnp.float32) / bins,
    onset=choose(jnp.where(tied, -time, time)),
    offset=choose(offset),
    tied=choose(tied),
    mask=choose(is_note),
  )


def _floor_log2(steps: Int[Array, "..."], num_buckets: int):
  """floor(log2(steps)) up to the last bucket; 0 below 2 steps."""
  exponent = 31 - lax.clz(jnp.maximum(steps, 1).astype(jnp.int32))
  return jnp.minimum(exponent, num_buckets - 1)


def relative_time_buckets(
  note_list: NoteList, frame_times: Int[Array, " frames"]
) -> Int[Array, "batch frames notes"]:
  """Sorts every pair of a frame and a note by how they lie in time.

  Args:
    note_list: The notes.
    frame_times: Centre of each frame, in the same steps as the notes.

  Returns:
    Bucket, below `NULL`.
  """
  frame = frame_times[None, :, None]
  onset, offset = note_list.onset[:, None], note_list.offset[:, None]
  waiting = _floor_log2(onset - frame, WAITING)
  since_onset = WAITING + _floor_log2(frame - onset, SOUNDING)
  unknown = (note_list.tied & (note_list.onset == 0))[:, None]
  sounding = jnp.where(unknown, TIED, since_onset)
  since_offset = _floor_log2(frame - offset, RELEASED)
  released = WAITING + SOUNDING + since_offset
  bucket = jnp.where(frame < offset, sounding, released)
  return jnp.where(frame < onset, waiting, bucket)
