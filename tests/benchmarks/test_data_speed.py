import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soundfile

from music_spectrogram_diffusion import notes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def speed():
  path = ROOT / "benchmarks" / "data" / "speed.py"
  spec = importlib.util.spec_from_file_location("data_speed", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_the_last_row_of_a_group_compares_largest_and_smallest(speed):
  def figures(cpu, memory):
    return {
      name: {"clock": 50.0, "cpu": cpu, "memory": memory}
      for name in speed.TARGETS
    }

  text = speed.table(
    [(2.0, figures(100.0, 400.0)), (8.0, figures(80.0, 500.0))]
  )
  lines = text.splitlines()
  assert len(lines) == 2 + 3 * len(speed.TARGETS)
  assert "cost x 1.25 | x 1.25" in lines[4] and "4 times" in lines[4]


def test_songs_are_as_recorded_ones_are_and_linked_ones_take_no_room(
  speed, tmp_path
):
  songs = speed.make_songs(tmp_path / "songs", 2.0)
  speed.link_songs(songs, tmp_path / "raw", 9)
  wavs = sorted((tmp_path / "raw").glob("*.wav"))
  assert len(wavs) == 9 and wavs[0].samefile(wavs[speed.NUM_DISTINCT])
  samples, rate = soundfile.read(wavs[0])
  assert rate == 44_100 and samples.shape == (88_200, 2)
  assert 0.05 < np.abs(samples).max() < 1
  piece = notes.read_midi(wavs[0].with_suffix(".mid"))
  assert len(piece) == pytest.approx(20, abs=1)
