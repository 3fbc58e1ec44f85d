"""Which inverter a loaded model has."""

import pathlib
import shutil

import pytest

from music_spectrogram_diffusion import cache, inference, inverter
from music_spectrogram_diffusion.inference import synthesizer

PIPELINE = pathlib.Path(__file__).parents[1] / "data" / "diffusers_tiny"


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
  """A pipeline with an inverter of its own."""
  monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
  path = shutil.copytree(PIPELINE, tmp_path / "pipeline")
  (path / "melgan").mkdir()
  (path / "melgan" / "model.onnx").write_bytes(b"network")
  return path


def test_an_inverter_that_came_with_the_weights_is_used(pipeline, monkeypatch):
  class Network(inverter.GriffinLim):
    def __init__(self, path, config):
      assert path.read_bytes() == b"network"
      super().__init__(config)

  monkeypatch.setattr(inverter, "OnnxInverter", Network)
  loaded = inference.Synthesizer.from_pretrained(pipeline)
  assert isinstance(loaded.inverter, Network)
  assert loaded.inverter.config == loaded.spectrogram_config


def test_without_onnxruntime_griffin_lim_takes_its_place_with_a_warning(
  pipeline, monkeypatch
):
  find_spec = synthesizer.importlib.util.find_spec
  monkeypatch.setattr(
    synthesizer.importlib.util,
    "find_spec",
    lambda name: None if name == "onnxruntime" else find_spec(name),
  )
  with pytest.warns(UserWarning, match="pip install onnxruntime") as warned:
    loaded = inference.Synthesizer.from_pretrained(pipeline)
  assert len(warned) == 1
  assert isinstance(loaded.inverter, inverter.GriffinLim)


def test_a_model_without_an_inverter_has_griffin_lim(tmp_path, monkeypatch):
  monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path))
  loaded = inference.Synthesizer.from_pretrained(PIPELINE)
  assert isinstance(loaded.inverter, inverter.GriffinLim)
