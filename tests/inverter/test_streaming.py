"""Generators as inverters: blocks, joins, and streams of any cut."""

import dataclasses

from hypothesis import example, given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion import audio, inverter
from music_spectrogram_diffusion.inverter import streaming

CONFIG = audio.SpectrogramConfig(
  sample_rate=1_000,
  hop_length=20,
  win_length=40,
  n_fft=64,
  n_mels=6,
  fmax=500.0,
)
HOP, LOW = CONFIG.hop_length, CONFIG.mel_range[0]
SIZES = (4, 8, 16)


@dataclasses.dataclass(frozen=True)
class OverlapAdd(streaming.ConvolutionalGenerator):
  """A generator that looks one frame ahead, and whose frames last for three."""

  reach: tuple[int, int] = (2, 1)

  @property
  def receptive_frames(self):
    return self.reach

  def apply(self, parameters, log_mel):
    loud = jnp.exp(log_mel)
    ahead = jnp.pad(loud, ((0, 0), (0, 1), (0, 0)))[:, 1:]
    frames = jnp.tanh((loud - 2 * ahead) @ parameters)
    longer = dataclasses.replace(CONFIG, win_length=3 * HOP)
    samples = inverter.stft.overlap_add(frames, longer)
    return samples[:, : log_mel.shape[1] * HOP]


def make_seanet():
  generator = inverter.SeaNet(spectrogram=CONFIG, channels=2, strides=(5, 4))
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(generator.init, jax.random.key(0))
  parameters = jax.tree.map(
    lambda leaf: jnp.asarray(0.4 * rng.normal(size=leaf.shape), leaf.dtype),
    shapes,
  )
  return inverter.NeuralInverter(CONFIG, generator, parameters, SIZES)


def make_overlap_add():
  kernel = np.random.default_rng(0).normal(size=(CONFIG.n_mels, 3 * HOP))
  parameters = jnp.asarray(0.05 * kernel, jnp.float32)
  return inverter.NeuralInverter(CONFIG, OverlapAdd(), parameters, SIZES)


def make_vocoder():
  generator = inverter.SinusoidVocoder(
    spectrogram=CONFIG, channels=4, num_blocks=1, expansion=2
  )
  rng = np.random.default_rng(0)
  parameters = jax.tree.map(
    lambda leaf: leaf + jnp.asarray(0.1 * rng.normal(size=leaf.shape), "f4"),
    generator.init(jax.random.key(0)),
  )
  return inverter.NeuralInverter(CONFIG, generator, parameters, SIZES)


INVERTERS = {
  "seanet": make_seanet(),
  "overlap-add": make_overlap_add(),
  "vocoder": make_vocoder(),
}
every_inverter = pytest.mark.parametrize("name", INVERTERS)


def music(num_frames):
  rng = np.random.default_rng(num_frames)
  shape = (num_frames, CONFIG.n_mels)
  return rng.uniform(*CONFIG.mel_range, shape).astype(np.float32)


def applied(invert, log_mel):
  """The generator's samples for all frames at once, between silence."""
  silence, num_frames = 10, len(log_mel)
  padded = np.full((80, CONFIG.n_mels), LOW, np.float32)
  padded[silence:][:num_frames] = log_mel
  samples = jax.jit(invert.generator.apply)(invert.parameters, padded[None])
  return np.asarray(samples)[0, silence * HOP :][: num_frames * HOP]


cuts = st.lists(st.integers(0, 60), max_size=12).map(sorted)


@settings(max_examples=60)
@given(st.integers(0, 60), cuts, st.integers(0, 9), st.integers(0, 9))
@example(0, [0, 0], 2, 2)
def test_blocks_hold_every_frame_once_between_its_neighbours(
  num_frames, cuts, before, after
):
  frames = np.arange(num_frames, dtype=np.float32)[:, None]
  position = 0
  for block in streaming.cut_into_overlapping_blocks(
    np.split(frames, cuts), sizes=SIZES, before=before, after=after
  ):
    assert 1 <= block.num_frames <= (16 if position else 4)
    end = position + block.num_frames
    assert block.start == min(before, position)
    np.testing.assert_array_equal(
      block.log_mel, frames[position - block.start : end + after]
    )
    position = end
  assert position == num_frames


@pytest.mark.parametrize(
  ("available", "taken"),
  [
    (1, 1),
    (3, 3),
    (4, 4),
    (5, 5),
    (8, 8),
    (9, 9),
    (12, 12),
    (16, 16),
    (40, 16),
  ],
)
def test_where_neighbours_cost_much_blocks_are_filled_up(available, taken):
  assert streaming.frames_of_block(available, SIZES, around=10) == taken


@pytest.mark.parametrize(
  ("available", "taken"), [(3, 3), (5, 5), (9, 8), (12, 8), (13, 13), (17, 16)]
)
def test_where_neighbours_cost_little_blocks_are_cut_off(available, taken):
  assert streaming.frames_of_block(available, SIZES, around=1) == taken


def test_a_stream_of_segments_needs_the_smallest_blocks_alone():
  # As a model of segments that overlap by 16 frames gives them.
  before, after, size = 24, 23, 217
  chunks = [np.zeros((240, 1), np.float32)] * 30
  blocks = list(
    streaming.cut_into_overlapping_blocks(
      chunks, sizes=(size, 4 * size), before=before, after=after
    )
  )
  assert max(block.num_frames for block in blocks) == size
  [*_, last] = streaming.cut_into_overlapping_blocks(
    [np.concatenate(chunks)], sizes=(size, 4 * size), before=before, after=after
  )
  assert last.num_frames <= size


@given(st.lists(st.integers(1, 30), min_size=1, max_size=10))
def test_no_more_frames_wait_than_the_smallest_block_and_what_it_sees(lengths):
  given_frames = done = 0

  def chunks():
    nonlocal given_frames
    for length in lengths:
      assert given_frames - done < 4 + 3
      given_frames += length
      yield np.zeros((length, 1), np.float32)

  for block in streaming.cut_into_overlapping_blocks(
    chunks(), sizes=SIZES, before=2, after=3
  ):
    done += block.num_frames
  assert done == given_frames


@every_inverter
def test_a_generator_becomes_an_inverter(name):
  assert isinstance(INVERTERS[name], inverter.Inverter)


@every_inverter
@settings(max_examples=30)
@given(num_frames=st.integers(0, 60), cuts=cuts)
@example(num_frames=1, cuts=[])
@example(num_frames=50, cuts=list(range(50)))
def test_streams_of_any_cut_give_the_samples_of_the_whole(
  name, num_frames, cuts
):
  invert, log_mel = INVERTERS[name], music(num_frames)
  whole = invert(log_mel)
  streamed = list(invert.stream(np.split(log_mel, cuts)))
  assert whole.shape == (num_frames * HOP,) and whole.dtype == np.float32
  np.testing.assert_allclose(
    np.concatenate([whole[:0], *streamed]), whole, atol=1e-4
  )


@pytest.mark.parametrize("name", ["seanet", "overlap-add"])
@pytest.mark.parametrize("num_frames", [1, 21, 55])
def test_blocks_give_the_samples_of_the_generator_between_silence(
  name, num_frames
):
  invert, log_mel = INVERTERS[name], music(num_frames)
  expected = applied(invert, log_mel)
  assert np.abs(expected).std() > 0.01
  np.testing.assert_allclose(invert(log_mel), expected, atol=1e-4)


def test_joins_show_where_the_bookkeeping_is_a_frame_short():
  for reach in ((1, 1), (2, 0)):
    invert = INVERTERS["overlap-add"]
    short = dataclasses.replace(invert, generator=OverlapAdd(reach))
    error = np.abs(short(music(40)) - invert(music(40)))
    assert error.max() > 0.01


@every_inverter
def test_no_clicks_at_joins(name):
  log_mel = np.full((16 * 12 + 4, CONFIG.n_mels), LOW, np.float32)
  # A steady sound: every frame boundary bends as much as every other.
  log_mel += np.linspace(2.0, 9.0, CONFIG.n_mels, dtype=np.float32)
  samples = INVERTERS[name](log_mel)
  bends = np.diff(samples, 2) ** 2
  starts = np.arange(HOP, len(samples), HOP)
  energies = np.array([bends[i - 3 : i + 2].sum() for i in starts])
  joins = np.arange(4, len(log_mel), 16) - 1  # After the first, short block.
  others = np.delete(energies, joins)[12:-12]
  assert energies[joins][1:-1].max() <= 1.01 * others.max()
  assert others.max() > 0


def test_the_first_samples_come_with_the_first_small_block():
  taken = 0

  def frames():
    nonlocal taken
    for frame in music(40):
      taken += 1
      yield frame[None]

  first = next(INVERTERS["overlap-add"].stream(frames()))
  assert len(first) == 4 * HOP and taken == 4 + 1


def test_other_parameters_need_no_other_program():
  invert = INVERTERS["overlap-add"]
  invert(music(30))
  compiled = streaming._invert._cache_size()
  other = dataclasses.replace(invert, parameters=2 * invert.parameters)
  assert not np.allclose(other(music(30)), invert(music(30)))
  assert streaming._invert._cache_size() == compiled


@every_inverter
def test_values_beyond_what_audio_reaches_are_limited(name):
  log_mel = music(5)
  log_mel[1], log_mel[3] = 1e9, -np.inf
  limited = inverter.check_log_mel(log_mel, CONFIG)
  invert = INVERTERS[name]
  np.testing.assert_array_equal(invert(log_mel), invert(limited))
  assert np.isfinite(invert(log_mel)).all()


@every_inverter
def test_nan_and_a_wrong_number_of_bins_are_refused(name):
  broken = music(30)
  broken[20, 2] = np.nan
  with pytest.raises(ValueError, match="NaN"):
    INVERTERS[name](broken)
  with pytest.raises(ValueError, match="6 bins a frame, got 5"):
    INVERTERS[name](broken[:, :5])


def test_a_generator_of_another_hop_is_refused():
  generator = inverter.SeaNet(
    spectrogram=dataclasses.replace(CONFIG, hop_length=10),
    channels=1,
    strides=(5, 2),
  )
  parameters = jax.eval_shape(generator.init, jax.random.key(0))
  with pytest.raises(ValueError, match="Expected a generator of 20 samples"):
    inverter.NeuralInverter(CONFIG, generator, parameters)


@pytest.mark.parametrize("sizes", [(), (0, 16)])
def test_blocks_without_frames_are_refused(sizes):
  invert = INVERTERS["overlap-add"]
  with pytest.raises(ValueError, match="1 frame or more"):
    dataclasses.replace(invert, block_sizes=sizes)
