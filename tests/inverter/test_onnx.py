import sys

import numpy as np
import onnx
import pytest

from music_spectrogram_diffusion import audio, inverter

CONFIG = audio.SpectrogramConfig()
HOP, MEL_BINS = CONFIG.hop_length, CONFIG.n_mels
REACH = 9  # Frames that the network sees to each side.


def write_network(path, *, reach=REACH - 1, name="input_features", hop=HOP):
  """A generator in small: convolution over frames, then upsampling by a hop.

  A sample depends on `reach + 1` frames to both sides.
  """
  rng = np.random.default_rng(0)
  helper = onnx.helper
  arrays = {
    "mix": 0.02 * rng.normal(size=(4, MEL_BINS, 2 * reach + 1)),
    "up": rng.normal(size=(4, 1, 2 * hop)),
  }
  nodes = [
    helper.make_node("Transpose", [name], ["channels"], perm=[0, 2, 1]),
    helper.make_node("Conv", ["channels", "mix"], ["a"], pads=[reach, reach]),
    helper.make_node("Tanh", ["a"], ["b"]),
    helper.make_node(
      "ConvTranspose",
      ["b", "up"],
      ["c"],
      strides=[hop],
      pads=[hop // 2, hop // 2],
    ),
    helper.make_node("Squeeze", ["c", "axis"], ["samples"]),
  ]
  floats = onnx.TensorProto.FLOAT
  graph = helper.make_graph(
    nodes,
    "generator",
    [helper.make_tensor_value_info(name, floats, ["batch", "frames", 128])],
    [helper.make_tensor_value_info("samples", floats, ["batch", "samples"])],
    [
      *(
        onnx.numpy_helper.from_array(array.astype(np.float32), key)
        for key, array in arrays.items()
      ),
      onnx.numpy_helper.from_array(np.array([1], np.int64), "axis"),
    ],
  )
  model = helper.make_model(
    graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]
  )
  onnx.save(model, path)
  return path


@pytest.fixture(scope="module")
def network(tmp_path_factory):
  return write_network(tmp_path_factory.mktemp("onnx") / "model.onnx")


@pytest.fixture(scope="module")
def log_mel():
  rng = np.random.default_rng(1)
  return rng.uniform(*CONFIG.mel_range, (150, MEL_BINS)).astype(np.float32)


def whole(network, log_mel):
  """The network's samples for all frames at once."""
  return inverter.OnnxInverter(network, CONFIG, block_frames=1000)(log_mel)


def test_it_is_an_inverter(network):
  assert isinstance(inverter.OnnxInverter(network, CONFIG), inverter.Inverter)


@pytest.mark.parametrize("num_frames", [1, 15, 16, 40, 64, 65, 79, 150])
def test_joins_are_exact_where_the_overlap_covers_what_the_network_sees(
  network, log_mel, num_frames
):
  invert = inverter.OnnxInverter(
    network, CONFIG, block_frames=16, overlap_frames=REACH
  )
  samples = invert(log_mel[:num_frames])
  assert samples.shape == (num_frames * HOP,)
  np.testing.assert_allclose(
    samples, whole(network, log_mel[:num_frames]), atol=1e-4
  )


def test_joins_show_where_the_overlap_is_too_short(network, log_mel):
  invert = inverter.OnnxInverter(
    network, CONFIG, block_frames=16, overlap_frames=2
  )
  error = np.abs(invert(log_mel) - whole(network, log_mel))
  assert error.max() > 0.01


@pytest.mark.parametrize("cuts", [[], [1, 2, 3], [0, 16, 31, 32, 149], [77]])
def test_samples_do_not_depend_on_how_frames_are_cut(network, log_mel, cuts):
  invert = inverter.OnnxInverter(network, CONFIG, block_frames=32)
  streamed = np.concatenate(list(invert.stream(np.split(log_mel, cuts))))
  np.testing.assert_array_equal(streamed, invert(log_mel))


def test_a_stream_lags_behind_by_a_block_and_what_it_sees(network, log_mel):
  taken = 0

  def frames():
    nonlocal taken
    for frame in log_mel:
      taken += 1
      yield frame[None]

  invert = inverter.OnnxInverter(network, CONFIG, block_frames=32)
  first = next(invert.stream(frames()))
  assert len(first) == 32 * HOP and taken == 32 + invert.overlap_frames


def test_no_frames_are_no_samples(network):
  invert = inverter.OnnxInverter(network, CONFIG)
  assert invert(np.zeros((0, MEL_BINS), np.float32)).shape == (0,)
  assert not list(invert.stream([]))


def test_features_are_given_as_they_are_within_what_audio_reaches(
  network, log_mel
):
  loud = log_mel.copy()
  loud[3] = 1e6
  limited = inverter.check_log_mel(loud, CONFIG)
  np.testing.assert_array_equal(whole(network, loud), whole(network, limited))


def test_a_file_of_something_else_is_named(tmp_path, log_mel):
  path = tmp_path / "model.onnx"
  with pytest.raises(ValueError, match="model.onnx"):
    inverter.OnnxInverter(path, CONFIG)
  path.write_bytes(b"not a network")
  with pytest.raises(ValueError, match="Cannot read .*model.onnx"):
    inverter.OnnxInverter(path, CONFIG)
  write_network(path, name="tokens")
  with pytest.raises(ValueError, match="input_features.*got tokens"):
    inverter.OnnxInverter(path, CONFIG)
  write_network(path, hop=160)
  with pytest.raises(ValueError, match=f"Expected {4 * HOP} samples"):
    inverter.OnnxInverter(path, CONFIG)(log_mel[:4])


def test_an_overlap_that_does_not_fit_into_a_block_is_refused(network):
  with pytest.raises(ValueError, match="got 33 and 32"):
    inverter.OnnxInverter(network, CONFIG, block_frames=32, overlap_frames=33)


def test_a_missing_onnxruntime_is_named(network, monkeypatch):
  monkeypatch.setitem(sys.modules, "onnxruntime", None)
  with pytest.raises(ValueError, match="pip install onnxruntime"):
    inverter.OnnxInverter(network, CONFIG)
