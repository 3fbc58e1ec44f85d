import mido
import numpy as np
import pytest
import typer.testing

from music_spectrogram_diffusion import checkpoints
from music_spectrogram_diffusion.cli import info, main
from music_spectrogram_diffusion.notes import Notes


def spec_diff(*arguments):
  result = typer.testing.CliRunner().invoke(
    main.app, ["info", *map(str, arguments)], catch_exceptions=False
  )
  assert result.exit_code == 0
  return result.stdout


def facts_of(stdout):
  """The `name   value` lines at the end."""
  return dict(
    line.split("  ", 1) for line in stdout.splitlines() if "  " in line
  )


def test_a_midi_file_is_described_by_program(tmp_path):
  track = mido.MidiTrack(
    [mido.Message("program_change", program=40)]
    + [mido.Message("note_on", note=n, velocity=80) for n in (60, 64)]
    + [mido.Message("note_off", note=n, time=960) for n in (60, 64)]
    + [mido.Message("note_on", note=36, velocity=80, channel=9)]
    + [mido.Message("note_off", note=36, channel=9, time=48)]
  )
  mido.MidiFile(tracks=[track]).save(tmp_path / "song.mid")
  stdout = spec_diff(tmp_path / "song.mid")
  assert "Violin" in stdout and "Drums" in stdout
  assert "60-64" in stdout
  facts = {k: v.strip() for k, v in facts_of(stdout).items()}
  assert facts["notes"] == "3"
  assert facts["notes at once"] == "2 at most"
  assert facts["segments"] == "1"


@pytest.mark.parametrize(
  ("onsets", "offsets", "expected"),
  [([], [], 0), ([0, 1, 2], [1, 2, 3], 1), ([0, 1, 1], [2, 2, 3], 3)],
)
def test_max_polyphony_counts_notes_that_sound_together(
  onsets, offsets, expected
):
  assert info.max_polyphony(Notes.from_columns(onsets, offsets, 60, 80)) == (
    expected
  )


def test_a_model_directory_is_described_by_size_and_hash(tmp_path):
  parameters = {"a": {"kernel": np.zeros((3, 4), np.float32)}}
  config = {"kind": "test", "part": {"mean": [0.5, 0.25]}}
  checkpoints.save_model_directory(tmp_path, config, parameters)
  stdout = spec_diff(tmp_path)
  assert '"kind": "test"' in stdout
  assert '"mean": [ 0.5, 0.25 ]' in stdout
  facts = {k: v.strip() for k, v in facts_of(stdout).items()}
  assert facts["parameters"] == "12"
  assert facts["SHA-256"] == checkpoints.weights_hash(tmp_path)
