from pathlib import Path
import shutil

import numpy as np
import pytest

from music_spectrogram_diffusion.data import fluidsynth, soundfont
from music_spectrogram_diffusion.notes import Notes

SINE = Path(__file__).with_name("sine.sf2")  # By make_sine_soundfont.py.
RATE = 16000

# Writes what it was called with, and as a wav of 1 s at 48 kHz a constant 0.25.
STAND_IN = """#!/usr/bin/env python3
import struct, sys
arguments = sys.argv[1:]
if "broken.sf2" in arguments[-2]:
  sys.exit("Parameter 'broken.sf2' not a SoundFont or MIDI file")
with open(sys.argv[0] + ".calls", "a") as file:
  print(*arguments, file=file)
data = struct.pack("<f", 0.25) * 2 * 48000
form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 2, 48000, 384000, 8, 32)
body = b"WAVE" + form + b"data" + struct.pack("<I", len(data)) + data
with open(arguments[arguments.index("--fast-render") + 1], "wb") as file:
  file.write(b"RIFF" + struct.pack("<I", len(body)) + body)
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
  program = tmp_path / "fluidsynth"
  program.write_text(STAND_IN)
  program.chmod(0o755)
  monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
  return tmp_path / "fluidsynth.calls"


def test_the_program_plays_and_its_audio_has_the_length_asked_for(stand_in):
  renderer = fluidsynth.FluidsynthRenderer(SINE, RATE)
  samples = renderer.render(Notes.from_columns(0.1, 0.4, 60, 100), 0.5)
  assert samples.shape == (RATE // 2,)
  np.testing.assert_allclose(samples[1000:7000], 0.25, atol=1e-3)
  [call] = stand_in.read_text().splitlines()
  assert str(SINE) in call and "--reverb 0 --chorus 0" in call
  longer = renderer.render(Notes.from_columns(0.1, 1.0, 60, 100))
  assert longer.shape == (3 * RATE,) and not longer[-RATE:].any()


def test_programs_beyond_the_channels_are_played_in_turns(stand_in):
  notes = Notes.from_columns(0.1, 0.2, 60, 100, program=np.arange(32))
  drums = Notes.from_columns(0.1, 0.2, 38, 100, is_drum=True)
  renderer = fluidsynth.FluidsynthRenderer(SINE, RATE)
  samples = renderer.render(Notes.concatenate([notes, drums]), 0.5)
  assert len(stand_in.read_text().splitlines()) == 3  # 15 + 15 + 2 programs.
  np.testing.assert_allclose(samples[1000:7000], 0.75, atol=1e-3)
  assert not renderer.render(notes[:0], 0.5).any()


def test_what_is_missing_or_no_soundfont_is_named(stand_in, monkeypatch):
  with pytest.raises(ValueError, match="no file there"):
    fluidsynth.FluidsynthRenderer(stand_in / "missing.sf2", RATE)
  broken = stand_in.with_name("broken.sf2")
  broken.write_bytes(b"noise")
  renderer = fluidsynth.FluidsynthRenderer(broken, RATE)
  with pytest.raises(ValueError, match="broken.sf2.*not a SoundFont"):
    renderer.render(Notes.from_columns(0, 1, 60, 100))
  monkeypatch.setenv("PATH", "/nowhere")
  with pytest.raises(ValueError, match="apt install fluidsynth"):
    fluidsynth.FluidsynthRenderer(SINE, RATE)


@pytest.mark.skipif(
  shutil.which("fluidsynth") is None, reason="fluidsynth is not installed"
)
def test_it_plays_what_the_other_synthesizer_plays():
  notes = Notes.from_columns([0.2, 0.6], [0.5, 1.0], [69, 57], 100)
  one, other = (
    make(SINE, RATE).render(notes, 1.5)
    for make in (soundfont.SoundfontRenderer, fluidsynth.FluidsynthRenderer)
  )
  assert one.shape == other.shape
  frames = [np.abs(s).reshape(-1, 160).mean(axis=1) for s in (one, other)]
  assert np.corrcoef(*frames)[0, 1] > 0.9
  spectrum = np.abs(np.fft.rfft(other[round(0.6 * RATE) : round(1.0 * RATE)]))
  assert abs(np.argmax(spectrum) / 0.4 - 220) < 3
