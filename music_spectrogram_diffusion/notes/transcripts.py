"""Tokens that a transcriber wrote to notes, by the rules of MT3.

Those of `decoding` make the most of every token. Here a token that contradicts
what came before it is passed over, as the released decoder of MT3 does, so that
its scores can be compared with published ones.
"""

from collections.abc import Iterable

from jaxtyping import Integer
import numpy as np

from music_spectrogram_diffusion.notes import vocabulary as vocabularies
from music_spectrogram_diffusion.notes.notes import Notes

_FIRST_VELOCITY = 100  # Until a token says another.


def read_transcript(
  segments: Iterable[Integer[np.ndarray, " _"]],
  *,
  vocabulary: vocabularies.Vocabulary,
  segment_frames: int,
  frame_rate: float,
) -> Notes:
  """Reads the notes that were heard in consecutive segments of a song.

  Gardner et al. 2022, https://arxiv.org/abs/2111.03017, section 3.2, and the
  released code. A segment begins with the notes that go on from before, up to a
  tie token; what is not among them ends there. Passed over are: a tied note
  that does not sound, the end of one that does not sound, what comes earlier
  than something before it, a second tie token, and the rest of a segment from
  the first shift beyond the start of the next one. A note that is struck again
  is cut; what sounds at the end lasts up to the last event. Drums last 10 ms,
  and so do notes of no length.

  Args:
    segments: Tokens of each segment, with or without EOS and padding.
    vocabulary: The ids.
    segment_frames: Frames of a segment.
    frame_rate: Frames per second. A segment's times are counted from the last
      step of 10 ms that is not after its first frame.

  Returns:
    The notes, in order of onset, times in steps of 10 ms.
  """
  reader = _Reader(vocabulary)
  tokens = None
  for index, following in enumerate(segments):
    frame = index * segment_frames
    start = int(frame * vocabularies.STEPS_PER_SECOND // frame_rate)
    if tokens is not None:
      reader.read(tokens, previous, start)
    tokens, previous = following, start
  if tokens is not None:
    reader.read(tokens, previous, None)
  return reader.finish()


class _Reader:
  """What is known after some segments; times are in steps of 10 ms."""

  def __init__(self, vocabulary: vocabularies.Vocabulary):
    self._vocabulary = vocabulary
    self._rows = []
    self._sounding = {}  # (program, pitch) -> (onset, velocity)
    self._now = 0
    self._program = 0
    self._velocity = _FIRST_VELOCITY

  def read(
    self, tokens: Integer[np.ndarray, " _"], start: int, limit: int | None
  ) -> None:
    """Reads a segment, up to `limit`, where the next one starts."""
    vocabulary = self._vocabulary
    time, shift = start, 0
    self._tied = set()
    self._in_tie_section = True
    for token in tokens.tolist():
      if token == vocabularies.EOS:
        break
      if token in vocabulary.shift:
        if self._in_tie_section and vocabulary.describe_ties:
          continue  # An age.
        shift += vocabulary.shift.index(token)
        time = start + shift
        if limit is not None and time > limit:
          break
      elif vocabulary.shift.stop <= token < vocabulary.drum.stop:
        shift = 0
        if time >= self._now:
          self._now = time
          self._read_event(token)

  def finish(self) -> Notes:
    """Ends what sounds, and returns all notes."""
    onsets = [onset for onset, _ in self._sounding.values()]
    self._now = max([self._now, *(onset + 1 for onset in onsets)])
    for voice in list(self._sounding):
      self._end(voice)
    self._rows.sort(key=lambda row: row[0])
    onset, offset, *rest = np.array(self._rows, np.int64).reshape(-1, 6).T
    return Notes.from_columns(
      onset / vocabularies.STEPS_PER_SECOND,
      offset / vocabularies.STEPS_PER_SECOND,
      *rest,
    )

  def _read_event(self, token: int) -> None:
    vocabulary = self._vocabulary
    if token in vocabulary.program:
      self._program = vocabulary.program.index(token)
    elif token in vocabulary.velocity:
      velocity_bin = vocabulary.velocity.index(token)
      self._velocity = vocabulary.bin_to_velocity(velocity_bin)
    elif token in vocabulary.drum:
      if self._velocity:
        pitch = vocabulary.drum.index(token)
        row = (self._now, self._now + 1, pitch, self._velocity, 0, True)
        self._rows.append(row)
    elif token in vocabulary.pitch:
      voice = self._program, vocabulary.pitch.index(token)
      if self._in_tie_section:
        self._tied.add(voice)
        return
      if voice in self._sounding:
        self._end(voice)
      if self._velocity:
        self._sounding[voice] = self._now, self._velocity
    elif self._in_tie_section:  # A tie token; there is no other kind.
      self._in_tie_section = False
      for voice in self._sounding.keys() - self._tied:
        self._end(voice)

  def _end(self, voice: tuple[int, int]) -> None:
    program, pitch = voice
    onset, velocity = self._sounding.pop(voice)
    offset = max(self._now, onset + 1)
    self._rows.append((onset, offset, pitch, velocity, program, False))
