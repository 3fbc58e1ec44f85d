import pathlib

from music_spectrogram_diffusion.data.builders import problems
from music_spectrogram_diffusion.data.builders.problems import Problems, Rule

LONG = Rule("long", "songs dropped", "over 2048 tokens")


def test_a_line_tells_count_effect_reason_and_the_first_items():
  found = Problems()
  for name in "abcdefg":
    found.add(LONG, name)
  assert found.lines() == [
    "7 songs dropped: over 2048 tokens (a, b, c, d, e, ...)"
  ]


def test_nothing_is_said_of_what_did_not_occur():
  found = Problems()
  found.add(LONG, "a", count=0)
  assert found.lines() == [] and found.to_json() == []


def test_merged_reports_count_together_and_survive_json():
  one, other = Problems(), Problems()
  one.add(LONG, "a", count=3)
  other.add(LONG, "b")
  other.add(problems.SILENT, "c")
  one.merge(Problems.from_json(other.to_json()))
  assert one.count(LONG) == 4
  assert one.count(problems.SILENT) == 1
  assert one.lines() == [
    "4 songs dropped: over 2048 tokens (a, b, ...)",
    "1 songs dropped: audio is silent (c)",
  ]


def test_rules_have_names_of_their_own():
  names = [rule.name for rule in problems.RULES]
  assert len(set(names)) == len(names) > 20


def test_every_rule_is_documented():
  root = pathlib.Path(__file__).parents[3]
  text = (root / "docs" / "datasets.md").read_text("utf-8")
  for rule in problems.RULES:
    assert f"| `{rule.name}` | {rule.effect} |" in text
