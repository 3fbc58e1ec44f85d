"""Whether notes can be heard: a transcription against the notes asked for.

Matching is mir_eval's (Raffel et al. 2014): at most one estimated note for each
reference note, as many pairs as possible. Programs and drums play no part
here; leave out the rows that the transcriber cannot know.
"""

from jaxtyping import Bool
from mir_eval import transcription
import numpy as np

from music_spectrogram_diffusion.notes import Notes

# Least tolerance of offsets, whatever the length of the note.
_OFFSET_TOLERANCE_S = 0.05


def matched_notes(
  reference: Notes,
  estimate: Notes,
  *,
  onset_tolerance_s: float = 0.05,
  offset_ratio: float | None = None,
) -> Bool[np.ndarray, " reference_notes"]:
  """Finds the reference notes that the estimate contains.

  Args:
    reference: Notes asked for, none of them of zero length.
    estimate: Notes heard.
    onset_tolerance_s: How far apart two onsets of one pitch may be.
    offset_ratio: When given, offsets must agree too, to within this share of
      the reference note's length and never less than 50 ms; MT3 and MIREX take
      0.2.

  Returns:
    A mask over the rows of `reference`.
  """
  mask = np.zeros(len(reference), np.bool_)
  if len(reference) and len(estimate):
    pairs = transcription.match_notes(
      *_intervals_and_frequencies(reference),
      *_intervals_and_frequencies(estimate),
      onset_tolerance=onset_tolerance_s,
      offset_ratio=offset_ratio,
      offset_min_tolerance=_OFFSET_TOLERANCE_S,
    )
    mask[[row for row, _ in pairs]] = True
  return mask


def note_f1(
  reference: Notes,
  estimate: Notes,
  *,
  onset_tolerance_s: float = 0.05,
  offset_ratio: float | None = None,
) -> float:
  """Harmonic mean of precision and recall of `matched_notes`.

  Returns:
    From 0 to 1; 1 when there is nothing to hear and nothing is heard.
  """
  if not len(reference) + len(estimate):
    return 1.0
  matched = matched_notes(
    reference,
    estimate,
    onset_tolerance_s=onset_tolerance_s,
    offset_ratio=offset_ratio,
  )
  return 2.0 * int(matched.sum()) / (len(reference) + len(estimate))


def _intervals_and_frequencies(notes):
  """[notes, 2] seconds and [notes] Hz, as mir_eval takes them."""
  intervals = np.stack([notes.onset, notes.offset], axis=-1)
  return intervals, 440.0 * 2.0 ** ((notes.pitch - 69) / 12)
