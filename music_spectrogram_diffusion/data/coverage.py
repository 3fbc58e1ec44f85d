"""What pieces hold: pitches, drums, density, polyphony, lengths, velocities."""

from collections.abc import Iterable, Iterator
import dataclasses
from pathlib import Path
import warnings

from jaxtyping import Float64, Int64, Num
import numpy as np

from music_spectrogram_diffusion import notes as notes_lib
from music_spectrogram_diffusion.audio import SpectrogramConfig
from music_spectrogram_diffusion.data import finding, generator, songs
from music_spectrogram_diffusion.data.builders.problems import Problems
from music_spectrogram_diffusion.notes import Notes

LENGTH_EDGES_S = np.geomspace(0.01, 100.0, 81)
"""Bounds of the bins that lengths of notes are counted in, in seconds."""

LONG_S = 5.0
"""Notes over this length are longer than a segment, or nearly."""

_MIDI_VALUES = 128
_MAX_TOKENS, _MAX_NOTES, _MAX_AT_ONCE, _MAX_PARTS = 2048, 512, 64, 32


def _zeros(*shape: int, dtype: type = np.int64):
  return dataclasses.field(default_factory=lambda: np.zeros(shape, dtype))


@dataclasses.dataclass
class Coverage:
  """Counts over pieces, which take no more memory the more there are.

  Where a count has bins for values up to a largest one, whatever exceeds it is
  counted there. Drums have no lengths, and are left out of polyphony.

  Attributes:
    segment_frames: Frames of a segment.
    vocabulary: What tokens are counted in.
    config: Gives the length of a frame.
    num_pieces: Pieces.
    num_with_drums: Pieces in which the drum kit plays.
    duration_s: Length of all of them, up to the last note of each.
    pitches: Notes by program and pitch, without drums.
    drums: Hits by drum.
    velocities: Notes and hits by velocity.
    lengths: Notes by length, in the bins of `LENGTH_EDGES_S`; what lies outside
      counts in the nearest.
    num_long: Notes over `LONG_S`.
    at_once_s: Seconds by how many notes sound.
    segment_tokens: Segments by their tokens.
    segment_notes: Segments by the notes and hits that begin in them.
    parts: Pieces by how many programs play, the drum kit being one.
    solos: Pieces by the program that plays alone.
  """

  segment_frames: int = 256
  vocabulary: notes_lib.Vocabulary = notes_lib.Vocabulary()
  config: SpectrogramConfig = SpectrogramConfig()
  num_pieces: int = 0
  num_with_drums: int = 0
  duration_s: float = 0.0
  pitches: Int64[np.ndarray, "programs pitches"] = _zeros(
    _MIDI_VALUES, _MIDI_VALUES
  )
  drums: Int64[np.ndarray, " drums"] = _zeros(_MIDI_VALUES)
  velocities: Int64[np.ndarray, " velocities"] = _zeros(_MIDI_VALUES)
  lengths: Int64[np.ndarray, " bins"] = _zeros(len(LENGTH_EDGES_S) - 1)
  num_long: int = 0
  at_once_s: Float64[np.ndarray, " at_once"] = _zeros(
    _MAX_AT_ONCE + 1, dtype=np.float64
  )
  segment_tokens: Int64[np.ndarray, " tokens"] = _zeros(_MAX_TOKENS + 1)
  segment_notes: Int64[np.ndarray, " notes"] = _zeros(_MAX_NOTES + 1)
  parts: Int64[np.ndarray, " parts"] = _zeros(_MAX_PARTS + 1)
  solos: Int64[np.ndarray, " programs"] = _zeros(_MIDI_VALUES)

  @property
  def length_edges_s(self) -> Float64[np.ndarray, " edges"]:
    """Bounds of the bins of `lengths`, in seconds."""
    return LENGTH_EDGES_S

  def add(self, piece: Notes) -> None:
    """Counts a piece, whose programs become those that models know."""
    piece = notes_lib.to_slakh_classes(piece)
    pitched, drums = piece[~piece.is_drum], piece[piece.is_drum]
    length = pitched.offset - pitched.onset
    self.num_pieces += 1
    self.num_with_drums += bool(len(drums))
    self.duration_s += piece.duration_s
    np.add.at(self.pitches, (pitched.program, pitched.pitch), 1)
    self.drums += np.bincount(drums.pitch, minlength=_MIDI_VALUES)
    self.velocities += np.bincount(piece.velocity, minlength=_MIDI_VALUES)
    self.lengths += np.histogram(
      np.clip(length, LENGTH_EDGES_S[0], LENGTH_EDGES_S[-1]), LENGTH_EDGES_S
    )[0]
    self.num_long += int(np.count_nonzero(length > LONG_S))
    self._add_at_once(pitched, piece.duration_s)
    self._add_segments(piece)
    programs = np.unique(pitched.program)
    num_parts = len(programs) + bool(len(drums))
    self.parts[min(num_parts, _MAX_PARTS)] += 1
    if num_parts == 1 and len(programs):
      self.solos[programs[0]] += 1

  def _add_at_once(self, pitched: Notes, duration_s: float) -> None:
    times = np.concatenate([[0.0], pitched.offset, pitched.onset])
    changes = np.repeat([0, -1, 1], [1, len(pitched), len(pitched)])
    order = np.argsort(times, kind="stable")
    at_once = np.cumsum(changes[order]).clip(0, _MAX_AT_ONCE)
    lasting = np.diff(times[order], append=max(duration_s, times.max()))
    self.at_once_s += np.bincount(at_once, lasting, _MAX_AT_ONCE + 1)

  def _add_segments(self, piece: Notes) -> None:
    with warnings.catch_warnings():  # Of what is over the top, at the top.
      warnings.simplefilter("ignore")
      tokens = notes_lib.tokenize_segments(
        piece,
        vocabulary=self.vocabulary,
        segment_frames=self.segment_frames,
        frame_rate=self.config.frame_rate,
        max_tokens=_MAX_TOKENS,
      )
    counts = [len(segment) for segment in tokens]
    self.segment_tokens += np.bincount(counts, minlength=_MAX_TOKENS + 1)
    segment_s = self.segment_frames / self.config.frame_rate
    segment = np.minimum(np.int64(piece.onset / segment_s), len(tokens) - 1)
    begun = np.bincount(segment, minlength=len(tokens)).clip(0, _MAX_NOTES)
    self.segment_notes += np.bincount(begun, minlength=_MAX_NOTES + 1)

  def facts(self) -> Iterator[tuple[str, str]]:
    """What a person wants to know, as names and values."""
    num_notes, num_hits = int(self.pitches.sum()), int(self.drums.sum())
    programs = self.pitches.sum(axis=1)
    yield "pieces", f"{self.num_pieces}, {self.duration_s / 3600:.2f} h"
    yield "notes, drum hits", f"{num_notes}, {num_hits}"
    yield "programs", f"{np.count_nonzero(programs)} of 34 classes"
    yield "alone", f"{np.count_nonzero(self.solos)} of them"
    yield "pitch x program", f"{np.count_nonzero(self.pitches)} pairs"
    yield "drums of the kit (35-59)", f"{np.count_nonzero(self.drums[35:60])}"
    yield "pieces with drums", _share(self.num_with_drums, self.num_pieces)
    parts = ", ".join(
      f"{count}: {_share(pieces, self.num_pieces)}"
      for count, pieces in enumerate(self.parts.tolist())
      if pieces
    )
    yield "parts", parts
    for name, counts in (
      ("tokens a segment", self.segment_tokens),
      ("notes a segment", self.segment_notes),
      ("notes at once", self.at_once_s),
      ("velocity", self.velocities),
    ):
      low, middle, high, most = (
        quantile(counts, share) for share in (0.1, 0.5, 0.9, 1.0)
      )
      yield name, f"median {middle}, 80 % in {low}-{high}, at most {most}"
    yield (
      "segments without onset",
      _share(self.segment_notes[0], self.segment_notes.sum()),
    )
    yield "nothing sounds", _share(self.at_once_s[0], self.at_once_s.sum())
    bin_s = LENGTH_EDGES_S[quantile(self.lengths, 0.5)]
    yield "length of a note", f"median {bin_s:.2f} s"
    yield (
      "notes under 0.1 s",
      _share(self.lengths[LENGTH_EDGES_S[1:] <= 0.1 + 1e-9].sum(), num_notes),
    )
    yield f"notes over {LONG_S:g} s", _share(self.num_long, num_notes)


def quantile(counts: Num[np.ndarray, " bins"], share: float) -> int:
  """The bin up to which a share of what was counted lies; 0 for nothing."""
  total = np.cumsum(counts)
  if not total[-1]:
    return 0
  return int(np.searchsorted(total, share * total[-1] * (1 - 1e-12)))


def _share(part, whole) -> str:
  return f"{100 * part / max(whole, 1e-9):.2g} %"


def generated_pieces(count: int, first_seed: int = 0) -> Iterator[Notes]:
  """Pieces of the generator, of consecutive seeds."""
  for seed in range(first_seed, first_seed + count):
    yield generator.generate_piece(seed)


def pieces_of(directory: str | Path) -> Iterator[Notes]:
  """Pieces of a folder: of MIDI files, or of songs that were prepared there.

  Files that cannot be read are named in a warning.

  Raises:
    ValueError: There is no such folder, or nothing of the kind in it.
  """
  if paths := songs.song_paths(directory):
    yield from map(songs.read_notes, paths)
    return
  for path in finding.find_files(
    directory, notes_lib.MIDI_SUFFIXES, "MIDI", Problems()
  ):
    try:
      yield notes_lib.read_midi(path)
    except notes_lib.MidiError as error:
      warnings.warn(f"Left out {path}: {error}", stacklevel=2)


def cover(pieces: Iterable[Notes], **settings) -> Coverage:
  """Counts pieces; `settings` are fields of `Coverage`."""
  coverage = Coverage(**settings)
  for piece in pieces:
    coverage.add(piece)
  return coverage
