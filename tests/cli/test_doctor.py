import importlib.util
import types

import numpy as np
import pytest
import typer.testing

import music_spectrogram_diffusion
from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.cli import main


def spec_diff():
  """Runs the verb and returns (exit code, stdout, stderr)."""
  result = typer.testing.CliRunner().invoke(main.app, ["doctor"])
  if result.exception and not isinstance(result.exception, SystemExit):
    raise result.exception
  return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def embed(monkeypatch):
  """Puts in place what loads the embedded model."""

  def put(from_pretrained):
    room = types.ModuleType("inference")
    room.Synthesizer = types.SimpleNamespace(from_pretrained=from_pretrained)
    monkeypatch.setattr(
      music_spectrogram_diffusion, "inference", room, raising=False
    )

  return put


class FakeSynthesizer:
  """Plays everything as one second of a constant."""

  spectrogram_config = audio.SpectrogramConfig()
  model_hash = "0123abcd"

  def __init__(self, level):
    self.level = level

  def __call__(self, notes):
    return np.full(16_000, self.level, np.float32)


def test_what_works_is_said_with_versions_and_times(embed):
  embed(lambda: FakeSynthesizer(0.1))
  code, stdout, _ = spec_diff()
  assert code == 0
  for said in ("Python", "jax", "libsndfile", "soundfont", "0123abcd"):
    assert said in stdout
  assert stdout.splitlines()[-1].endswith(" s for 1.0 s of audio")


def test_a_model_that_does_not_load_is_one_line_and_exit_code_2(embed):
  def fail():
    raise ValueError("no weights")

  embed(fail)
  code, _, stderr = spec_diff()
  assert (code, len(stderr.splitlines())) == (2, 1)
  assert "no weights" in stderr


@pytest.mark.parametrize("level", [0.0, np.nan])
def test_a_model_that_plays_nothing_is_an_error(embed, level):
  embed(lambda: FakeSynthesizer(level))
  assert spec_diff()[0] == 2


def test_a_soundfont_is_not_needed_and_neither_is_what_plays_it(
  embed, monkeypatch, tmp_path
):
  embed(lambda: FakeSynthesizer(0.1))
  monkeypatch.setenv("SPEC_DIFF_SOUNDFONT", str(tmp_path / "font.sf2"))
  code, stdout, _ = spec_diff()
  assert code == 0 and "fine unless you make training data" in stdout
  (tmp_path / "font.sf2").touch()
  find_spec = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util,
    "find_spec",
    lambda name: None if name == "tinysoundfont" else find_spec(name),
  )
  code, stdout, _ = spec_diff()
  assert code == 0 and "pip install --no-deps tinysoundfont" in stdout
