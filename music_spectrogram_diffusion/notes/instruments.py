"""General MIDI instruments, and the 34 classes of them that models know."""

import dataclasses

import numpy as np

from music_spectrogram_diffusion.notes import cleaning
from music_spectrogram_diffusion.notes.notes import Notes

# First program of each instrument class of Slakh2100 (Manilow et al. 2019).
SLAKH_CLASSES = {
  "Acoustic Piano": 0,
  "Electric Piano": 4,
  "Chromatic Percussion": 8,
  "Organ": 16,
  "Acoustic Guitar": 24,
  "Clean Electric Guitar": 26,
  "Distorted Electric Guitar": 29,
  "Acoustic Bass": 32,
  "Electric Bass": 33,
  "Violin": 40,
  "Viola": 41,
  "Cello": 42,
  "Contrabass": 43,
  "Orchestral Harp": 46,
  "Timpani": 47,
  "String Ensemble": 48,
  "Synth Strings": 50,
  "Choir and Voice": 52,
  "Orchestral Hit": 55,
  "Trumpet": 56,
  "Trombone": 57,
  "Tuba": 58,
  "French Horn": 60,
  "Brass Section": 61,
  "Soprano/Alto Sax": 64,
  "Tenor Sax": 66,
  "Baritone Sax": 67,
  "Oboe": 68,
  "English Horn": 69,
  "Bassoon": 70,
  "Clarinet": 71,
  "Pipe": 73,
  "Synth Lead": 80,
  "Synth Pad": 88,
}

# Names of the programs 0 to 127 in General MIDI level 1.
PROGRAM_NAMES = tuple(
  " ".join(name.split())
  for name in """
  Acoustic Grand Piano, Bright Acoustic Piano, Electric Grand Piano,
  Honky-tonk Piano, Electric Piano 1, Electric Piano 2, Harpsichord, Clavinet,
  Celesta, Glockenspiel, Music Box, Vibraphone, Marimba, Xylophone,
  Tubular Bells, Dulcimer, Drawbar Organ, Percussive Organ, Rock Organ,
  Church Organ, Reed Organ, Accordion, Harmonica, Tango Accordion,
  Acoustic Guitar (nylon), Acoustic Guitar (steel), Electric Guitar (jazz),
  Electric Guitar (clean), Electric Guitar (muted), Overdriven Guitar,
  Distortion Guitar, Guitar Harmonics, Acoustic Bass, Electric Bass (finger),
  Electric Bass (pick), Fretless Bass, Slap Bass 1, Slap Bass 2,
  Synth Bass 1, Synth Bass 2, Violin, Viola, Cello, Contrabass,
  Tremolo Strings, Pizzicato Strings, Orchestral Harp, Timpani,
  String Ensemble 1, String Ensemble 2, Synth Strings 1, Synth Strings 2,
  Choir Aahs, Voice Oohs, Synth Voice, Orchestra Hit, Trumpet, Trombone, Tuba,
  Muted Trumpet, French Horn, Brass Section, Synth Brass 1, Synth Brass 2,
  Soprano Sax, Alto Sax, Tenor Sax, Baritone Sax, Oboe, English Horn, Bassoon,
  Clarinet, Piccolo, Flute, Recorder, Pan Flute, Blown Bottle, Shakuhachi,
  Whistle, Ocarina, Lead 1 (square), Lead 2 (sawtooth), Lead 3 (calliope),
  Lead 4 (chiff), Lead 5 (charang), Lead 6 (voice), Lead 7 (fifths),
  Lead 8 (bass + lead), Pad 1 (new age), Pad 2 (warm), Pad 3 (polysynth),
  Pad 4 (choir), Pad 5 (bowed), Pad 6 (metallic), Pad 7 (halo),
  Pad 8 (sweep), FX 1 (rain), FX 2 (soundtrack), FX 3 (crystal),
  FX 4 (atmosphere), FX 5 (brightness), FX 6 (goblins), FX 7 (echoes),
  FX 8 (sci-fi), Sitar, Banjo, Shamisen, Koto, Kalimba, Bagpipe, Fiddle,
  Shanai, Tinkle Bell, Agogo, Steel Drums, Woodblock, Taiko Drum,
  Melodic Tom, Synth Drum, Reverse Cymbal, Guitar Fret Noise, Breath Noise,
  Seashore, Bird Tweet, Telephone Ring, Helicopter, Applause, Gunshot
  """.split(",")
)


def to_slakh_classes(notes: Notes) -> Notes:
  """Replaces each program by the largest class program that is not above it.

  Drums stay as they are. Notes of one pitch that come to overlap, because
  their programs became one, are cut by `trim_overlaps`.
  """
  classes = np.array(list(SLAKH_CLASSES.values()), np.int32)
  nearest = classes[np.searchsorted(classes, notes.program, "right") - 1]
  program = np.where(notes.is_drum, notes.program, nearest)
  return cleaning.trim_overlaps(dataclasses.replace(notes, program=program))
