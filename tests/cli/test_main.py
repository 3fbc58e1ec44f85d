import os
import subprocess
import sys

import music_spectrogram_diffusion


def spec_diff(*arguments, **environment):
  return subprocess.run(
    [
      sys.executable,
      "-c",
      "from music_spectrogram_diffusion.cli import main; main.main()",
      *arguments,
    ],
    env=os.environ | environment,
    capture_output=True,
    text=True,
    check=False,
  )


def test_help_names_the_verbs_within_a_second():
  # Of the processor, not of the clock, which other programs slow down.
  before = os.times()
  result = spec_diff("--help")
  after = os.times()
  assert result.returncode == 0
  for verb in ("render", "info", "models", "doctor"):
    assert verb in result.stdout
  spent_s = after.children_user - before.children_user
  spent_s += after.children_system - before.children_system
  assert 0.0 < spent_s < 1.0


def test_version_is_that_of_the_package():
  result = spec_diff("--version")
  assert result.stdout.strip() == music_spectrogram_diffusion.__version__


def test_a_wrong_input_is_one_line_and_exit_code_2():
  result = spec_diff("info", "missing.mid")
  assert result.returncode == 2
  assert result.stdout == ""
  (line,) = result.stderr.splitlines()
  assert line.startswith("error: ") and "missing.mid" in line


def test_the_traceback_shows_on_request():
  result = spec_diff("info", "missing.mid", SPEC_DIFF_DEBUG="1")
  assert "Traceback" in result.stderr
