import hashlib

import mido
import numpy as np
import pytest
import soundfile

from music_spectrogram_diffusion.data.builders import loading
from music_spectrogram_diffusion.data.builders import problems as rules
from music_spectrogram_diffusion.data.builders.problems import (
  Problems,
  SongError,
)
from music_spectrogram_diffusion.notes import Notes

RATE = loading.SAMPLE_RATE


def tone(rate=RATE, duration_s=0.5, level=0.5, hz=440):
  time = np.arange(round(duration_s * rate)) / rate
  return (level * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def load(path):
  problems = Problems()
  return loading.load_audio(path, problems, "song"), problems


def counts(problems):
  return {row["rule"]: row["count"] for row in problems.to_json()}


def test_audio_that_is_as_it_should_be_is_not_touched(tmp_path):
  soundfile.write(tmp_path / "a.wav", tone(), RATE, "FLOAT")
  samples, problems = load(tmp_path / "a.wav")
  np.testing.assert_array_equal(samples, tone())
  assert counts(problems) == {}


def test_channels_are_averaged_and_counted(tmp_path):
  both = np.stack([tone(), np.zeros(RATE // 2)], axis=1)
  soundfile.write(tmp_path / "a.flac", both, RATE, "PCM_16")
  samples, problems = load(tmp_path / "a.flac")
  np.testing.assert_allclose(samples, tone() / 2, atol=1e-4)
  assert counts(problems) == {"mixed_down": 1}


@pytest.mark.parametrize(
  "rate, rule",
  [(44100, "resampled"), (48000, "resampled"), (8000, "upsampled")],
)
def test_other_sample_rates_are_resampled_and_counted(tmp_path, rate, rule):
  soundfile.write(tmp_path / "a.wav", tone(rate), rate, "FLOAT")
  samples, problems = load(tmp_path / "a.wav")
  inner = slice(500, -500)  # Filters ring at the ends.
  np.testing.assert_allclose(samples[inner], tone()[inner], atol=1e-3)
  assert len(samples) == len(tone())
  assert counts(problems) == {rule: 1}


def test_a_wave_beyond_full_scale_keeps_its_shape(tmp_path):
  soundfile.write(tmp_path / "a.wav", tone(level=2.0), RATE, "FLOAT")
  samples, problems = load(tmp_path / "a.wav")
  np.testing.assert_allclose(samples, tone(level=1.0), atol=1e-3)
  assert np.abs(samples).max() <= 1
  # A float wav of this level is no worse, but was it meant? It is told.
  assert counts(problems) == {"clipped": 1, "scaled_down": 1}


def test_clipped_audio_is_kept_and_counted(tmp_path):
  soundfile.write(
    tmp_path / "a.wav", np.clip(tone(level=2.0), -1, 1), RATE, "PCM_16"
  )
  samples, problems = load(tmp_path / "a.wav")
  assert counts(problems) == {"clipped": 1}
  assert len(samples) == len(tone())


def write_bytes(path, data):
  path.write_bytes(data)


BROKEN = {
  "missing_file": lambda path: None,
  "empty_audio": lambda path: path.touch(),
  "unreadable_audio": lambda path: path.write_bytes(b"RIFF no such thing"),
  "not_finite": lambda path: soundfile.write(
    path, np.array([0.5, np.nan, 0.1]), RATE, "FLOAT"
  ),
  "silent": lambda path: soundfile.write(path, np.zeros(999), RATE, "PCM_16"),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_audio_that_is_of_no_use_says_why(tmp_path, rule):
  path = tmp_path / "a.wav"
  BROKEN[rule](path)
  with pytest.raises(SongError, match="a.wav") as caught:
    load(path)
  assert caught.value.rule.name == rule


def test_a_header_without_samples_is_empty_audio(tmp_path):
  soundfile.write(tmp_path / "a.wav", np.zeros(0), RATE, "PCM_16")
  with pytest.raises(SongError) as caught:
    load(tmp_path / "a.wav")
  assert caught.value.rule == rules.EMPTY_AUDIO


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_partial_download_is_seen(tmp_path, name):
  path = tmp_path / name
  noise = np.random.default_rng(0).uniform(-0.5, 0.5, 4 * RATE)
  soundfile.write(path, noise, RATE, "PCM_16")
  loading.check_files((path,), {})
  load(path)
  data = path.read_bytes()
  path.write_bytes(data[: len(data) // 2])
  with pytest.raises(SongError) as caught:
    loading.check_files((path,), {})
    load(path)
  assert caught.value.rule in (rules.TRUNCATED, rules.UNREADABLE_AUDIO)


def test_wavs_with_further_chunks_or_of_unknown_length_are_whole(tmp_path):
  path = tmp_path / "a.wav"
  soundfile.write(path, tone(), RATE, "PCM_16")
  data = path.read_bytes()
  listed = data[:12] + b"LIST\x03\x00\x00\x00abc\x00" + data[12:]
  path.write_bytes(listed + b"id3 \x04\x00\x00\x00abcd")
  loading.check_files((path,), {})
  at = data.index(b"data") + 4
  path.write_bytes(data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :])
  loading.check_files((path,), {})


def test_a_list_of_checksums_is_believed(tmp_path):
  for name in ("right.bin", "wrong.bin"):
    (tmp_path / name).write_bytes(name.encode())
  digest = hashlib.md5(b"right.bin").hexdigest()
  (tmp_path / "MD5SUMS").write_text(
    f"{digest}  right.bin\n{digest} *wrong.bin\n"
  )
  checksums = loading.read_checksums(tmp_path)
  loading.check_files((tmp_path / "right.bin",), checksums)
  with pytest.raises(SongError, match="wrong.bin has the md5") as caught:
    loading.check_files((tmp_path / "wrong.bin",), checksums)
  assert caught.value.rule == rules.CHECKSUM


def clean(notes, duration_s=10.0):
  problems = Problems()
  return loading.clean_notes(notes, duration_s, problems, "song"), problems


def test_notes_are_cut_at_the_audios_end_and_at_the_next_strike():
  notes = Notes.from_columns(
    onset=[1.0, 0.0, 0.5, 9.5],
    offset=[2.0, 1.5, 0.9, 11.0],
    pitch=[60, 60, 61, 62],
    velocity=80,
    program=41,
  )
  cleaned, problems = clean(notes)
  assert cleaned.onset.tolist() == [0.0, 0.5, 1.0, 9.5]
  assert cleaned.offset.tolist() == [1.0, 0.9, 2.0, 10.0]
  assert counts(problems) == {"note_over_end": 1, "overlap": 1}


def test_programs_of_one_slakh_class_overlap_each_other():
  notes = Notes.from_columns([0, 1], [2, 3], 60, 80, program=[25, 24])
  cleaned, problems = clean(notes)
  assert cleaned.program.tolist() == [24, 24]
  assert cleaned.offset.tolist() == [1, 3]
  assert counts(problems) == {"overlap": 1}


def test_of_notes_struck_together_one_is_kept():
  notes = Notes.from_columns([0, 0, 0], [2, 3, 2], [60, 60, 61], 80)
  cleaned, problems = clean(notes)
  assert len(cleaned) == 2
  assert counts(problems) == {"overlap": 1}


def test_drums_and_the_piano_do_not_overlap_each_other():
  notes = Notes.from_columns(
    [0, 0], [2, 2], 40, 80, program=0, is_drum=[True, False]
  )
  cleaned, problems = clean(notes)
  assert len(cleaned) == 2
  assert counts(problems) == {}


def test_a_few_notes_after_the_end_are_dropped_and_many_drop_the_song():
  onset = np.arange(100) / 10
  notes = Notes.from_columns(onset, onset + 0.05, 60, 80)
  cleaned, problems = clean(notes, duration_s=9.87)
  assert len(cleaned) == 99
  assert counts(problems) == {"note_after_end": 1}
  with pytest.raises(SongError) as caught:
    clean(notes, duration_s=5.0)
  assert caught.value.rule == rules.LENGTHS_DIFFER


def test_notes_that_end_long_before_the_audio_are_told_of():
  problems = Problems()
  notes = Notes.from_columns([0], [1], 60, 80)
  loading.check_tail(notes, 30.9, problems, "song")
  assert counts(problems) == {}
  loading.check_tail(notes, 101.0, problems, "song")
  assert problems.lines() == [
    "1 songs kept: audio goes on for long after the last note (song: 100 s)"
  ]


def test_a_song_without_notes_is_dropped():
  with pytest.raises(SongError) as caught:
    clean(Notes.from_columns([], [], [], []))
  assert caught.value.rule == rules.NO_NOTES


def test_rows_of_labels_that_are_no_notes_are_dropped_and_counted():
  problems = Problems()
  notes = loading.make_notes(
    onset=[0, 1, -1, np.nan, 4, 5, 6],
    offset=[1, 1, 1, 2, 3, 6, 7],
    pitch=[60, 61, 62, 63, 64, 128, 60],
    velocity=[80, 80, 80, 80, 80, 80, 0],
    problems=problems,
    name="song",
  )
  assert notes.pitch.tolist() == [60, 61]
  np.testing.assert_allclose(notes.offset, [1, 1.01])
  assert counts(problems) == {"invalid_note": 5, "empty_note": 1}


def test_pitch_bends_and_damage_of_midi_files_are_counted(tmp_path):
  track = mido.MidiTrack(
    [
      mido.Message("pitchwheel", pitch=100),
      mido.Message("note_on", note=60, velocity=70),
      mido.Message("note_off", note=60, time=480),
    ]
  )
  path = tmp_path / "a.mid"
  mido.MidiFile(tracks=[track]).save(path)
  problems = Problems()
  notes = loading.load_midi(path, problems, "song")
  assert notes.pitch.tolist() == [60]
  assert counts(problems) == {"pitch_bends": 1}
  path.write_bytes(path.read_bytes()[:-6])
  problems = Problems()
  assert len(loading.load_midi(path, problems, "song")) == 1
  assert counts(problems)["damaged_notes"] == 1
  path.write_bytes(b"MThd")
  with pytest.raises(SongError, match="a.mid") as caught:
    loading.load_midi(path, problems, "song")
  assert caught.value.rule == rules.UNREADABLE_NOTES


def test_an_example_gives_back_its_notes_and_16_bits_of_its_audio():
  notes = Notes.from_columns([0.1], [0.2], 60, 80, 41)
  samples = tone()
  example = loading.make_example("a", samples, notes, track_id="t")
  assert example["track_id"] == "t"
  back = loading.notes_from_example(example)
  assert back.onset == notes.onset and back.program == notes.program
  audio = loading.audio_from_example(example)
  np.testing.assert_allclose(audio, samples, atol=0.5001 / 32767)


def test_a_dataset_is_found_up_to_two_folders_deep(tmp_path):
  home = tmp_path / "downloads" / "dataset"
  home.mkdir(parents=True)
  (home / "list-3.csv").touch()
  for given in (home, home.parent, tmp_path):
    assert loading.find_root(given, ["list-*.csv"], "it") == home
  with pytest.raises(ValueError, match=r"Expected it in .*no list-\*\.txt"):
    loading.find_root(tmp_path, ["list-*.txt"], "it")
