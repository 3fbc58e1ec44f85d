"""Whether notes can be heard: a transcription against the notes asked for.

Matching is mir_eval's (Raffel et al. 2014): at most one estimated note for each
reference note, as many pairs as possible. Only `scores` looks at programs and
drums; for the others, leave out the rows that the transcriber cannot know.
"""

from collections.abc import Callable

from jaxtyping import Bool, Int32
from mir_eval import transcription
import numpy as np

from music_spectrogram_diffusion.notes import Notes

# Least tolerance of offsets, whatever the length of the note.
_OFFSET_TOLERANCE_S = 0.05

# Share of a note's length by which its offset may be wrong.
_OFFSET_RATIO = 0.2

# Two pitched notes are of one instrument when these agree for them.
_GRANULARITIES: dict[str, Callable[[Int32[np.ndarray, " _"]], np.ndarray]] = {
  "flat": np.zeros_like,
  "midi_class": lambda program: program // 8,
  "full": lambda program: program,
}


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


def scores(reference: Notes, estimate: Notes) -> dict[str, float]:
  """F1 of a transcription of several instruments, by the rules of MT3.

  Gardner et al. 2022, https://arxiv.org/abs/2111.03017, and their released
  code. Notes match when they have the same pitch, onsets within 50 ms, offsets
  within 50 ms or 20 % of the reference's length, whichever is more, and the
  same instrument. Drums match by pitch and onset alone, and only drums. All
  matches, of whatever instrument, are counted together. Notes of no length are
  left out on both sides, as they are there.

  Programs are compared as they are: bring both sides to the same ones, say by
  `notes.to_slakh_classes`, where the transcriber knows no others. A program
  that only one side has matches nothing.

  Args:
    reference: Notes asked for.
    estimate: Notes heard.

  Returns:
    Four numbers from 0 to 1: "flat", where pitched notes are all of one
    instrument; "midi_class", by groups of eight programs; "full", by program,
    which is what Hawthorne et al. 2022 report; and "onset", of pitched notes
    alone, by pitch and onset alone, for transcribers that know neither
    instruments nor drums. Each is 1 when there is nothing to hear and nothing
    is heard, where MT3 says 0.
  """
  reference = reference[reference.offset > reference.onset]
  estimate = estimate[estimate.offset > estimate.onset]
  result = {
    name: _f1(
      reference,
      estimate,
      _voices(reference, instrument),
      _voices(estimate, instrument),
      _OFFSET_RATIO,
    )
    for name, instrument in _GRANULARITIES.items()
  }
  reference = reference[~reference.is_drum]
  estimate = estimate[~estimate.is_drum]
  result["onset"] = _f1(
    reference, estimate, reference.pitch, estimate.pitch, None
  )
  return result


def _voices(notes, instrument):
  """Numbers [notes] that are equal for notes of one instrument and pitch.

  Those of drums are negative.
  """
  voice = 128 * instrument(notes.program) + notes.pitch
  return np.where(notes.is_drum, notes.pitch - 128, voice)


def _f1(reference, estimate, reference_voice, estimate_voice, offset_ratio):
  """F1 where only notes of one voice match; of negative ones by onset.

  Voice by voice, since mir_eval's memory grows with the product of the numbers
  of notes; what is matched is the same.
  """
  if not len(reference) + len(estimate):
    return 1.0
  matched = 0
  for voice in np.intersect1d(reference_voice, estimate_voice):
    mask = matched_notes(
      reference[reference_voice == voice],
      estimate[estimate_voice == voice],
      offset_ratio=None if voice < 0 else offset_ratio,
    )
    matched += int(mask.sum())
  return 2.0 * matched / (len(reference) + len(estimate))


def _intervals_and_frequencies(notes):
  """[notes, 2] seconds and [notes] Hz, as mir_eval takes them."""
  intervals = np.stack([notes.onset, notes.offset], axis=-1)
  return intervals, 440.0 * 2.0 ** ((notes.pitch - 69) / 12)
