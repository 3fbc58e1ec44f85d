"""Tokens to notes: the way back from `tokenize_segments`."""

from collections.abc import Iterable
import math

from jaxtyping import Integer
import numpy as np

from music_spectrogram_diffusion.notes import cleaning
from music_spectrogram_diffusion.notes import vocabulary as vocabularies
from music_spectrogram_diffusion.notes.notes import Notes

_UNKNOWN_VELOCITY = 100


def detokenize_segments(
  segments: Iterable[Integer[np.ndarray, " _"]],
  *,
  vocabulary: vocabularies.Vocabulary,
  segment_frames: int = 256,
  frame_rate: float = 50.0,
) -> Notes:
  """Reads the notes that the token sequences of consecutive segments tell of.

  Made for sequences as models may write them: what has no meaning is passed
  over, and nothing is an error. A note that a tie section does not list ends
  there; one that it lists though it does not sound starts there, with the
  velocity that it says or 100, and without its age; what sounds at the end of
  the last segment ends there. A note that is struck again is cut. Drums last
  10 ms, and so do notes of no length.

  Args:
    segments: Tokens of each segment, with or without EOS and padding.
    vocabulary: The ids.
    segment_frames: Frames of a segment.
    frame_rate: Frames per second.

  Returns:
    The notes, in order of onset, times in steps of 10 ms. A velocity is the
    largest of its bin.
  """
  rows = []
  sounding = {}  # (program, pitch) -> (onset step, velocity)

  def end(voice: tuple[int, int], step: int):
    program, pitch = voice
    onset, velocity = sounding.pop(voice)
    rows.append((onset, max(step, onset + 1), pitch, velocity, program, False))

  def first_step(segment: int) -> int:
    frame = segment * segment_frames
    return math.ceil(frame * vocabularies.STEPS_PER_SECOND / frame_rate)

  index = -1
  for index, tokens in enumerate(segments):
    start = now = first_step(index)
    shift = program = 0
    velocity = _UNKNOWN_VELOCITY
    tied = {}  # (program, pitch) -> velocity
    in_tie_section = vocabulary.tie in tokens
    for token in tokens.tolist():
      if token == vocabularies.EOS:
        break
      if token in vocabulary.shift:
        shift += vocabulary.shift.index(token)
        now = start + shift
        continue
      shift = 0
      if token in vocabulary.program:
        program = vocabulary.program.index(token)
      elif token in vocabulary.velocity:
        velocity_bin = vocabulary.velocity.index(token)
        velocity = vocabulary.bin_to_velocity(velocity_bin)
      elif token in vocabulary.drum and velocity:
        pitch = vocabulary.drum.index(token)
        rows.append((now, now + 1, pitch, velocity, 0, True))
      elif token == vocabulary.tie and in_tie_section:
        in_tie_section = False
        now = start
        for voice in sounding.keys() - tied.keys():
          end(voice, start)
        for voice in tied.keys() - sounding.keys():
          sounding[voice] = start, tied[voice]
      elif token in vocabulary.pitch:
        voice = program, vocabulary.pitch.index(token)
        if in_tie_section:
          tied[voice] = velocity or _UNKNOWN_VELOCITY
          continue
        if voice in sounding:
          end(voice, now)
        if velocity:
          sounding[voice] = now, velocity
  for voice in list(sounding):
    end(voice, first_step(index + 1))
  rows.sort(key=lambda row: row[:2])
  onset, offset, *rest = np.array(rows, np.int64).reshape(-1, 6).T
  return cleaning.trim_overlaps(
    Notes.from_columns(
      onset / vocabularies.STEPS_PER_SECOND,
      offset / vocabularies.STEPS_PER_SECOND,
      *rest,
    )
  )
