"""Facts about `evaluation.transcribers`: programs here are shell scripts."""

import dataclasses
import pathlib
import shlex
import time

import jax
import numpy as np
import pytest
import soundfile

from music_spectrogram_diffusion import evaluation, models, notes
from music_spectrogram_diffusion.evaluation import transcribers
from music_spectrogram_diffusion.models import transcription_model

SONG = notes.Notes.from_columns([0.0, 0.5], [0.4, 1.0], [60, 64], 90, [0, 40])
SAMPLES = np.zeros(1600, np.float32)


@pytest.fixture
def midi(tmp_path):
  path = tmp_path / "heard" / "song.mid"
  path.parent.mkdir()
  notes.write_midi(SONG, path)
  return path


def shell(script, **options):
  return transcribers.CommandTranscriber(
    f"sh -c {shlex.quote(script)} transcribe {{wav}} {{midi}} {{dir}}",
    **options,
  )


def assert_song(heard):
  np.testing.assert_array_equal(heard.pitch, SONG.pitch)
  np.testing.assert_array_equal(heard.program, SONG.program)
  np.testing.assert_allclose(heard.onset, SONG.onset, atol=1e-3)
  np.testing.assert_allclose(heard.offset, SONG.offset, atol=1e-3)


def test_a_program_gets_the_audio_and_its_midi_file_is_read(midi, tmp_path):
  copy = tmp_path / "what was heard.wav"
  script = f"cp $1 {shlex.quote(str(copy))}; cp {midi} $2"
  samples = np.linspace(-0.5, 0.5, 1600, dtype=np.float32)
  assert_song(shell(script)(samples, "a/b"))
  assert_song(shell(f"cp {midi} $3/song_basic_pitch.mid")(samples, "a/b"))
  heard, rate = soundfile.read(copy, dtype="float32")
  assert rate == 16_000
  np.testing.assert_allclose(heard, samples, atol=2**-15)


def test_quoted_arguments_stay_whole(midi, tmp_path):
  program = tmp_path / "a program"
  program.write_text(f'#!/bin/sh\n[ "$1" = "two words" ] && cp {midi} "$3"\n')
  program.chmod(0o755)
  found = evaluation.find_transcriber(
    f"command='{program}' 'two words' {{wav}} {{midi}}"
  )
  assert found.name == "a program"
  assert_song(found(SAMPLES, "song"))


@pytest.mark.parametrize(
  "script, message",
  [
    (
      "echo first; echo 'no model' >&2; exit 3",
      "The transcriber sh failed with exit code 3; it said: no model$",
    ),
    ("exit 1", "failed with exit code 1; it said: nothing$"),
    ("kill -9 $$", "failed with exit code -9"),
    ("true", "write one MIDI file, found 0 for song"),
    ("touch $3/a.mid $3/b.mid", "write one MIDI file, found 2 for song"),
    ("echo broken > $2", "wrote for song cannot be read: .*MThd"),
  ],
)
def test_a_program_that_fails_is_one_line(script, message):
  with pytest.raises(evaluation.TranscriptionError, match=message) as caught:
    shell(script)(SAMPLES, "song")
  assert "\n" not in str(caught.value)


def test_a_program_that_hangs_is_stopped_with_all_it_started(tmp_path):
  late = tmp_path / "late"
  start = time.monotonic()
  with pytest.raises(evaluation.TranscriptionError, match="more than 0.2 s"):
    shell(f"(sleep 1; touch {late}) & sleep 60", timeout_s=0.2)(SAMPLES, "song")
  assert time.monotonic() - start < 30
  time.sleep(1.2)
  assert not late.exists()


def test_nan_is_an_error_of_the_song():
  samples = np.array([0.0, np.nan], np.float32)
  with pytest.raises(evaluation.TranscriptionError, match="finite .* for song"):
    shell("true")(samples, "song")


def test_a_folder_has_the_transcriptions_by_song(midi):
  found = evaluation.find_transcriber(f"midi={midi.parent}")
  assert isinstance(found, evaluation.Transcriber)
  assert found.name == "heard"
  assert_song(found(SAMPLES, "song"))
  (midi.parent / "deep").mkdir()
  midi.rename(midi.parent / "deep" / "song.midi")
  assert_song(found(SAMPLES, "deep/song"))
  with pytest.raises(evaluation.TranscriptionError, match="other.mid, found"):
    found(SAMPLES, "other")
  (midi.parent / "broken.mid").write_bytes(b"RIFF")
  with pytest.raises(evaluation.TranscriptionError, match="broken.mid"):
    found(SAMPLES, "broken")


@pytest.mark.parametrize(
  "spec, message",
  [
    ("basic-pitch", "Expected a transcriber as mt3=.*, got 'basic-pitch'"),
    ("midi=", "Expected a transcriber as"),
    ("midi=/nowhere", "transcriptions at /nowhere, found none"),
    (
      "mt3=/nowhere",
      r"MT3 at /nowhere, found none; .*gs://mt3/checkpoints/mt3",
    ),
    ("command=sh {wav}", r"\{midi\} or \{dir\} .*, got 'sh \{wav\}'"),
    ("command=no-such-program {wav} {midi}", "Cannot find .*no-such-program"),
    ("command='", "No closing quotation"),
  ],
)
def test_what_is_not_there_says_how_to_get_it(spec, message):
  with pytest.raises(evaluation.TranscriptionError, match=message):
    evaluation.find_transcriber(spec)


def test_a_folder_without_mt3_is_an_error(tmp_path):
  with pytest.raises(evaluation.TranscriptionError, match="t5x checkpoint"):
    evaluation.find_transcriber(f"mt3={tmp_path}")


def tiny_model(segment_frames, max_tokens):
  return models.TranscriptionModel(
    network=models.NetworkConfig(
      emb_dim=8,
      num_heads=1,
      head_dim=8,
      mlp_dim=8,
      num_encoder_layers=1,
      num_context_layers=0,
      num_decoder_layers=1,
      segment_frames=segment_frames,
      max_tokens=max_tokens,
    ),
    spectrogram=dataclasses.replace(transcription_model.SPECTROGRAM, n_mels=4),
  )


@pytest.fixture
def mt3(monkeypatch):
  """A transcriber that writes a drum for each loud segment; its batches."""
  model = tiny_model(25, 5)
  vocabulary = model.vocabulary
  batches = []

  def predict(self, parameters, frames):
    del parameters
    batches.append(len(frames))
    tokens = np.zeros((len(frames), 5), np.int32)
    tokens[:, 0] = vocabulary.tie
    loud = np.asarray(frames)[:, 0].max(-1) > 0
    hit = [vocabulary.shift[3], vocabulary.velocity[1], vocabulary.drum[38]]
    tokens[loud, 1:4] = hit
    return jax.numpy.asarray(tokens)

  monkeypatch.setattr(models.TranscriptionModel, "predict", predict)
  return transcribers.Mt3Transcriber(model, {}), batches


def test_mt3_hears_segment_after_segment_in_batches_of_one_size(mt3):
  transcriber, batches = mt3
  segment = 25 * transcriber.model.spectrogram.hop_length
  samples = np.zeros(10 * segment + segment // 2, np.float32)
  noise = np.random.default_rng(0).uniform(-0.5, 0.5, segment)
  for index in (0, 7, 8, 10):
    start = index * segment
    samples[start : start + segment] = noise[: len(samples) - start]
  heard = transcriber(samples, "song")
  assert batches == [8, 8]
  assert heard.is_drum.all()
  # Segments of 0.2 s; a hit 30 ms after each start, not again for padding.
  np.testing.assert_allclose(heard.onset, [0.03, 1.43, 1.63, 2.03])


def test_mt3_runs_its_network():
  model = tiny_model(8, 6)
  vocabulary = model.vocabulary
  # Whatever is heard, one token follows the other: from PAD, the start, to EOS.
  chain = [
    notes.PAD,
    vocabulary.tie,
    vocabulary.shift[2],
    vocabulary.velocity[1],
    vocabulary.drum[40],
    notes.EOS,
  ]
  parameters = jax.tree.map(
    lambda shape: np.zeros(shape.shape, np.float32),
    jax.eval_shape(model.init, jax.random.key(0)),
  )
  decoder = parameters["decoder"]
  decoder["decoder_norm"]["scale"][:] = 1
  for place, token in enumerate(chain[:-1]):
    decoder["token_embedder"]["embedding"][token, place] = 1e3
    decoder["logits_dense"]["kernel"][place, chain[place + 1]] = 1
  transcriber = transcribers.Mt3Transcriber(model, parameters)
  segment = 8 * model.spectrogram.hop_length
  heard = transcriber(np.zeros(segment + 1, np.float32), "song")
  # 64 ms: the second segment counts from 60 ms.
  np.testing.assert_allclose(heard.onset, [0.02, 0.08])
  np.testing.assert_array_equal(heard.pitch, [40, 40])


def test_names_are_short():
  found = transcribers.CommandTranscriber("/bin/sh -c : {wav} {midi}")
  assert found.name == "sh"


BASIC_PITCH = (
  pathlib.Path(__file__).parents[2]
  / "benchmarks/quality/.venv-transcriber/bin/basic-pitch"
)


@pytest.mark.skipif(
  not BASIC_PITCH.exists(),
  reason="install it by benchmarks/quality/setup_transcriber.sh",
)
def test_basic_pitch_hears_all_notes_of_a_melody():
  time_s = np.arange(16_000) / 16_000
  rows = [(0.5, 60), (1.5, 64), (2.5, 67)]
  samples = np.zeros(4 * 16_000, np.float32)
  for onset, pitch in rows:
    phase = 2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time_s
    tone = sum(np.sin(k * phase) / k for k in range(1, 6))
    start = int(onset * 16_000)
    samples[start : start + 16_000] = 0.2 * tone * np.exp(-3 * time_s)
  found = evaluation.find_transcriber(f"command={BASIC_PITCH} {{dir}} {{wav}}")
  heard = found(samples, "melody")
  onset, pitch = zip(*rows, strict=True)
  played = notes.Notes.from_columns(onset, np.add(onset, 1.0), pitch, 90)
  assert evaluation.matched_notes(played, heard).all()


def test_a_file_that_is_no_program_cannot_be_started(tmp_path):
  program = tmp_path / "listen"
  program.write_bytes(b"\0")
  program.chmod(0o755)
  found = transcribers.CommandTranscriber(f"{program} {{wav}} {{midi}}")
  with pytest.raises(
    evaluation.TranscriptionError, match="Cannot start the .*"
  ):
    found(SAMPLES, "song")
