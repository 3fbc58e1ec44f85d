"""SavedModels with the signatures of VGGish and TRILL."""

import sys
import types

import numpy as np
import pytest

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.evaluation import (
  embeddings,
  saved_model_embeddings,
)

tf = pytest.importorskip("tensorflow")

CONFIG = audio.SpectrogramConfig()
SAMPLES = tf.TensorSpec([None], tf.float32)
SECONDS = 7


def framed(samples, seconds, hop_seconds, dims):
  """Energies of 10 ms steps in windows, times a fixed matrix."""
  energies = tf.reduce_mean(
    tf.square(tf.signal.frame(samples, 400, 160)), axis=-1
  )
  windows = tf.signal.frame(
    energies, round(100 * seconds), round(100 * hop_seconds)
  )
  matrix = np.random.default_rng(0).normal(size=(round(100 * seconds), dims))
  return tf.matmul(windows, tf.constant(matrix, tf.float32))


class Vggish(tf.Module):
  """As published: a function of a waveform; frames are cut inside it."""

  dims = 128

  @tf.function(input_signature=[SAMPLES])
  def __call__(self, waveform):
    return framed(waveform, 0.96, 0.96, self.dims)


class Trill(tf.Module):
  """As published: samples and their rate by name, two layers by name."""

  @tf.function(input_signature=[SAMPLES, tf.TensorSpec([], tf.int32)])
  def __call__(self, samples, sample_rate):
    tf.debugging.assert_equal(sample_rate, 16_000)
    return {
      "embedding": framed(samples, 0.96, 0.17, 512),
      "layer19": framed(samples, 0.96, 0.17, 4),
    }


class Nameless(tf.Module):
  """Has another output."""

  @tf.function(input_signature=[SAMPLES, tf.TensorSpec([], tf.int32)])
  def __call__(self, samples, sample_rate):
    return {"layer19": framed(samples, 0.96, 0.17, 4)}


class Narrow(Vggish):
  """Gives embeddings of another size."""

  dims = 3


class Mute(tf.Module):
  """Is no function."""

  def __init__(self):
    super().__init__()
    self.variable = tf.Variable(0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("saved_models")
  for kind in (Vggish, Trill, Nameless, Narrow, Mute):
    tf.saved_model.save(kind(), str(folder / kind.__name__))
  return folder


@pytest.fixture(scope="module")
def samples():
  rng = np.random.default_rng(1)
  return rng.normal(size=SECONDS * 16_000).astype(np.float32)


@pytest.mark.parametrize("block", [2, 3, 64])
def test_vggish_gives_the_model_s_embeddings_however_it_is_fed(
  folder, samples, block, monkeypatch
):
  monkeypatch.setattr(saved_model_embeddings, "_BLOCK_EMBEDDINGS", block)
  embed = embeddings.find_embedding(f"vggish={folder / 'Vggish'}")
  assert isinstance(embed, embeddings.Embedding) and embed.name == "vggish"
  found = embed(samples)
  assert found.shape == (SECONDS, 128) and found.dtype == np.float32
  np.testing.assert_allclose(found, Vggish()(samples), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  "num_samples, expected", [(0, 0), (15_599, 0), (15_600, 1), (30_960, 2)]
)
def test_vggish_embeds_whole_windows(folder, samples, num_samples, expected):
  embed = embeddings.find_embedding(f"vggish={folder / 'Vggish'}")
  assert embed(samples[:num_samples]).shape == (expected, 128)


def test_trill_gives_its_embedding_layer_some_six_times_a_second(
  folder, samples
):
  embed = embeddings.find_embedding(f"trill={folder / 'Trill'}")
  assert isinstance(embed, embeddings.Embedding) and embed.name == "trill"
  found = embed(samples)
  expected = Trill()(samples, tf.constant(16_000))["embedding"]
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
  assert found.shape == (36, 512)
  assert embed(samples[:0]).shape == (0, 512)


def test_audio_of_another_rate_is_resampled(folder):
  config = audio.SpectrogramConfig(sample_rate=32_000, hop_length=640)
  tone = np.sin(0.05 * np.arange(64_000, dtype=np.float32))
  vggish = saved_model_embeddings.load_vggish
  slow = vggish(str(folder / "Vggish"), CONFIG)(tone[::2].copy())
  fast = vggish(str(folder / "Vggish"), config)(tone)
  np.testing.assert_allclose(fast, slow, atol=0.05)


def test_damaged_audio_is_named(folder, samples):
  embed = embeddings.find_embedding(f"trill={folder / 'Trill'}")
  with pytest.raises(ValueError, match="finite audio.*at 0.00 s"):
    embed(np.full(100, np.inf, np.float32))


def test_a_handle_is_loaded_by_tensorflow_hub(folder, samples, monkeypatch):
  handle = "https://tfhub.dev/google/vggish/1"
  monkeypatch.setitem(sys.modules, "tensorflow_hub", None)
  with pytest.raises(ValueError, match="Expected tensorflow_hub.*vggish=DIR"):
    embeddings.find_embedding(f"vggish={handle}")
  hub = types.SimpleNamespace(load={handle: Vggish()}.__getitem__)
  monkeypatch.setitem(sys.modules, "tensorflow_hub", hub)
  embed = embeddings.find_embedding(f"vggish={handle}")
  np.testing.assert_allclose(embed(samples), Vggish()(samples), rtol=1e-5)
  with pytest.raises(ValueError, match="Cannot read vggish in https://other"):
    embeddings.find_embedding("vggish=https://other")


def test_what_is_another_model_is_named(folder, samples, tmp_path):
  (tmp_path / "saved_model.pb").write_bytes(b"not a model")
  with pytest.raises(ValueError, match="Cannot read trill in"):
    embeddings.find_embedding(f"trill={tmp_path}")
  with pytest.raises(ValueError, match="that is a function.*Mute"):
    embeddings.find_embedding(f"vggish={folder / 'Mute'}")
  narrow = embeddings.find_embedding(f"vggish={folder / 'Narrow'}")
  with pytest.raises(ValueError, match=r"\[time, 128\], got \[7, 3\]"):
    narrow(samples)
  nameless = embeddings.find_embedding(f"trill={folder / 'Nameless'}")
  with pytest.raises(ValueError, match="output `embedding`.*got layer19"):
    nameless(samples)


def test_a_missing_tensorflow_is_named(folder, monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorflow", None)
  with pytest.raises(ValueError, match="TensorFlow, to run vggish; pip"):
    embeddings.find_embedding(f"vggish={folder / 'Vggish'}")
