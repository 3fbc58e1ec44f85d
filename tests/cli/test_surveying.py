import io

from matplotlib import image
import numpy as np
import pytest
import safetensors.numpy
import typer.testing

from music_spectrogram_diffusion import data, notes
from music_spectrogram_diffusion.cli import main, plotting, surveying


def spec_diff(*arguments):
  result = typer.testing.CliRunner().invoke(
    main.app, ["info", *map(str, arguments)], catch_exceptions=False
  )
  assert result.exit_code == 0
  return result.stdout


SONG = notes.Notes.from_columns([0.0, 1.0], [1.0, 7.0], [60, 64], 90, 40)


def test_a_folder_of_midi_files_is_described_and_drawn(tmp_path):
  for name in ("a", "b", "c"):
    notes.write_midi(SONG, tmp_path / f"{name}.mid")
  stdout = spec_diff(tmp_path, "-o", tmp_path / "out")
  assert "3, 0.01 h" in stdout and "6, 0" in stdout
  picture = tmp_path / "out" / "coverage.png"
  assert image.imread(picture).shape[2] == 4
  assert picture.stat().st_size < 150_000
  assert "2, 0.00 h" in spec_diff(tmp_path, "--n", 2)


def test_prepared_songs_are_described(tmp_path):
  columns = {name: np.asarray(column) for name, column in vars(SONG).items()}
  log_mel = np.zeros((350, 128), np.float16)
  safetensors.numpy.save_file(
    columns | {"log_mel": log_mel}, tmp_path / "song.safetensors"
  )
  assert "1, 0.00 h" in spec_diff(tmp_path)


def test_the_generator_is_described():
  assert "2, 0.0" in spec_diff("generator", "--n", 2)


def test_a_folder_that_is_no_model_and_has_no_songs_is_an_error(tmp_path):
  with pytest.raises(ValueError, match="Expected MIDI files"):
    spec_diff(tmp_path)


def test_a_picture_of_nothing_and_of_extremes_can_be_drawn():
  low = notes.Notes.from_columns([0.0], [90.0], [0], 1, 0)
  for pieces in ([], [low]):
    figure = surveying.draw_coverage(data.cover(pieces), title="$x_1")
    assert image.imread(io.BytesIO(plotting.png(figure))).any()
