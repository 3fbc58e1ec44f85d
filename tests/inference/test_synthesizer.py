import dataclasses
import types

import jax
import numpy as np
import pytest

from music_spectrogram_diffusion import (
  audio,
  checkpoints,
  diffusion,
  inference,
  inverter,
  models,
  notes,
)
from music_spectrogram_diffusion.inference import devices
from music_spectrogram_diffusion.inference import synthesizer as module

MEL_BINS, FRAMES = 16, 64
CONFIG = audio.SpectrogramConfig(n_mels=MEL_BINS)
SEGMENT_S = FRAMES / 50
MODEL = models.DiffusionModel(
  network=models.aligned_network(
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=16,
    num_encoder_layers=1,
    num_decoder_layers=1,
    segment_frames=FRAMES,
    max_tokens=128,
    max_notes=16,
  ),
  spectrogram=CONFIG,
  parameterization=diffusion.parameterization.EDM(
    mean=np.full(MEL_BINS, 0.4, np.float32),
    deviation=np.full(MEL_BINS, 0.3, np.float32),
  ),
  sampling=models.SamplingConfig(
    sampler="ddim", num_steps=2, guidance_weight=1.5, end_time=0.5
  ),
)


def random_parameters(model):
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    values = rng.normal(0, 0.3, leaf.shape).astype(np.float32)
    return values + np.float32(path[-1].key == "scale")

  shapes = jax.eval_shape(model.init, jax.random.key(0))
  return jax.tree_util.tree_map_with_path(draw, shapes)


def save(path, model=MODEL):
  config = {"model": models.to_config(model)}
  checkpoints.save_model_directory(path, config, random_parameters(model))


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory):
  path = tmp_path_factory.mktemp("model")
  save(path)
  return path


@pytest.fixture(scope="module")
def synthesizer(model_directory):
  """A random model with a quick inverter."""
  loaded = inference.Synthesizer.from_pretrained(model_directory)
  quick = inverter.GriffinLim(
    loaded.model.spectrogram, num_iterations=2, block_frames=FRAMES
  )
  return dataclasses.replace(loaded, inverter=quick)


def song(pitches=(60, 64, 67), program=0):
  """Notes of 0.8 s, one a second: 3 segments with the tail."""
  onset = np.arange(len(pitches))
  return notes.Notes.from_columns(onset, onset + 0.8, pitches, 90, program)


@pytest.fixture(scope="module")
def rendered(synthesizer):
  return synthesizer(song())


def test_the_song_is_as_long_as_its_notes_and_the_tail(synthesizer, rendered):
  assert rendered.dtype == np.float32
  assert len(rendered) == round((2.8 + module.TAIL_S) * 16_000)
  assert np.isfinite(rendered).all() and np.abs(rendered).max() > 1e-4


def test_a_stream_is_the_whole_bit_for_bit(synthesizer, rendered):
  segments = list(synthesizer.stream(song()))
  whole = np.concatenate([segment.samples for segment in segments])
  np.testing.assert_array_equal(whole, rendered)
  assert {segment.num_segments for segment in segments} == {3}
  assert [segment.index for segment in segments][:3] == [0, 1, 2]
  log_mel = np.concatenate([segment.log_mel for segment in segments])
  assert log_mel.shape == (3 * FRAMES, MEL_BINS)
  np.testing.assert_array_equal(log_mel, synthesizer.log_mel(song()))


def test_inverters_are_told_the_notes_as_the_model_knows_them(synthesizer):
  told = []

  class Listening(inverter.GriffinLim):
    def stream(self, chunks, played=None):
      told.append(played)
      return super().stream(chunks)

  quick = Listening(synthesizer.spectrogram_config, num_iterations=1)
  dataclasses.replace(synthesizer, inverter=quick)(song(program=1))
  (played,) = told
  np.testing.assert_array_equal(played.pitch, [60, 64, 67])
  np.testing.assert_array_equal(played.program, 0)  # The class of pianos.


def test_a_stream_generates_no_further_than_it_is_read(
  synthesizer, monkeypatch
):
  calls = []
  predict = models.DiffusionModel.predict

  def counting(self, *args, **kwargs):
    calls.append(args)
    return predict(self, *args, **kwargs)

  monkeypatch.setattr(models.DiffusionModel, "predict", counting)
  stream = synthesizer.stream(song())
  assert not calls
  first = next(stream)
  assert (len(calls), first.index) == (1, 0)
  assert len(first.samples) > 0.9 * FRAMES * 320


def test_a_seed_gives_the_same_audio_and_another_seed_other(
  synthesizer, rendered
):
  np.testing.assert_array_equal(synthesizer(song(), seed=0), rendered)
  other = synthesizer(song(), seed=1)
  assert np.abs(other - rendered).max() > 1e-3


def test_the_notes_are_heard(synthesizer):
  log_mel = [
    synthesizer.log_mel(song(pitches=(60, 64, pitch))) for pitch in (67, 68)
  ]
  changed = np.abs(log_mel[0] - log_mel[1]).max(axis=1) > 1e-3
  # The third note begins in the second segment, at 2 s.
  assert not changed[:FRAMES].any() and changed[FRAMES:].any()


def test_segments_have_noise_of_their_own(synthesizer, monkeypatch):
  keys = []
  predict = models.DiffusionModel.predict

  def recording(self, parameters, tokens, context, mask, key, **settings):
    keys.append(tuple(jax.random.key_data(key)[0].tolist()))
    return predict(self, parameters, tokens, context, mask, key, **settings)

  monkeypatch.setattr(models.DiffusionModel, "predict", recording)
  for seed in (0, 1):
    synthesizer.log_mel(song(), seed=seed)
  assert len(set(keys)) == len(keys) == 6


def test_a_segment_hears_the_one_before_as_its_context(synthesizer):
  # The songs differ in their first segment alone.
  log_mel = [
    synthesizer.log_mel(song(pitches=(pitch, 64, 67))) for pitch in (60, 72)
  ]
  first, second, third = np.split(np.abs(log_mel[0] - log_mel[1]), 3)
  assert first.max() > 1e-2 and second.max() > 1e-3 and third.max() > 0


def test_context_is_a_generated_mel_with_a_full_mask_but_empty_at_first(
  synthesizer, monkeypatch
):
  contexts = []
  predict = models.DiffusionModel.predict

  def recording(self, parameters, tokens, context, mask, key, **settings):
    contexts.append((np.asarray(context[0]), np.asarray(mask[0])))
    return predict(self, parameters, tokens, context, mask, key, **settings)

  monkeypatch.setattr(models.DiffusionModel, "predict", recording)
  log_mel = synthesizer.log_mel(song()).reshape(3, FRAMES, MEL_BINS)
  (_, first), *later = contexts
  assert not first.any()
  for (context, mask), before in zip(later, log_mel[:2], strict=True):
    assert mask.all()
    np.testing.assert_array_equal(context, before)


def test_programs_are_played_by_the_instruments_that_models_know(
  synthesizer, rendered
):
  # 3 is a piano as 0 is; 5 is an electric piano as 4 is.
  np.testing.assert_array_equal(synthesizer(song(program=3)), rendered)
  electric = synthesizer(song(program=4))
  np.testing.assert_array_equal(synthesizer(song(program=5)), electric)
  assert np.abs(electric - rendered).max() > 1e-4


def test_a_file_and_a_note_sequence_are_as_good_as_notes(
  synthesizer, rendered, tmp_path
):
  path = tmp_path / "song.mid"
  notes.write_midi(song(), path)
  np.testing.assert_array_equal(synthesizer(path), rendered)
  np.testing.assert_array_equal(synthesizer(str(path)), rendered)
  rows = [
    types.SimpleNamespace(
      start_time=float(i),
      end_time=i + 0.8,
      pitch=pitch,
      velocity=90,
      program=0,
      is_drum=False,
      instrument=0,
    )
    for i, pitch in enumerate((60, 64, 67))
  ]
  sequence = types.SimpleNamespace(
    notes=rows, control_changes=[], total_time=2.8
  )
  np.testing.assert_array_equal(synthesizer(sequence), rendered)


def test_no_notes_are_the_tail_alone(synthesizer):
  samples = synthesizer(notes.Notes.from_columns([], [], [], []))
  assert len(samples) == round(module.TAIL_S * 16_000)
  assert np.isfinite(samples).all()


def test_more_notes_than_fit_are_thinned_with_a_warning(synthesizer):
  onset = np.arange(100) / 100
  crowd = notes.Notes.from_columns(onset, onset + 0.5, np.arange(100) + 20, 90)
  with pytest.warns(UserWarning, match="Left out .* 128 tokens or 16 notes"):
    samples = synthesizer(crowd)
  assert len(samples) == round((1.49 + module.TAIL_S) * 16_000)


def test_settings_reach_the_sampler(synthesizer, rendered):
  assert synthesizer.defaults == {
    "steps": 2,
    "sampler": "ddim",
    "guidance": 1.5,
    "end_time": 0.5,
    "spacing": "time",
    "guidance_interval": (0.0, 1.0),
    "overlap": 0,
    "seed": 0,
  }
  once = synthesizer(song(), steps=1, guidance=1.0)
  assert np.abs(once - rendered).max() > 1e-4


def test_outside_of_the_interval_nothing_is_guided(synthesizer):
  # The steps are made at times 1 and 0.75.
  without = synthesizer.log_mel(song((60,)), guidance=1.0)
  outside = synthesizer.log_mel(song((60,)), guidance_interval=(0.1, 0.6))
  np.testing.assert_array_equal(outside, without)
  part = synthesizer.log_mel(song((60,)), guidance_interval=(0.7, 0.8))
  whole = synthesizer.log_mel(song((60,)))
  for other in (without, whole):
    assert np.abs(part - other).max() > 1e-3


@pytest.mark.parametrize(
  ("settings", "said"),
  [
    ({"sampler": "euler"}, "Expected a sampler of ddpm, .*; got 'euler'"),
    ({"spacing": "log"}, "Expected a spacing of time, .*; got 'log'"),
    ({"steps": 0}, "Expected at least 1 sampling step, got 0"),
    ({"steps": -2}, "Expected at least 1 sampling step, got -2"),
    ({"guidance": float("nan")}, "Expected a finite guidance weight, got nan"),
    ({"guidance_interval": (0.7, 0.3)}, "the lower one first; got 0.7, 0.3"),
    ({"guidance_interval": (float("nan"), 1.0)}, "guidance_interval"),
    ({"overlap": -1}, "Expected overlap_frames of 0 or more, got -1"),
    ({"overlap": 33}, "Expected an overlap of 0 to 32 frames, .*; got 33"),
    ({"end_time": 1.0}, "Expected an end_time from 0 to below 1, got 1.0"),
    ({"seed": -1}, "Expected a seed from 0 to 4294967295, got -1"),
    ({"seed": 2**32}, "Expected a seed from 0 to 4294967295"),
  ],
)
def test_a_setting_out_of_range_is_an_error(synthesizer, settings, said):
  with pytest.raises(ValueError, match=said):
    synthesizer(song(), **settings)


def test_segments_overlap_by_what_the_model_says_and_are_crossfaded(
  synthesizer, monkeypatch
):
  # A model whose segments are each as loud as their number, all over.
  contexts = []

  def predict(self, parameters, tokens, context, mask, keys, **settings):
    assert "overlap_frames" not in settings
    contexts.append(np.asarray(context[0])[np.asarray(mask[0])])
    return np.full(context.shape, -float(len(contexts)), np.float32)

  monkeypatch.setattr(models.DiffusionModel, "predict", predict)
  overlap = 16
  hop = FRAMES - overlap
  sampling = dataclasses.replace(MODEL.sampling, overlap_frames=overlap)
  model = dataclasses.replace(MODEL, sampling=sampling)
  overlapping = dataclasses.replace(synthesizer, model=model)
  log_mel = overlapping.log_mel(song())[:, 0]

  # 190 frames: 64, and then 48 more with each segment.
  assert len(contexts) == 4 and len(log_mel) == 3 * hop + FRAMES
  np.testing.assert_array_equal(log_mel[:hop], -1)
  fade = log_mel[hop : hop + overlap]
  np.testing.assert_allclose(fade, -1 - np.arange(1, 17) / 17, rtol=1e-6)
  np.testing.assert_array_equal(log_mel[hop + overlap : 2 * hop], -2)
  np.testing.assert_array_equal(log_mel[3 * hop + overlap :], -4)
  # What a segment follows on is what was handed out before it starts.
  assert [len(context) for context in contexts] == [0, hop, FRAMES, FRAMES]
  for index, context in enumerate(contexts):
    before = log_mel[max(0, index * hop - FRAMES) : index * hop]
    np.testing.assert_array_equal(context[:, 0], before)

  without = overlapping.log_mel(song(), overlap=0)[:, 0]
  assert len(without) == 3 * FRAMES
  np.testing.assert_array_equal(np.diff(without)[[62, 64]], 0)


def test_steps_beyond_a_discrete_schedule_are_an_error(synthesizer):
  model = dataclasses.replace(
    MODEL, schedule=diffusion.schedules.SquaredCosineSchedule(num_levels=50)
  )
  discrete = dataclasses.replace(synthesizer, model=model)
  discrete.check_settings(steps=50, spacing="karras")
  with pytest.raises(ValueError, match="1 to 50 sampling steps, got 51"):
    discrete.check_settings(steps=51)


def collect(stream):
  """{song: its audio}, and the songs in the order of their ends."""
  parts, ended = {}, []
  for played, segment in stream:
    if segment is None:
      ended.append(played)
    else:
      parts.setdefault(played, []).append(segment.samples)
  return {p: np.concatenate(samples) for p, samples in parts.items()}, ended


def test_songs_of_different_lengths_share_batches_and_are_as_if_alone(
  synthesizer, monkeypatch
):
  music = [song((60, 64, 67, 65, 62)), song((48,)), song((72, 76)), song((50,))]
  songs = [synthesizer.prepare(m, seed=s) for s, m in enumerate(music)]
  assert [len(s.tokens) for s in songs] == [5, 2, 3, 2]
  sizes = []
  predict = models.DiffusionModel.predict

  def recording(self, parameters, tokens, *args, **settings):
    sizes.append(len(tokens))
    return predict(self, parameters, tokens, *args, **settings)

  monkeypatch.setattr(models.DiffusionModel, "predict", recording)
  rendered, ended = collect(synthesizer.stream_batch(songs, batch_size=2))
  # The second row plays two songs while the first plays one; the last is left
  # alone. A batch of two is traced once, what is alone is called each time.
  assert [songs.index(s) for s in ended] == [1, 0, 2, 3]
  assert sizes == [2, 1, 1]
  monkeypatch.undo()
  for seed, (m, s) in enumerate(zip(music, songs, strict=True)):
    alone = synthesizer(m, seed=seed)
    np.testing.assert_allclose(rendered[s], alone, atol=1e-5)


def test_variations_differ_and_are_those_of_their_seeds(synthesizer, rendered):
  songs = [synthesizer.prepare(song(), seed=seed) for seed in range(3)]
  variations, _ = collect(synthesizer.stream_batch(songs, batch_size=4))
  first, second, third = (variations[s] for s in songs)
  np.testing.assert_allclose(first, rendered, atol=1e-5)
  assert np.abs(second - first).max() > 1e-3
  assert np.abs(third - second).max() > 1e-3


def test_songs_are_taken_only_when_there_is_a_row_for_them(synthesizer):
  taken = []

  def songs():
    for pitch in range(60, 66):
      taken.append(pitch)
      yield synthesizer.prepare(song((pitch,)))

  stream = synthesizer.stream_batch(songs(), batch_size=2)
  assert not taken
  next(stream)
  assert taken == [60, 61]
  waiting = []
  for _, segment in stream:
    waiting.append(len(taken))
    if segment is None:
      break
  assert max(waiting) <= 4


def test_a_song_that_is_not_wanted_any_more_frees_its_row(synthesizer):
  songs = [synthesizer.prepare(song()), synthesizer.prepare(song((50,)))]
  heard = []
  for played, segment in synthesizer.stream_batch(songs):
    heard.append((played, segment is None))
    songs[0].is_wanted = False
  assert heard[:2] == [(songs[0], False), (songs[0], True)]
  assert heard[-1] == (songs[1], True)


def test_an_empty_batch_is_an_error(synthesizer):
  with pytest.raises(ValueError, match="batch size of 1 or more, got 0"):
    next(synthesizer.stream_batch([], batch_size=0))


def test_a_batch_without_memory_is_one_line_that_says_which_would_fit(
  synthesizer, monkeypatch
):
  songs = [synthesizer.prepare(song(), seed=seed) for seed in range(3)]
  monkeypatch.setattr(devices, "available_bytes", lambda: 1000)
  with pytest.raises(
    inference.BatchTooLargeError,
    match=r"A batch of 3 needs .* GB .* are free; try a batch size of 1\.$",
  ):
    next(synthesizer.stream_batch(songs, batch_size=3))


def test_a_file_that_is_not_midi_is_an_error(synthesizer, tmp_path):
  with pytest.raises(notes.MidiError, match="missing.mid"):
    synthesizer(tmp_path / "missing.mid")


def test_what_is_loaded_is_what_was_saved(synthesizer, model_directory):
  assert synthesizer.model.network == MODEL.network
  assert synthesizer.spectrogram_config == CONFIG
  assert synthesizer.model_hash == checkpoints.weights_hash(model_directory)
  jax.tree.map(
    np.testing.assert_array_equal,
    synthesizer.parameters,
    random_parameters(MODEL),
  )


def test_an_overlap_is_a_song_s_own(synthesizer):
  whole = synthesizer.log_mel(song(), overlap=16)
  songs = [synthesizer.prepare(song(), overlap=16), synthesizer.prepare(song())]
  parts = {}
  for played, segment in synthesizer.stream_batch(songs, batch_size=2):
    if segment is not None:
      parts.setdefault(played, []).append(segment.log_mel)
  np.testing.assert_allclose(np.concatenate(parts[songs[0]]), whole, atol=1e-4)
  np.testing.assert_allclose(
    np.concatenate(parts[songs[1]]), synthesizer.log_mel(song()), atol=1e-4
  )
  with pytest.raises(ValueError, match="overlap in `prepare`"):
    next(synthesizer.stream_batch(songs, overlap=16))
