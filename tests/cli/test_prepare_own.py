"""The verb `prepare` on files of one's own."""

from pathlib import Path
import shutil

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

pytest.importorskip("tensorflow_datasets")

from music_spectrogram_diffusion import data, notes  # noqa: E402
from music_spectrogram_diffusion.cli import prepare  # noqa: E402

SINE = Path(__file__).parents[1] / "data" / "sine.sf2"
RATE = 16000


def run(*arguments):
  arguments = [*map(str, arguments), "--workers=0"]
  return CliRunner().invoke(prepare.app, arguments, catch_exceptions=False)


@pytest.fixture
def raw(tmp_path):
  """A song that fits, the same 0.3 s late, and audio without notes."""
  rng = np.random.default_rng(0)
  onset = np.sort(rng.uniform(0.1, 4.0, 20))
  tune = notes.Notes.from_columns(
    onset, onset + 0.2, rng.integers(50, 80, 20), 100
  )
  samples = data.SoundfontRenderer(SINE, RATE).render(tune)
  late = np.concatenate([np.zeros(round(0.3 * RATE)), samples])
  for name, audio in (("fits", samples), ("late", late), ("alone", samples)):
    (tmp_path / "audio").mkdir(exist_ok=True)
    soundfile.write(tmp_path / "audio" / f"{name}.wav", audio, RATE)
  (tmp_path / "midi").mkdir()
  for name in ("fits", "late"):
    notes.write_midi(tune, tmp_path / "midi" / f"{name}.mid")
  return tmp_path


def folder(raw, *more):
  return run(
    "folder",
    f"--audio={raw / 'audio'}",
    f"--midi={raw / 'midi'}",
    f"--data_dir={raw / 'out'}",
    "--validation=0",
    *more,
  )


def test_a_folder_is_prepared_and_what_does_not_fit_is_told(raw):
  result = folder(raw)
  assert result.exit_code == 0, result.output
  lines = result.stdout.splitlines()
  assert any("late.wav: by +0.30 s" in line for line in lines)
  assert any("alone.wav" in line for line in lines)
  assert "train: 1 examples, 0.00 h of audio" in lines
  assert "is there already" in folder(raw, "--keep").stderr
  result = folder(raw, "--keep", "--overwrite")
  assert "train: 2 examples, 0.00 h of audio" in result.stdout.splitlines()
  result = folder(raw, "--max_lag=0.5", "--overwrite")
  assert "late" not in result.stdout
  result = folder(raw, "--min_score=0.01", "--overwrite")
  assert "train: 1 examples, 0.00 h of audio" in result.stdout.splitlines()


def test_a_soundfont_is_prepared_in_both_forms(raw):
  for form, line in (
    ("examples", "train: 3 examples, 0.0"),
    ("arrays", "songs: 3 examples, 0.0"),
  ):
    result = run(
      "soundfont",
      f"--midi={raw / 'midi'}",
      f"--soundfont={SINE}",
      f"--data_dir={raw / form}",
      "--hours=0.001",
      "--validation=0",
      f"--format={form}",
    )
    assert result.exit_code == 0, result.output
    assert line in result.stdout
  assert len(list((raw / "arrays").glob("*.safetensors"))) == 3


@pytest.mark.skipif(
  shutil.which("fluidsynth") is not None, reason="fluidsynth is installed"
)
def test_without_fluidsynth_it_is_named_and_what_to_do(raw):
  with pytest.raises(ValueError, match="install it .*tinysoundfont"):
    run(
      "soundfont",
      f"--midi={raw / 'midi'}",
      f"--soundfont={SINE}",
      f"--data_dir={raw / 'out'}",
      "--synthesizer=fluidsynth",
    )
