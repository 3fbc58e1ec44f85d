"""ONNX files with the inputs and outputs of CLAP."""

import sys

import numpy as np
import onnx
import pytest

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.evaluation import clap_embedding, embeddings

# CLAP's own rate, so that nothing is resampled.
CONFIG = audio.SpectrogramConfig(sample_rate=48_000, hop_length=960)
RATE = 48_000


def write_network(
  path, name="input_features", shape=("batch", 1, 1001, 64), output_dims=512
):
  """The mean features over time, each of them several times."""
  repeats = np.tile(np.eye(64, dtype=np.float32), output_dims // 64)
  helper, floats = onnx.helper, onnx.TensorProto.FLOAT
  nodes = [
    helper.make_node("ReduceMean", [name], ["m"], axes=[1, 2], keepdims=0),
    helper.make_node("MatMul", ["m", "repeats"], ["audio_embeds"]),
  ]
  graph = helper.make_graph(
    nodes,
    "clap",
    [helper.make_tensor_value_info(name, floats, shape)],
    [helper.make_tensor_value_info("audio_embeds", floats, ["batch", "dims"])],
    [onnx.numpy_helper.from_array(repeats, "repeats")],
  )
  onnx.save(
    helper.make_model(
      graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]
    ),
    path,
  )
  return path


@pytest.fixture(scope="module")
def network(tmp_path_factory):
  return write_network(tmp_path_factory.mktemp("clap") / "tiny.onnx")


@pytest.fixture(scope="module")
def samples():
  rng = np.random.default_rng(0)
  return (0.1 * rng.normal(size=12 * RATE + 100)).astype(np.float32)


def test_windows_of_ten_seconds_begin_each_second(network, samples):
  embed = embeddings.find_embedding(f"clap={network}", CONFIG)
  assert isinstance(embed, embeddings.Embedding)
  assert embed.name == "clap:tiny.onnx"
  found = embed(samples)
  assert found.shape == (3, 512) and found.dtype == np.float32
  for second, embedding in enumerate(found):
    window = samples[second * RATE : (second + 10) * RATE]
    expected = np.tile(clap_embedding.log_mel(window).mean(axis=0), 8)
    np.testing.assert_allclose(embedding, expected, rtol=1e-4)


def test_short_audio_is_repeated_to_fill_a_window(network, samples):
  embed = embeddings.find_embedding(f"clap={network}", CONFIG)
  short = samples[: 4 * RATE]
  filled = np.concatenate([short, short, np.zeros(2 * RATE, np.float32)])
  np.testing.assert_array_equal(embed(short), embed(filled))
  assert embed(samples[:0]).shape == (0, 512)


def test_audio_is_resampled(network):
  embed = embeddings.find_embedding(f"clap={network}")
  assert len(embed(np.zeros(11 * 16_000, np.float32))) == 2


def test_features_of_silence_lie_at_the_floor():
  features = clap_embedding.log_mel(np.zeros(10 * RATE, np.float32))
  assert features.shape == (1001, 64)
  np.testing.assert_array_equal(features, -100)


def test_an_impulse_is_as_strong_in_every_wide_bin():
  impulse = np.zeros(10 * RATE, np.float32)
  impulse[480 * 500] = 1  # The middle of frame 500, where the window is 1.
  features = clap_embedding.log_mel(impulse)
  # Triangles of area 1 over bins of rate / 1024 Hz. Narrow ones hold few bins.
  expected = 10 * np.log10(1024 / RATE)
  np.testing.assert_allclose(features[500, 40:], expected, atol=0.15)
  np.testing.assert_array_equal(features[:498], -100)


def test_a_tone_lies_in_its_bin():
  tone = np.sin(2 * np.pi * 1000 / RATE * np.arange(10 * RATE))
  features = clap_embedding.log_mel(tone.astype(np.float32))
  # Slaney's scale: 1000 Hz is mel 15, of 66 edges between 0.75 and 53.4.
  top = 15 + 27 * np.log(14) / np.log(6.4)
  expected = 15 - 0.75, (top - 0.75) / 65
  assert features[500].argmax() == round(expected[0] / expected[1]) - 1


def test_what_is_no_clap_is_named(tmp_path, samples):
  def find(path):
    return embeddings.find_embedding(f"clap={path}", CONFIG)

  (tmp_path / "broken.onnx").write_bytes(b"not a model")
  with pytest.raises(ValueError, match="Cannot read .*broken.onnx"):
    find(tmp_path / "broken.onnx")
  named = write_network(tmp_path / "named.onnx", name="waveform")
  with pytest.raises(ValueError, match="from input_features.*from waveform to"):
    find(named)
  fused = write_network(tmp_path / "fused.onnx", shape=("batch", 4, 1001, 64))
  with pytest.raises(ValueError, match=r"1, 1001, 64\].*fused.*4, 1001, 64\]"):
    find(fused)
  narrow = write_network(tmp_path / "narrow.onnx", output_dims=128)
  with pytest.raises(ValueError, match=r"\[1, 512\], got \[1, 128\]"):
    find(narrow)(samples)


def test_a_missing_onnxruntime_is_named(network, monkeypatch):
  monkeypatch.setitem(sys.modules, "onnxruntime", None)
  with pytest.raises(ValueError, match="pip install onnxruntime"):
    clap_embedding.load_clap(network, CONFIG)
