"""Checkpoints of the t5x that is installed: see make_t5x_fixture.py."""

import importlib.util
import pathlib

from flax import traverse_util
import numpy as np
import pytest

from music_spectrogram_diffusion import models
from music_spectrogram_diffusion.checkpoints import t5x

pytest.importorskip("t5x", reason="needs a checkout of t5x")


@pytest.fixture(scope="module")
def writer():
  path = pathlib.Path(__file__).parent / "make_t5x_fixture.py"
  spec = importlib.util.spec_from_file_location("make_t5x_fixture", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize("size", ["tiny", "small"])
@pytest.mark.parametrize("has_context", [True, False])
def test_every_parameter_is_restored_bit_for_bit(
  writer, tmp_path, size, has_context
):
  network = models.paper_network(size, context=has_context)
  rng = np.random.default_rng(0)
  parameters = {
    name: rng.normal(size=array.shape).astype(np.float32)
    for name, array in writer.draw_parameters(network).items()
  }
  (tmp_path / "config.gin").write_text(writer.describe(network))
  writer.write_checkpoint(tmp_path, parameters)

  config, restored = t5x.load_t5x_checkpoint(tmp_path)
  assert models.from_config(config).network == network
  restored = traverse_util.flatten_dict(restored, sep="/")
  assert restored.keys() == parameters.keys()
  for name, array in parameters.items():
    assert array.tobytes() == restored[name].tobytes(), name
