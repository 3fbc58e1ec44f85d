"""What was wrong with raw data, counted by rule and told at the end of a run.

A rule says what is done with a kind of fault. Nothing is left out, mended or
let pass in silence, and no fault of one song stops the preparation of others.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

MAX_EXAMPLES = 5
"""Faulty items that are named for each rule."""


@dataclasses.dataclass(frozen=True)
class Rule:
  """What is done with one kind of fault.

  Attributes:
    name: Identifies the rule in a report, in snake_case.
    effect: What is counted and what happens to it, as "songs dropped".
    reason: The fault, as "over 2048 tokens".
  """

  name: str
  effect: str
  reason: str


MISSING_FILE = Rule("missing_file", "songs dropped", "a file is missing")
TRUNCATED = Rule(
  "truncated", "songs dropped", "an audio file is shorter than its header says"
)
CHECKSUM = Rule(
  "checksum", "songs dropped", "a file differs from the list of checksums"
)
UNREADABLE_AUDIO = Rule(
  "unreadable_audio", "songs dropped", "audio cannot be read"
)
EMPTY_AUDIO = Rule("empty_audio", "songs dropped", "audio of no length")
NOT_FINITE = Rule("not_finite", "songs dropped", "audio with NaN or infinity")
SILENT = Rule("silent", "songs dropped", "audio is silent")
UNREADABLE_NOTES = Rule(
  "unreadable_notes", "songs dropped", "notes cannot be read"
)
NO_NOTES = Rule("no_notes", "songs dropped", "no notes")
LENGTHS_DIFFER = Rule(
  "lengths_differ", "songs dropped", "many notes begin after the audio's end"
)
DUPLICATE_ID = Rule("duplicate_id", "songs dropped", "an id occurs twice")
UNKNOWN_INSTRUMENT = Rule(
  "unknown_instrument", "songs dropped", "an instrument is not known"
)
MISSING_SONG = Rule(
  "missing_song", "songs missing", "fewer than the dataset was published with"
)
NO_SPLIT = Rule("no_split", "songs dropped", "the split is not known")
FAILED = Rule("failed", "songs dropped", "conversion failed")
CRASHED = Rule("crashed", "songs dropped", "the converting process died")

MIXED_DOWN = Rule("mixed_down", "songs mended", "several channels, mixed down")
RESAMPLED = Rule("resampled", "songs mended", "another sample rate, resampled")
UPSAMPLED = Rule(
  "upsampled", "songs mended", "a lower sample rate, resampled upwards"
)
SCALED_DOWN = Rule(
  "scaled_down", "songs mended", "peaks above full scale, scaled down to it"
)
CLIPPED = Rule("clipped", "songs kept", "audio is clipped in the original")
LONG_TAIL = Rule(
  "long_tail", "songs kept", "audio goes on for long after the last note"
)
DAMAGED_NOTES = Rule(
  "damaged_notes", "songs mended", "notes are damaged in part, the rest is used"
)
PITCH_BENDS = Rule("pitch_bends", "songs mended", "pitch bends, ignored")

INVALID_NOTE = Rule(
  "invalid_note", "notes dropped", "a time, pitch or velocity out of range"
)
NOTE_AFTER_END = Rule(
  "note_after_end", "notes dropped", "begin after the audio's end"
)
NOTE_OVER_END = Rule(
  "note_over_end", "notes mended", "last beyond the audio's end, cut there"
)
EMPTY_NOTE = Rule("empty_note", "notes mended", "no length, made 10 ms long")
OVERLAP = Rule(
  "overlap",
  "notes mended",
  "overlap an equal one, cut there; of equal onsets one is kept",
)

RULES = tuple(value for value in globals().values() if type(value) is Rule)
"""The rules that datasets have in common; modules may add their own."""


class SongError(ValueError):
  """A song that is left out.

  Attributes:
    rule: Why.
  """

  def __init__(self, rule: Rule, detail: str):
    """Args: the rule, and what was found, with the file's name."""
    super().__init__(detail)
    self.rule = rule


@dataclasses.dataclass
class _Tally:
  count: int = 0
  examples: list[str] = dataclasses.field(default_factory=list)


class Problems:
  """Counts of faults by rule, and the first few items of each."""

  def __init__(self):
    self._tallies: dict[Rule, _Tally] = {}

  def add(
    self, rule: Rule, example: str, count: int | np.integer | np.bool_ = 1
  ) -> None:
    """Counts `count` faults of the item that `example` names; 0 is nothing."""
    if not count:
      return
    tally = self._tallies.setdefault(rule, _Tally())
    tally.count += int(count)
    if len(tally.examples) < MAX_EXAMPLES:
      tally.examples.append(example)

  def merge(self, other: "Problems") -> None:
    """Adds the counts of `other`."""
    for rule, tally in other._tallies.items():
      mine = self._tallies.setdefault(rule, _Tally())
      mine.count += tally.count
      free = MAX_EXAMPLES - len(mine.examples)
      mine.examples.extend(tally.examples[:free])

  def clear(self) -> None:
    """Forgets everything."""
    self._tallies.clear()

  def count(self, rule: Rule) -> int:
    """How many faults of a rule were counted."""
    tally = self._tallies.get(rule)
    return tally.count if tally else 0

  def lines(self) -> list[str]:
    """One line a rule, as "17 songs dropped: over ... (a, b, ...)"."""
    lines = []
    for rule, tally in self._tallies.items():
      named = ", ".join(tally.examples)
      more = ", ..." if tally.count > len(tally.examples) else ""
      lines.append(
        f"{tally.count} {rule.effect}: {rule.reason} ({named}{more})"
      )
    return lines

  def to_json(self) -> list[dict[str, Any]]:
    """What `from_json` reads: a list of rules with count and examples."""
    return [
      {"rule": rule.name, "effect": rule.effect, "reason": rule.reason}
      | {"count": tally.count, "examples": tally.examples}
      for rule, tally in self._tallies.items()
    ]

  @classmethod
  def from_json(cls, rows: list[Mapping[str, Any]]) -> "Problems":
    """Reads what `to_json` gave."""
    problems = cls()
    for row in rows:
      rule = Rule(row["rule"], row["effect"], row["reason"])
      problems._tallies[rule] = _Tally(row["count"], list(row["examples"]))
    return problems
