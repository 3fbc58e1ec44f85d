"""The verb `prepare`, on a dataset of two songs."""

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

pytest.importorskip("tensorflow_datasets")

from music_spectrogram_diffusion import data  # noqa: E402
from music_spectrogram_diffusion.cli import prepare  # noqa: E402
from music_spectrogram_diffusion.data.builders import urmp  # noqa: E402

RATE = 48000


@pytest.fixture
def raw(tmp_path):
  """Two pieces of URMP."""
  for name in ("10_March_tpt_bn", "12_Spring_vn_vc"):
    number, title, *codes = name.split("_")
    folder = tmp_path / "raw" / name
    folder.mkdir(parents=True)
    tone = 0.5 * np.sin(np.arange(RATE) / 20)
    soundfile.write(folder / f"AuMix_{name}.wav", tone, RATE, "PCM_24")
    for part, code in enumerate(codes, 1):
      path = folder / f"Notes_{part}_{code}_{number}_{title}.txt"
      path.write_text("0.100\t440.000\t0.500\n")
  return tmp_path / "raw"


def run(raw, out, *more):
  arguments = ["urmp", f"--manual_dir={raw}", f"--data_dir={out}"]
  return CliRunner().invoke(prepare.app, [*arguments, "--workers=0", *more])


def test_a_dataset_is_prepared_once_and_reported(raw, tmp_path):
  result = run(raw, tmp_path / "out")
  assert result.exit_code == 0, result.output
  lines = result.stdout.splitlines()
  assert "2 songs mended: another sample rate, resampled" in lines[1]
  assert "train: 1 examples, 0.00 h of audio" in lines
  assert "validation: 1 examples, 0.00 h of audio" in lines
  again = run(raw, tmp_path / "out")
  assert again.exit_code == 0
  assert "is there already" in again.stderr
  assert again.stdout.splitlines()[:-1] == lines[:-1]


def test_an_interrupted_run_goes_on(raw, tmp_path, monkeypatch):
  converted = []
  convert = urmp.convert

  def interrupted(song, problems):
    if song.name.startswith("12") and not converted.count("12"):
      converted.append("12")
      raise KeyboardInterrupt
    converted.append(song.name)
    return convert(song, problems)

  monkeypatch.setattr(urmp.Urmp, "convert", staticmethod(interrupted))
  result = run(raw, tmp_path / "out")
  assert result.exit_code == 130
  assert "1 songs are converted. The same command goes on." in result.stderr
  result = run(raw, tmp_path / "out")
  assert result.exit_code == 0
  assert converted == ["10_March_tpt_bn", "12", "12_Spring_vn_vc"]
  assert not list(tmp_path.glob("out/urmp/*.songs"))


def test_work_can_lie_elsewhere_and_goes_at_the_end(raw, tmp_path):
  result = run(raw, tmp_path / "out", f"--work_dir={tmp_path / 'work'}")
  assert result.exit_code == 0
  assert not list(tmp_path.glob("work/**/*.npz"))


def test_wrong_folders_are_told_in_a_line(tmp_path):
  with pytest.raises(ValueError, match="found no .*nowhere"):
    data.prepare_dataset(
      "urmp", manual_dir=tmp_path / "nowhere", data_dir=tmp_path
    )
  (tmp_path / "raw").mkdir()
  (tmp_path / "raw" / "something.txt").touch()
  with pytest.raises(ValueError, match=r"found no \[0-9\].*AuMix_"):
    data.prepare_dataset(
      "urmp", manual_dir=tmp_path / "raw", data_dir=tmp_path / "out"
    )


def test_unknown_datasets_are_answered_with_the_known_ones(tmp_path):
  with pytest.raises(ValueError, match="maestro, slakh, .* got 'nosuch'"):
    data.prepare_dataset("nosuch", manual_dir=tmp_path, data_dir=tmp_path)


def test_every_dataset_of_the_library_has_its_command():
  commands = {command.name for command in prepare.app.registered_commands}
  assert set(prepare.DATASETS) <= set(data.DATASETS) & commands


@pytest.mark.parametrize("name", prepare.DATASETS)
def test_every_name_leads_to_a_builder_of_that_name(name):
  from music_spectrogram_diffusion.data import prepare as library

  assert library._builder_class(name).name == name
