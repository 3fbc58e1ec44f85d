"""Clips of folders of audio: rates, channels, silence and broken files."""

import numpy as np
import pytest
import soundfile

from music_spectrogram_diffusion import audio, data, notes

RATE = 8000
NO_NOTES = notes.Notes.from_columns([], [], [], [])


def tone(seconds, rate=RATE, frequency=440.0):
  time = np.arange(round(seconds * rate)) / rate
  return np.float32(0.5 * np.sin(2 * np.pi * frequency * time))


def clips(directory, **options):
  settings = dict(sample_rate=RATE, clip_samples=1600, batch_size=3)
  return data.ClipBatches(directory, **(settings | options))


def test_clips_are_pieces_of_the_files(tmp_path):
  ramp = np.linspace(0.1, 0.9, 3 * RATE, dtype=np.float32)
  soundfile.write(tmp_path / "a.wav", ramp, RATE, subtype="FLOAT")
  batch = clips(tmp_path).batch(0)["audio"]
  assert batch.shape == (3, 1600) and batch.dtype == np.float32
  for clip in batch:
    start = np.searchsorted(ramp, clip[0])
    np.testing.assert_allclose(clip, ramp[start : start + 1600], atol=1e-6)


def test_a_batch_is_a_function_of_seed_and_number(tmp_path):
  soundfile.write(tmp_path / "a.wav", tone(3.0), RATE)
  first, again = clips(tmp_path).batch(5), clips(tmp_path).batch(5)
  np.testing.assert_array_equal(first["audio"], again["audio"])
  for other in (clips(tmp_path).batch(6), clips(tmp_path, seed=1).batch(5)):
    assert (first["audio"] != other["audio"]).any()


def test_hosts_make_a_batch_together(tmp_path):
  soundfile.write(tmp_path / "a.wav", tone(3.0), RATE)
  whole = clips(tmp_path, batch_size=4).batch(2)["audio"]
  halves = [
    clips(tmp_path, batch_size=2, first_clip=2 * i).batch(2)["audio"]
    for i in range(2)
  ]
  np.testing.assert_array_equal(np.concatenate(halves), whole)


def test_other_rates_and_stereo_become_mono_at_the_rate(tmp_path):
  stereo = np.stack([tone(2.0, 22050), np.zeros(44100, np.float32)], axis=1)
  (tmp_path / "deeper").mkdir()
  soundfile.write(tmp_path / "deeper" / "a.flac", stereo, 22050)
  for clip in clips(tmp_path).batch(0)["audio"]:
    spectrum = np.abs(np.fft.rfft(clip * np.hanning(1600)))
    assert np.argmax(spectrum) == round(440 * 1600 / RATE)
    assert np.abs(clip[200:-200]).max() == pytest.approx(0.25, rel=0.05)


def test_short_files_lie_anywhere_in_silence(tmp_path):
  soundfile.write(tmp_path / "a.wav", tone(0.05), RATE, subtype="FLOAT")
  batch = clips(tmp_path, batch_size=40).batch(0)["audio"]
  starts = []
  for clip in batch:
    # Sample 1 is the first that is not 0.
    starts.append(int(np.flatnonzero(clip)[0]) - 1)
    expected = np.zeros(1601, np.float32)
    expected[starts[-1] : starts[-1] + 400] = tone(0.05)
    np.testing.assert_allclose(clip, expected[:1600], atol=1e-6)
  assert min(starts) < 200 and max(starts) > 1000


def test_levels_are_changed_within_their_range(tmp_path):
  soundfile.write(tmp_path / "a.wav", tone(3.0), RATE)
  batch = clips(tmp_path, batch_size=20, gain_db=(-12.0, 0.0)).batch(0)["audio"]
  peaks = np.abs(batch).max(axis=1)
  assert peaks.min() > 0.5 * 10 ** (-12.5 / 20)
  assert peaks.max() < 0.51
  assert peaks.std() > 0.05


def test_silent_clips_are_not_taken(tmp_path):
  half = np.concatenate([np.zeros(4 * RATE, np.float32), tone(1.0)])
  soundfile.write(tmp_path / "a.wav", half, RATE)
  batch = clips(tmp_path, batch_size=10).batch(0)["audio"]
  assert (np.abs(batch).max(axis=1) > 1e-4).all()


def test_nothing_but_silence_is_an_error_that_says_so(tmp_path):
  soundfile.write(tmp_path / "a.wav", np.zeros(RATE, np.float32), RATE)
  with pytest.raises(ValueError, match="silent, not finite"):
    clips(tmp_path).batch(0)


def test_samples_that_are_not_finite_are_not_taken(tmp_path):
  broken = tone(1.0)
  broken[::50] = np.nan
  soundfile.write(tmp_path / "a.wav", broken, RATE, subtype="FLOAT")
  soundfile.write(tmp_path / "b.wav", tone(1.0), RATE)
  with pytest.warns(UserWarning, match=r"a\.wav: .* not finite"):
    batch = clips(tmp_path, batch_size=8).batch(0)["audio"]
  assert np.isfinite(batch).all()


def test_a_file_that_breaks_off_is_left_out_by_name(tmp_path):
  rng = np.random.default_rng(0)
  noise = rng.normal(0, 0.1, 5 * RATE)
  soundfile.write(tmp_path / "whole.flac", noise, RATE)
  cut = (tmp_path / "whole.flac").read_bytes()
  cut = cut[: len(cut) // 3]
  (tmp_path / "cut.flac").write_bytes(cut)
  with pytest.warns(UserWarning, match="Left out clips of .*cut.flac: "):
    batch = clips(tmp_path, batch_size=20).batch(0)["audio"]
  assert (np.abs(batch).max(axis=1) > 0.1).all()


def test_samples_that_are_far_too_loud_are_not_taken(tmp_path):
  soundfile.write(tmp_path / "a.wav", 1e30 * tone(3.0), RATE, subtype="FLOAT")
  with (
    pytest.warns(UserWarning, match=r"a\.wav: expected samples in about"),
    pytest.raises(ValueError, match="far too loud"),
  ):
    clips(tmp_path).batch(0)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"clip_samples": 0}, "clips of 1 sample or more, got 0"),
    ({"gain_db": (3.0, -3.0)}, "gain_db from a lower .* got 3.0 to -3.0"),
  ],
)
def test_settings_that_make_no_clips_are_told(tmp_path, options, message):
  soundfile.write(tmp_path / "a.wav", tone(1.0), RATE)
  with pytest.raises(ValueError, match=message):
    clips(tmp_path, **options)


def test_files_that_are_no_audio_are_left_out_with_a_warning(tmp_path):
  (tmp_path / "broken.wav").write_bytes(b"not audio")
  (tmp_path / "notes.txt").write_text("not asked for")
  soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), RATE)
  soundfile.write(tmp_path / "good.wav", tone(1.0), RATE)
  with pytest.warns(UserWarning) as warned:
    batches = clips(tmp_path)
  assert sorted(str(w.message).split("/")[-1][:6] for w in warned) == [
    "broken",
    "empty.",
  ]
  assert batches.batch(0)["audio"].shape == (3, 1600)


def test_a_folder_without_audio_is_an_error_that_names_it(tmp_path):
  with pytest.raises(ValueError, match=str(tmp_path)):
    clips(tmp_path)


def test_clips_of_a_piece_are_cut_from_its_audio():
  config = audio.SpectrogramConfig(
    sample_rate=RATE, hop_length=80, win_length=160, n_fft=256, fmax=4000.0
  )
  cutter = data.ClipCutter(config, clip_frames=10)
  samples = np.concatenate([np.zeros(20_000, np.float32), tone(1.0)])
  rng = np.random.default_rng(0)
  cut = list(cutter.cut_piece(rng, NO_NOTES, samples, 20))
  assert 1 <= len(cut) < 40  # Silent ones are left out.
  assert all(np.abs(clip["audio"]).max() > 0.01 for clip in cut)
  assert {clip["audio"].shape for clip in cut} == {(800,)}
