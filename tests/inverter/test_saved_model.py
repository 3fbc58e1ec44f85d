"""SavedModels with the signatures of the published inverter."""

import sys

import numpy as np
import pytest

from music_spectrogram_diffusion import audio, inverter

tf = pytest.importorskip("tensorflow")

CONFIG = audio.SpectrogramConfig()
HOP, MEL_BINS = CONFIG.hop_length, CONFIG.n_mels
REACH = 3  # Frames that the network sees to each side.


class Network(tf.Module):
  """A generator in small: a convolution over frames, a hop of samples each."""

  def __init__(self, hop=HOP):
    super().__init__()
    rng = np.random.default_rng(0)
    self.kernel = tf.Variable(
      0.02 * rng.normal(size=(2 * REACH + 1, MEL_BINS, hop)), dtype=tf.float32
    )

  def samples(self, log_mel):
    hops = tf.tanh(tf.nn.conv1d(log_mel, self.kernel, 1, "SAME"))
    return tf.reshape(hops, [tf.shape(log_mel)[0], -1])


FRAMES = tf.TensorSpec([None, None, MEL_BINS], tf.float32, "mel")


class Callable(Network):
  """As published: the model is a function."""

  @tf.function(input_signature=[FRAMES])
  def __call__(self, log_mel):
    return self.samples(log_mel)


class Served(Network):
  """No function; a signature alone."""

  @tf.function(input_signature=[FRAMES])
  def serve(self, log_mel):
    return {"audio": self.samples(log_mel)}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
  """Directories of a callable and of a served network, with equal weights."""
  folder = tmp_path_factory.mktemp("saved_models")
  called, served = folder / "callable", folder / "served"
  tf.saved_model.save(Callable(), str(called))
  network = Served()
  tf.saved_model.save(network, str(served), signatures=network.serve)
  return {"callable": called, "served": served}


@pytest.fixture(scope="module")
def log_mel():
  rng = np.random.default_rng(1)
  return rng.uniform(*CONFIG.mel_range, (70, MEL_BINS)).astype(np.float32)


@pytest.mark.parametrize("kind", ["callable", "served"])
@pytest.mark.parametrize("num_frames", [1, 16, 17, 70])
def test_blocks_give_the_samples_of_the_network(
  paths, log_mel, kind, num_frames
):
  expected = Network().samples(log_mel[None, :num_frames])[0]
  invert = inverter.SavedModelInverter(
    paths[kind], CONFIG, block_frames=16, overlap_frames=REACH
  )
  assert isinstance(invert, inverter.Inverter)
  samples = invert(log_mel[:num_frames])
  assert samples.shape == (num_frames * HOP,) and samples.dtype == np.float32
  np.testing.assert_allclose(samples, expected, atol=1e-4)


def test_samples_do_not_depend_on_how_frames_are_cut(paths, log_mel):
  invert = inverter.SavedModelInverter(paths["callable"], CONFIG)
  streamed = list(invert.stream(np.split(log_mel, [0, 1, 2, 50])))
  np.testing.assert_array_equal(np.concatenate(streamed), invert(log_mel))
  assert invert(log_mel[:0]).shape == (0,)


def test_what_is_not_an_inverter_is_named(tmp_path, log_mel):
  with pytest.raises(ValueError, match="SavedModel at .*nothing, got no"):
    inverter.SavedModelInverter(tmp_path / "nothing", CONFIG)
  broken = tmp_path / "broken"
  broken.mkdir()
  (broken / "saved_model.pb").write_bytes(b"not a model")
  with pytest.raises(ValueError, match="Cannot read .*broken"):
    inverter.SavedModelInverter(broken, CONFIG)
  other = tmp_path / "other"
  tf.saved_model.save(Network(), str(other))
  with pytest.raises(ValueError, match="Expected a function.*other; got nei"):
    inverter.SavedModelInverter(other, CONFIG)
  slow = tmp_path / "slow"
  tf.saved_model.save(Callable(hop=HOP // 2), str(slow))
  with pytest.raises(ValueError, match=f"Expected {4 * HOP} samples.*slow"):
    inverter.SavedModelInverter(slow, CONFIG)(log_mel[:4])


def test_a_missing_tensorflow_is_named(paths, monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorflow", None)
  with pytest.raises(ValueError, match="pip install tensorflow"):
    inverter.SavedModelInverter(paths["callable"], CONFIG)
