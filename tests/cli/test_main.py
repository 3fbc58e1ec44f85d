import os
import subprocess
import sys
import time

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
  seconds = []
  for _ in range(3):
    start = time.perf_counter()
    result = spec_diff("--help")
    seconds.append(time.perf_counter() - start)
  assert result.returncode == 0
  for verb in ("render", "info", "models", "doctor"):
    assert verb in result.stdout
  assert min(seconds) < 1.0


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
