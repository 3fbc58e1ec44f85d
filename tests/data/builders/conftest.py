"""Writes songs of Slakh2100 as they are published, only shorter."""

from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
import yaml

SLAKH_RATE = 44_100
TICKS_PER_S = 192  # 96 to a quarter note, at 120 to the minute.

# By program: inst_class and midi_program_name of metadata.yaml.
_NAMES = {
  0: ("Piano", "Acoustic Grand Piano"),
  6: ("Piano", "Harpsichord"),
  24: ("Guitar", "Acoustic Guitar (nylon)"),
  30: ("Guitar", "Distortion Guitar"),
  33: ("Bass", "Electric Bass (finger)"),
  52: ("Strings (continued)", "Choir Aahs"),
  103: ("Sound Effects", "FX 8 (sci-fi)"),
  128: ("Drums", "Drums"),
}


def write_stem_midi(path: Path, program: int, notes, bends=()):
  """Writes MIDI/SXX.mid: a track of tempos, and one of a single channel.

  Args:
    path: The file.
    program: Of metadata.yaml, 128 for drums.
    notes: (onset, offset, pitch) of each; times in seconds.
    bends: (time, value) of pitch bends.
  """
  channel = 9 if program == 128 else 0
  file = mido.MidiFile(type=1, ticks_per_beat=96)
  tempo = mido.MetaMessage("set_tempo", tempo=500_000)
  file.tracks.append(mido.MidiTrack([tempo]))
  events = [
    (time, 0, mido.Message("pitchwheel", channel=channel, pitch=value))
    for time, value in bends
  ]
  for onset, offset, pitch in notes:
    on = mido.Message("note_on", channel=channel, note=pitch, velocity=90)
    off = mido.Message("note_off", channel=channel, note=pitch)
    events += [(onset, 1, on), (offset, 0, off)]
  track = mido.MidiTrack([mido.MetaMessage("track_name", name="A song")])
  change = mido.Message(
    "program_change", channel=channel, program=program % 128
  )
  track.append(change)
  now = 0
  for time, _, message in sorted(events, key=lambda event: event[:2]):
    tick = round(time * TICKS_PER_S)
    track.append(message.copy(time=tick - now))
    now = tick
  file.tracks.append(track)
  path.parent.mkdir(parents=True, exist_ok=True)
  file.save(path)


def stem_tone(number: int, duration_s: float = 1.0):
  """The recording of a stem: a tone of its own frequency, 16 bits."""
  time = np.arange(round(duration_s * SLAKH_RATE)) / SLAKH_RATE
  tone = 0.1 * np.sin(2 * np.pi * 220 * (number + 1) * time)
  return np.int16(np.rint(tone * 32767))


def write_track(
  folder: Path, programs, notes=None, *, uuid=None, duration_s=1.0, skip=()
):
  """Writes the folder TrackNNNNN of a song.

  Args:
    folder: Where to write.
    programs: Program of each stem, S00 and on.
    notes: Notes of stems by name; others play one note of their own pitch.
    uuid: Of the MIDI file in Lakh; by default the track's own.
    duration_s: Length of the recordings.
    skip: Files that are not written.
  """
  notes = notes or {}
  stems, samples = {}, []
  for number, program in enumerate(programs):
    name = f"S{number:02d}"
    rendered = program != 103  # Slakh has no sounds for effects.
    inst_class, program_name = _NAMES[program]
    stems[name] = {
      "audio_rendered": rendered,
      "inst_class": inst_class,
      "integrated_loudness": -12.82074180245363,
      "is_drum": program == 128,
      "midi_program_name": program_name,
      "midi_saved": rendered,
      "plugin_name": "a_plugin.nkm" if rendered else "None",
      "program_num": program,
    }
    if not rendered:
      continue
    samples.append(stem_tone(number, duration_s))
    one = [(0.25, 0.75, 40 + number)]
    path = folder / "MIDI" / f"{name}.mid"
    write_stem_midi(path, program, notes.get(name, one))
    path = folder / "stems" / f"{name}.flac"
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, samples[-1], SLAKH_RATE, "PCM_16")
  mix = sum(samples)
  soundfile.write(folder / "mix.flac", mix, SLAKH_RATE, "PCM_16")
  write_stem_midi(folder / "all_src.mid", 0, [(0.25, 0.75, 40)])
  metadata = {
    "UUID": uuid or f"{folder.name}-uuid",
    "audio_dir": f"{folder.name}/stems",
    "lmd_midi_dir": "lmd_matched/O/O/H/TROOHTB128F931F9DF/1.mid",
    "midi_dir": f"{folder.name}/MIDI",
    "normalization_factor": -13.0,
    "normalized": True,
    "overall_gain": 0.18270259567062658,
    "stems": stems,
    "target_peak": -1.0,
  }
  (folder / "metadata.yaml").write_text(
    yaml.safe_dump(metadata, default_flow_style=False)
  )
  for name in skip:
    (folder / name).unlink()


class SlakhFiles:
  """The functions above, for tests."""

  write_track = staticmethod(write_track)
  write_stem_midi = staticmethod(write_stem_midi)
  stem_tone = staticmethod(stem_tone)
  rate = SLAKH_RATE


@pytest.fixture(scope="session")
def slakh_files():
  return SlakhFiles
