"""Notes as columns: what a piece of music is, between file and tokens."""

from collections.abc import Sequence
import dataclasses

from jaxtyping import Bool, Float64, Int32
import numpy as np

MAX_DURATION_S = 24 * 60 * 60.0


@dataclasses.dataclass(frozen=True)
class Notes:
  """Notes of a piece, one row each, in equally long columns.

  Values out of range are a ValueError, so whoever gets notes can rely on them.

  Attributes:
    onset: Start of each note, in seconds from the start of the piece.
    offset: End of each note, in seconds, not before its onset, and at most
      24 hours.
    pitch: MIDI pitch (or General MIDI drum), 0 to 127.
    velocity: MIDI velocity, 1 to 127.
    program: MIDI program counted from 0; 0 for drums.
    is_drum: Whether the note is played by the drum kit.
  """

  onset: Float64[np.ndarray, " notes"]
  offset: Float64[np.ndarray, " notes"]
  pitch: Int32[np.ndarray, " notes"]
  velocity: Int32[np.ndarray, " notes"]
  program: Int32[np.ndarray, " notes"]
  is_drum: Bool[np.ndarray, " notes"]

  def __post_init__(self):
    _check(self.onset, "onset", 0, MAX_DURATION_S, "s")
    _check(self.offset, "offset", self.onset, MAX_DURATION_S, "s")
    _check(self.pitch, "pitch", 0, 127)
    _check(self.velocity, "velocity", 1, 127)
    _check(self.program, "program", 0, 127)

  @classmethod
  def from_columns(
    cls, onset, offset, pitch, velocity, program=0, is_drum=False
  ) -> "Notes":
    """Builds notes from array-likes; scalars stand for whole columns."""
    columns = np.broadcast_arrays(
      np.atleast_1d(onset), offset, pitch, velocity, program, is_drum
    )
    dtypes = "float64", "float64", "int32", "int32", "int32", "bool"
    return cls(
      *(
        np.array(column, dtype)
        for column, dtype in zip(columns, dtypes, strict=True)
      )
    )

  @classmethod
  def concatenate(cls, parts: Sequence["Notes"]) -> "Notes":
    """Joins the rows of several pieces, in the order given."""
    fields = [field.name for field in dataclasses.fields(cls)]
    return cls(
      **{
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in fields
      }
    )

  def __len__(self) -> int:
    return len(self.onset)

  def __getitem__(self, index: np.ndarray | slice) -> "Notes":
    """The rows that a mask, an array of row numbers or a slice picks."""
    fields = [field.name for field in dataclasses.fields(self)]
    return Notes(**{name: getattr(self, name)[index] for name in fields})

  @property
  def duration_s(self) -> float:
    """End of the last note, in seconds; 0 without notes."""
    return float(self.offset.max()) if len(self) else 0.0


def _check(
  values: np.ndarray,
  name: str,
  lowest: float | int | np.ndarray,
  highest: float | int,
  unit: str = "",
):
  """Raises ValueError with the first of `values` that is out of range."""
  wrong = np.flatnonzero(~((values >= lowest) & (values <= highest)))
  if len(wrong):
    row = wrong[0]
    lowest = np.broadcast_to(lowest, values.shape)[row]
    raise ValueError(
      f"Expected a note's {name} from {lowest:g} to {highest:g} {unit}".rstrip()
      + f", got {values[row]:g} in note {row}."
    )
