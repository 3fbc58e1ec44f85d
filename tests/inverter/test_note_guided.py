"""Tones of known notes in another inverter's audio."""

import dataclasses

import numpy as np
import pytest

from music_spectrogram_diffusion import audio, inverter, notes
from music_spectrogram_diffusion.inverter import note_tones

CONFIG = audio.SpectrogramConfig()
HOP, RATE = CONFIG.hop_length, CONFIG.sample_rate
SIZES = (4, 32)


class Hiss:
  """Noise as loud as each frame, whatever is asked for."""

  def __init__(self, config=CONFIG):
    self.config = config

  def __call__(self, log_mel, played=None):
    return np.concatenate([*self.stream([log_mel], played)])

  def stream(self, chunks, played=None):
    del played
    rng = np.random.default_rng(0)
    for chunk in chunks:
      noise = rng.normal(size=(len(chunk), self.config.hop_length))
      level = 0.02 * np.exp(np.asarray(chunk).mean(axis=1, keepdims=True))
      yield (level * noise).astype(np.float32).ravel()


BASS = notes.Notes.from_columns(
  [0.1, 0.6, 1.0], [0.55, 1.0, 1.4], [28, 33, 40], [90, 90, 90], 32
)


@pytest.fixture(scope="module")
def guided():
  return inverter.NoteGuidedInverter(Hiss(), block_sizes=SIZES)


@pytest.fixture(scope="module")
def log_mel():
  """Of a bass line, with noise."""
  magnitude = np.full((77, 513), 5.0, np.float32)
  samples = note_tones.NoteTones(BASS, CONFIG).draw(magnitude, -1)
  noise = np.random.default_rng(1).normal(size=samples.shape)
  return audio.log_mel((samples + 1e-3 * noise).astype(np.float32), CONFIG)


def harmonic_share(samples, pitch_hz, start_s, end_s):
  """How much of the power up to 1 kHz lies at multiples of a pitch."""
  part = samples[round(start_s * RATE) : round(end_s * RATE)]
  power = np.square(np.abs(np.fft.rfft(part * np.hanning(len(part)), RATE)))
  hertz = np.arange(20, 600)
  distance = np.abs(hertz / pitch_hz - np.rint(hertz / pitch_hz)) * pitch_hz
  return power[hertz[distance < 5]].sum() / power[hertz].sum()


def test_low_notes_that_the_inverter_loses_are_heard(guided, log_mel):
  told, untold = guided(log_mel, BASS), Hiss()(log_mel)
  for pitch_hz, start_s in ((41.2, 0.15), (55.0, 0.65), (82.4, 1.05)):
    share = harmonic_share(told, pitch_hz, start_s, start_s + 0.3)
    assert share > 0.9
    assert share > 2 * harmonic_share(untold, pitch_hz, start_s, start_s + 0.3)


def test_the_audio_has_the_spectrogram_more_than_the_inner_one_has(
  guided, log_mel
):
  def distance(samples):
    return np.abs(audio.log_mel(samples, CONFIG) - log_mel)[:-1].mean()

  assert distance(guided(log_mel, BASS)) < 0.4 * distance(Hiss()(log_mel))


@pytest.mark.parametrize("size", [1, 5, 33, 70])
def test_streams_are_the_whole_however_frames_are_cut(guided, log_mel, size):
  whole = guided(log_mel, BASS)
  assert whole.shape == (len(log_mel) * HOP,)
  chunks = [log_mel[i : i + size] for i in range(0, len(log_mel), size)]
  streamed = np.concatenate(list(guided.stream(chunks, BASS)))
  np.testing.assert_allclose(streamed, whole, atol=1e-5)


def test_inverters_that_lag_behind_can_be_guided(log_mel):
  slow = inverter.GriffinLim(CONFIG, num_iterations=2, block_frames=16)
  guided = inverter.NoteGuidedInverter(slow, block_sizes=SIZES)
  whole = guided(log_mel, BASS)
  chunks = [log_mel[i : i + 7] for i in range(0, len(log_mel), 7)]
  streamed = np.concatenate(list(guided.stream(chunks, BASS)))
  assert whole.shape == (len(log_mel) * HOP,)
  np.testing.assert_allclose(streamed, whole, atol=1e-5)
  assert harmonic_share(whole, 41.2, 0.15, 0.45) > 0.9


def test_more_refinements_bring_the_spectrogram_nearer(guided, log_mel):
  far, near = (
    np.abs(audio.log_mel(invert(log_mel, BASS), CONFIG) - log_mel)[:-1].mean()
    for invert in (guided, dataclasses.replace(guided, num_refinements=8))
  )
  assert near < 0.8 * far


def test_fewer_refinements_than_none_are_refused():
  with pytest.raises(ValueError, match="num_refinements from 0, got -1"):
    inverter.NoteGuidedInverter(Hiss(), num_refinements=-1)


class Silence(Hiss):
  """No sound at all."""

  def stream(self, chunks, played=None):
    for samples in super().stream(chunks, played):
      yield 0 * samples


def test_no_clicks_at_joins():
  guided = inverter.NoteGuidedInverter(Silence(), block_sizes=SIZES)
  # A steady tone: every frame boundary bends as much as every other.
  tone = notes.Notes.from_columns([0.0], [5.0], [57], [90], 32)
  samples = guided(np.zeros((120, CONFIG.n_mels), np.float32), tone)
  bends = np.diff(samples, 2) ** 2
  starts = np.arange(HOP, len(samples), HOP)
  energies = np.array([bends[i - 3 : i + 2].sum() for i in starts])
  joins = np.arange(SIZES[1], 120, SIZES[1]) - 1
  others = np.delete(energies, joins)[8:-8]
  assert energies[joins].max() <= 1.01 * others.max()
  assert np.median(energies) > 0.1 * others.max()


def test_a_stream_begins_four_frames_after_the_inner_one(guided, log_mel):
  chunks = [log_mel[i : i + 1] for i in range(20)]
  lengths, given = [], 0

  def counted():
    nonlocal given
    for chunk in chunks:
      given += 1
      yield chunk

  for samples in guided.stream(counted(), BASS):
    lengths.append((given, len(samples) // HOP))
  assert lengths[0] == (5, 1)
  assert lengths[-1] == (20, 4)
  assert sum(length for _, length in lengths) == 20


def test_a_note_is_no_louder_than_the_spectrogram_where_it_lies(
  guided, log_mel
):
  wrong = notes.Notes.from_columns([0.1], [1.4], [90], [90], 0)  # 1480 Hz.
  where = audio.mel_matrix(CONFIG)[round(1480 / 15.625)].argmax()
  log_mel = log_mel.copy()
  log_mel[:, where - 8 :] = np.log(1e-3)
  found = audio.log_mel(guided(log_mel, wrong), CONFIG)[10:60]
  assert np.exp(found[:, where]).max() < 4e-3


def test_in_silence_no_note_is_heard(guided):
  silence = np.full((60, CONFIG.n_mels), CONFIG.mel_range[0], np.float32)
  assert np.abs(guided(silence, BASS)).max() < 1e-4


def test_tones_are_brought_into_another_inverter_where_one_is_said(log_mel):
  inner, guided = Hiss(), inverter.GriffinLim(CONFIG, num_iterations=2)
  both = inverter.NoteGuidedInverter(inner, guided)
  expected = inverter.NoteGuidedInverter(guided)(log_mel, BASS)
  np.testing.assert_array_equal(both(log_mel, BASS), expected)
  np.testing.assert_array_equal(both(log_mel), inner(log_mel))


def test_without_notes_the_audio_is_the_inner_one(guided, log_mel):
  drums = dataclasses.replace(BASS, is_drum=np.ones(len(BASS.pitch), bool))
  expected = Hiss()(log_mel)
  for played in (None, drums, BASS[:0]):
    np.testing.assert_array_equal(guided(log_mel, played), expected)


@pytest.mark.parametrize("num_frames", [0, 1])
def test_songs_of_no_frame_or_one_have_as_many_samples(guided, num_frames):
  frames = np.zeros((num_frames, CONFIG.n_mels), np.float32)
  samples = guided(frames, BASS)
  assert samples.shape == (num_frames * HOP,) and np.isfinite(samples).all()


def test_what_is_no_number_is_one_line(guided):
  frames = np.full((5, CONFIG.n_mels), np.nan, np.float32)
  with pytest.raises(ValueError, match="NaN"):
    guided(frames, BASS)


@pytest.mark.parametrize("sizes", [(), (0, 8)])
def test_blocks_without_frames_are_refused(sizes):
  with pytest.raises(ValueError, match="block_sizes"):
    inverter.NoteGuidedInverter(Hiss(), block_sizes=sizes)


def test_frames_that_do_not_overlap_by_half_are_refused():
  config = dataclasses.replace(CONFIG, win_length=800)
  with pytest.raises(ValueError, match="win_length = 800"):
    inverter.NoteGuidedInverter(Hiss(config))


def test_tones_are_not_brought_into_what_has_other_features():
  other = dataclasses.replace(CONFIG, n_mels=64)
  with pytest.raises(ValueError, match="Expected guided to be an inverter of"):
    inverter.NoteGuidedInverter(Hiss(), guided=Hiss(other))
