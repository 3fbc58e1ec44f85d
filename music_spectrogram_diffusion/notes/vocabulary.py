"""The vocabulary of note tokens: which id stands for which event."""

import dataclasses
import functools

from jaxtyping import Int
import numpy as np

PAD = 0
EOS = 1
UNK = 2
STEPS_PER_SECOND = 100
MAX_SHIFT = 1000  # Steps that one shift token can hold.

_NUM_SPECIAL = 3
_NUM_EXTRA = 100  # Unused ids that the published models carry.
_ROW_MULTIPLE = 128
_NUM_MIDI = 128
_MAX_VELOCITY = 127


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """Ids of the note tokens; each kind of event is a `range` of ids.

  `vocabulary.pitch[60]` is the token of pitch 60, and
  `vocabulary.pitch.index(token)` is the way back. The events are those of MT3
  (Gardner et al. 2022, https://arxiv.org/abs/2111.03017).

  Attributes:
    velocity_bins: Loudness levels that are told apart, 1 (as published, only
      on and off) to 127.
    describe_ties: Whether the tie section also says of each note how long it
      has sounded and how loud it was struck; as published, it does not.
  """

  velocity_bins: int = 1
  describe_ties: bool = False

  def __post_init__(self):
    if not 1 <= self.velocity_bins <= _MAX_VELOCITY:
      raise ValueError(
        f"Expected 1 to {_MAX_VELOCITY} velocity bins, got"
        f" {self.velocity_bins}."
      )

  @functools.cached_property
  def shift(self) -> range:
    """Time since the segment's start, 0 to 1000 steps of 10 ms.

    In a tie section, the time that a note has sounded until there.
    """
    return range(_NUM_SPECIAL, _NUM_SPECIAL + MAX_SHIFT + 1)

  @functools.cached_property
  def pitch(self) -> range:
    """Pitch that is turned on or off, 0 to 127."""
    return range(self.shift.stop, self.shift.stop + _NUM_MIDI)

  @functools.cached_property
  def velocity(self) -> range:
    """Velocity bin, 0 (off) to `velocity_bins`."""
    return range(self.pitch.stop, self.pitch.stop + self.velocity_bins + 1)

  @functools.cached_property
  def tie(self) -> int:
    """The token that closes the list of notes held from before."""
    return self.velocity.stop

  @functools.cached_property
  def program(self) -> range:
    """MIDI program, 0 to 127."""
    return range(self.tie + 1, self.tie + 1 + _NUM_MIDI)

  @functools.cached_property
  def drum(self) -> range:
    """General MIDI drum that is struck, 0 to 127."""
    return range(self.program.stop, self.program.stop + _NUM_MIDI)

  @property
  def num_classes(self) -> int:
    """Number of event classes."""
    return self.drum.stop - _NUM_SPECIAL

  @property
  def num_ids(self) -> int:
    """Number of ids, with the special and the unused ones."""
    return self.drum.stop + _NUM_EXTRA

  @property
  def table_rows(self) -> int:
    """Rows of an embedding table: `num_ids` up to a multiple of 128."""
    return -(-self.num_ids // _ROW_MULTIPLE) * _ROW_MULTIPLE

  def velocity_to_bin(
    self, velocity: Int[np.ndarray, " notes"]
  ) -> Int[np.ndarray, " notes"]:
    """The bin of each MIDI velocity; 0 only for velocity 0."""
    return -(-self.velocity_bins * velocity // _MAX_VELOCITY)

  def bin_to_velocity(self, velocity_bin: int) -> int:
    """The largest MIDI velocity of a bin."""
    return _MAX_VELOCITY * velocity_bin // self.velocity_bins
