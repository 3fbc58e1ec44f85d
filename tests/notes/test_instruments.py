import numpy as np

from music_spectrogram_diffusion.notes import (
  PROGRAM_NAMES,
  SLAKH_CLASSES,
  Notes,
  to_slakh_classes,
)


def test_there_are_34_classes_and_128_names():
  assert len(SLAKH_CLASSES) == 34
  assert list(SLAKH_CLASSES.values()) == sorted(set(SLAKH_CLASSES.values()))
  assert len(set(PROGRAM_NAMES)) == 128
  assert PROGRAM_NAMES[0] == "Acoustic Grand Piano"
  assert PROGRAM_NAMES[40] == "Violin"
  assert PROGRAM_NAMES[73] == "Flute"
  assert PROGRAM_NAMES[127] == "Gunshot"


def test_programs_fall_to_the_largest_class_not_above():
  programs = np.arange(128)
  notes = Notes.from_columns(programs, programs + 1, 60, 100, programs)
  classes = SLAKH_CLASSES.values()
  assert to_slakh_classes(notes).program.tolist() == [
    max(c for c in classes if c <= program) for program in programs
  ]


def test_sound_effects_become_synth_pads():
  notes = Notes.from_columns([0, 1], [1, 2], 60, 100, [96, 127])
  assert to_slakh_classes(notes).program.tolist() == [88, 88]


def test_drums_keep_their_program_and_pitch():
  notes = Notes.from_columns(0, 1, 38, 100, 0, is_drum=True)
  mapped = to_slakh_classes(notes)
  assert mapped.program.tolist() == [0] and mapped.is_drum.all()


def test_unisons_that_become_one_instrument_are_cut():
  notes = Notes.from_columns([0.0, 1.0], [3.0, 2.0], 60, 100, [40, 41])
  assert to_slakh_classes(notes).offset.tolist() == [3.0, 2.0]
  notes = Notes.from_columns([0.0, 1.0], [3.0, 2.0], 60, 100, [0, 1])
  assert to_slakh_classes(notes).offset.tolist() == [1.0, 2.0]
