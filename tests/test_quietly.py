import subprocess
import sys

import pytest

pytest.importorskip("tensorflow")


def test_tensorflow_is_imported_without_a_word_and_errors_are_still_heard():
  lines = (
    "import sys",
    "from music_spectrogram_diffusion import quietly",
    "tensorflow = quietly.import_tensorflow()",
    "assert quietly.import_tensorflow() is tensorflow",
    "print(tensorflow.constant(3).numpy())",
    "print('heard', file=sys.stderr)",
  )
  result = subprocess.run(
    [sys.executable, "-c", "\n".join(lines)],
    capture_output=True,
    text=True,
    check=True,
  )
  assert result.stdout == "3\n"
  assert result.stderr == "heard\n"
