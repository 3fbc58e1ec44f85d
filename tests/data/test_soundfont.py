from pathlib import Path

import numpy as np
import pytest

from music_spectrogram_diffusion.data import soundfont
from music_spectrogram_diffusion.notes import Notes

SINE = Path(__file__).with_name("sine.sf2")  # By make_sine_soundfont.py.
RATE = 16000


@pytest.fixture(scope="module")
def renderer():
  return soundfont.SoundfontRenderer(SINE, RATE)


def first_sound_s(samples, threshold=0.3):
  loud = np.abs(samples) > threshold * np.abs(samples).max()
  return np.argmax(loud) / RATE


def test_an_onset_sounds_within_a_millisecond_of_its_time(renderer):
  for onset in [0.0, 0.1003, 0.33337, 1.0]:
    notes = Notes.from_columns(onset, onset + 0.5, 69, 100)
    samples = renderer.render(notes)
    assert abs(first_sound_s(samples) - onset) < 1e-3


def test_a_note_has_its_pitch(renderer):
  samples = renderer.render(Notes.from_columns(0, 1, [57], 100), 1.0)
  spectrum = np.abs(np.fft.rfft(samples))  # Bins of 1 Hz.
  assert np.argmax(spectrum) == 220


def test_rendering_is_the_same_again_and_leaves_no_sound_behind(renderer):
  notes = Notes.from_columns([0, 0.2], [9.0, 9.0], [60, 64], 100, [0, 88])
  first = renderer.render(notes, 0.5)
  np.testing.assert_array_equal(renderer.render(notes, 0.5), first)
  nothing = Notes.from_columns([], [], [], [])
  assert not renderer.render(nothing, 0.5).any()


def test_the_length_is_what_is_asked_for_or_two_seconds_past_the_end(renderer):
  notes = Notes.from_columns(0.25, 1.0, 60, 100)
  assert renderer.render(notes).shape == (3 * RATE,)
  assert renderer.render(notes, 0.7).shape == (round(0.7 * RATE),)


def test_parts_add_up_however_many_programs_play(renderer):
  parts = [
    Notes.from_columns(0.01 * i, 0.9, 40 + i, 90, program=2 * i)
    for i in range(40)
  ]
  parts.append(Notes.from_columns(0.1, 0.2, 38, 90, is_drum=True))
  together = renderer.render(Notes.concatenate(parts), 1.0)
  alone = sum(renderer.render(part, 1.0) for part in parts)
  # Envelopes move in blocks of 64 samples, which events interrupt.
  assert np.abs(together - alone).max() < 0.02 * np.abs(alone).max()


def test_louder_velocity_is_proportionally_louder(renderer):
  soft = renderer.render(Notes.from_columns(0, 1, 69, 30), 0.5)
  loud = renderer.render(Notes.from_columns(0, 1, 69, 120), 0.5)
  np.testing.assert_allclose(loud.std() / soft.std(), 4, rtol=0.01)


def test_the_offset_of_a_drum_changes_nothing(renderer):
  short = Notes.from_columns(0.1, 0.11, 38, 100, is_drum=True)
  long = Notes.from_columns(0.1, 5.0, 38, 100, is_drum=True)
  np.testing.assert_array_equal(
    renderer.render(short, 3.0), renderer.render(long, 3.0)
  )


def test_a_pitch_struck_again_sounds_again(renderer):
  notes = Notes.from_columns([0, 0.5], [0.5, 1.0], 69, [100, 25])
  samples = renderer.render(notes, 1.0)
  first, second = samples[4000:7000].std(), samples[12000:15000].std()
  np.testing.assert_allclose(first / second, 4, rtol=0.02)


def test_a_file_that_is_no_soundfont_is_named(tmp_path):
  path = tmp_path / "noise.sf2"
  with pytest.raises(ValueError, match="no file there"):
    soundfont.SoundfontRenderer(path)
  path.write_bytes(b"noise" * 100)
  with pytest.raises(ValueError, match="noise.sf2"):
    soundfont.SoundfontRenderer(path)


def test_the_soundfont_is_found_by_variable_then_in_the_usual_places(
  tmp_path, monkeypatch
):
  variable = "SPEC_DIFF_SOUNDFONT"
  monkeypatch.delenv(variable, raising=False)
  usual = (str(tmp_path / "missing.sf2"), str(SINE))
  monkeypatch.setattr(soundfont, "_SOUNDFONT_PATHS", usual)
  assert soundfont.find_soundfont() == SINE
  monkeypatch.setattr(soundfont, "_SOUNDFONT_PATHS", usual[:1])
  with pytest.raises(ValueError, match="fluid-soundfont-gm"):
    soundfont.find_soundfont()
  monkeypatch.setenv(variable, str(SINE))
  assert soundfont.find_soundfont() == SINE
  monkeypatch.setenv(variable, str(tmp_path))
  with pytest.raises(ValueError, match=variable):
    soundfont.find_soundfont()
