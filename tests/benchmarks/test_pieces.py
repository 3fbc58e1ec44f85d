"""Facts about the MIDI files that come with the project."""

import pathlib

import pytest

from music_spectrogram_diffusion import notes

_ROOT = pathlib.Path(__file__).parents[2]
_FOLDERS = [_ROOT / "examples", _ROOT / "benchmarks/quality/pieces"]
_PATHS = [path for folder in _FOLDERS for path in sorted(folder.glob("*.mid"))]


@pytest.mark.parametrize("path", _PATHS, ids=lambda path: path.stem)
def test_a_piece_is_read_and_plays_20_seconds_or_more(path):
  assert notes.read_midi(path).duration_s > 20


@pytest.mark.parametrize("folder", _FOLDERS, ids=lambda folder: folder.name)
def test_the_readme_names_the_source_of_every_piece_and_of_no_other(folder):
  readme = (folder / "README.md").read_text()
  named = [
    line.split("|")[1].strip()
    for line in readme.splitlines()
    if ".mid |" in line
  ]
  assert sorted(named) == sorted(path.name for path in folder.glob("*.mid"))
