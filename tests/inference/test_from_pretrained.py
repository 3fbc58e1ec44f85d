"""Which inverter a loaded model has."""

import dataclasses
import pathlib
import shutil

import jax
import numpy as np
import pytest

from music_spectrogram_diffusion import (
  audio,
  cache,
  checkpoints,
  inference,
  inverter,
  notes,
)
from music_spectrogram_diffusion.inference import inverters

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
  find_spec = inverters.importlib.util.find_spec
  monkeypatch.setattr(
    inverters.importlib.util,
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


FEATURES = audio.SpectrogramConfig(n_mels=8)
VOCODER = inverter.SinusoidVocoder(
  spectrogram=FEATURES, channels=4, num_blocks=1, expansion=1
)


@pytest.fixture
def with_vocoder(tmp_path, monkeypatch):
  """A model directory with an inverter of ours."""
  monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
  path = tmp_path / "model"
  checkpoints.convert_published(PIPELINE, path)
  checkpoints.save_inverter(path, VOCODER, VOCODER.init(jax.random.key(0)))
  return path


def test_an_inverter_of_ours_plays_the_model_it_lies_beside(with_vocoder):
  loaded = inference.Synthesizer.from_pretrained(with_vocoder)
  assert isinstance(loaded.inverter.inner, inverter.NeuralInverter)
  assert loaded.inverter.inner.generator == VOCODER
  played = notes.Notes.from_columns([0.5], [4.0], [60], [90], 0)
  for known in (None, played):
    samples = loaded.inverter(np.zeros((300, 8), np.float32), known)
    assert samples.shape == (300 * 320,) and np.isfinite(samples).all()


def test_another_inverter_can_be_asked_for(with_vocoder):
  plain = inference.Synthesizer.from_pretrained(
    with_vocoder, inverter="griffin-lim"
  )
  assert isinstance(plain.inverter, inverter.GriffinLim)
  borrowed = inference.Synthesizer.from_pretrained(
    PIPELINE, inverter=with_vocoder
  )
  assert borrowed.inverter.inner.generator == VOCODER


def test_only_inverters_of_ours_follow_notes_unless_one_says_so(with_vocoder):
  def load(**settings):
    return inference.Synthesizer.from_pretrained(with_vocoder, **settings)

  assert load().follows_notes
  assert not load(follow_notes=False).follows_notes
  assert not load(inverter="griffin-lim").follows_notes
  told = load(inverter="griffin-lim", follow_notes=True)
  assert told.follows_notes
  assert isinstance(told.inverter.inner, inverter.GriffinLim)
  assert told.inverter.guided is None
  assert told.inverter_name == "GriffinLim"
  assert load().inverter_name == "NeuralInverter"


def test_magnitudes_are_corrected_once_where_notes_are_followed(with_vocoder):
  loaded = inference.Synthesizer.from_pretrained(with_vocoder).inverter
  assert loaded.inner.generator.num_corrections == 2
  assert loaded.guided.generator == dataclasses.replace(
    loaded.inner.generator, num_corrections=0
  )
  assert loaded.guided.parameters is loaded.inner.parameters


def test_products_are_made_in_the_dtype_asked_for(with_vocoder):
  exact, rounded = (
    inference.Synthesizer.from_pretrained(with_vocoder, dtype=dtype)
    for dtype in (None, "bfloat16")
  )
  assert rounded.model == dataclasses.replace(
    exact.model,
    network=dataclasses.replace(exact.model.network, dtype="bfloat16"),
  )
  for part in ("inner", "guided"):
    ours, theirs = (getattr(s.inverter, part) for s in (rounded, exact))
    assert theirs.generator.dtype == "float32"
    assert ours.generator == dataclasses.replace(
      theirs.generator, dtype="bfloat16"
    )
  jax.tree.map(
    np.testing.assert_array_equal, exact.parameters, rounded.parameters
  )


def test_a_dtype_that_is_none_is_one_line(with_vocoder):
  with pytest.raises(ValueError, match="float32.*bfloat16.*float8"):
    inference.Synthesizer.from_pretrained(with_vocoder, dtype="float8")


def test_an_inverter_that_is_not_there_is_named(with_vocoder):
  with pytest.raises(ValueError, match="nowhere"):
    inference.Synthesizer.from_pretrained(with_vocoder, inverter="nowhere")


def test_an_inverter_of_other_features_is_refused(with_vocoder):
  other = dataclasses.replace(
    VOCODER, spectrogram=audio.SpectrogramConfig(n_mels=16)
  )
  checkpoints.save_inverter(with_vocoder, other, other.init(jax.random.key(0)))
  with pytest.raises(checkpoints.CheckpointError, match="n_mels=16"):
    inference.Synthesizer.from_pretrained(with_vocoder)
