"""When a recording and its notes are believed to belong together."""

import dataclasses

from jaxtyping import Float32
import numpy as np

from music_spectrogram_diffusion.data import alignment
from music_spectrogram_diffusion.data.builders import loading
from music_spectrogram_diffusion.data.builders import problems as rules
from music_spectrogram_diffusion.data.builders.problems import Rule
from music_spectrogram_diffusion.notes import Notes

UNRELATED = Rule(
  "unrelated", "songs dropped", "the audio does not play the notes"
)
SHIFTED = Rule(
  "shifted", "songs dropped", "the audio comes before or after its notes"
)
DRIFTING = Rule(
  "drifting", "songs dropped", "audio and notes run at different speeds"
)
LONGER_AUDIO = Rule(
  "longer_audio", "songs dropped", "the audio goes on after the last note"
)
RULES = (UNRELATED, SHIFTED, DRIFTING, LONGER_AUDIO)

_QUIET = 0.03  # Of the peak, -30 dB: what follows a piece's end is softer.


@dataclasses.dataclass(frozen=True)
class FitRules:
  """When a recording and its notes are believed to belong together.

  Attributes:
    min_score: Least `score` of an `alignment.Alignment`.
    max_lag_s: Most seconds by which the audio may come early or late.
    max_drift_s: Most seconds by which its halves may differ in that.
    max_extra_s: Most seconds for which loud audio may follow the last note.
    keep: Whether pairs that do not fit are kept, and only counted.
  """

  min_score: float = 0.04
  max_lag_s: float = 0.1
  max_drift_s: float = 0.1
  max_extra_s: float = 10.0
  keep: bool = False

  def broken_by(
    self,
    found: alignment.Alignment,
    samples: Float32[np.ndarray, " samples"],
    notes: Notes,
  ) -> tuple[Rule, str] | None:
    """The first rule that a pair breaks, and what was found; None if it fits.

    Args:
      found: How the two lie to each other.
      samples: The audio, at `loading.SAMPLE_RATE`.
      notes: At least one.
    """
    loud = np.abs(samples) > _QUIET * np.abs(samples).max()
    end_s = (np.flatnonzero(loud)[-1] + 1) / loading.SAMPLE_RATE
    late = np.count_nonzero(notes.onset >= len(samples) / loading.SAMPLE_RATE)
    if late > loading.MAX_NOTES_AFTER_END * len(notes):
      return (
        rules.LENGTHS_DIFFER,
        f"{late} of {len(notes)} notes begin after its end",
      )
    if found.score < self.min_score:
      return UNRELATED, f"score {found.score:.3f}, expected {self.min_score}"
    if abs(found.drift_s) > self.max_drift_s:
      return DRIFTING, f"by {found.drift_s:+.2f} s from half to half"
    if abs(found.lag_s) > self.max_lag_s:
      return SHIFTED, f"by {found.lag_s:+.2f} s (score {found.score:.3f})"
    if end_s - notes.duration_s > self.max_extra_s:
      return (
        LONGER_AUDIO,
        f"{end_s:.1f} s of audio, {notes.duration_s:.1f} s of notes",
      )
    return None
