"""Notes to audio through the program `fluidsynth`, where it is installed."""

from collections.abc import Iterator
import dataclasses
from pathlib import Path
import shutil
import subprocess
import tempfile

from jaxtyping import Float32
import numpy as np

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.data import soundfont
from music_spectrogram_diffusion.notes import Notes, write_midi

PROGRAM = "fluidsynth"

GAIN = 0.6
"""Master gain: about as loud as `soundfont.GAIN_DB` makes the other player."""

# One of the 16 channels of a MIDI file is for drums.
_MAX_PROGRAMS = 15
# It too interpolates its samples, so that it shall run well above what is kept.
_SYNTHESIS_RATE = 48_000
# Said of a soundfont that is none, before it plays silence and exits 0.
_REFUSED = "not a SoundFont"


class FluidsynthRenderer:
  """Plays notes as `soundfont.SoundfontRenderer` does, by FluidSynth.

  Without reverb and chorus. Onsets are exact to 64 samples of 48 kHz.

  Attributes:
    path: The soundfont, .sf2 or .sf3.
    sample_rate: Rate of the audio, in Hz.

  Raises:
    ValueError: The program or the soundfont is missing.
  """

  def __init__(self, path: str | Path, sample_rate: int):
    self.path = Path(path)
    self.sample_rate = sample_rate
    if shutil.which(PROGRAM) is None:
      raise ValueError(
        f"Expected the program {PROGRAM}, found none: install it (Debian: `apt"
        " install fluidsynth`), or use the built-in synthesizer, tinysoundfont."
      )
    if not self.path.is_file():
      raise ValueError(f"Expected a soundfont at {path}; found no file there.")

  def render(
    self, notes: Notes, duration_s: float | None = None
  ) -> Float32[np.ndarray, " samples"]:
    """Renders `notes` to mono; see `soundfont.SoundfontRenderer.render`.

    Raises:
      ValueError: The program fails, as where the soundfont is none.
    """
    if duration_s is None:
      duration_s = notes.duration_s + soundfont.TAIL_S
    samples = np.zeros(round(duration_s * self.sample_rate), np.float32)
    for part in _parts(notes):
      played = self._play(part)[: len(samples)]
      samples[: len(played)] += played
    return samples

  def _play(self, notes: Notes) -> Float32[np.ndarray, " samples"]:
    """Has the program play notes of few programs, to the end of their sound."""
    with tempfile.TemporaryDirectory() as directory:
      midi, wav = Path(directory, "notes.mid"), Path(directory, "audio.wav")
      write_midi(notes, midi)
      options = ["--no-shell", "--no-midi-in", "--quiet"]
      options += ["--reverb", "0", "--chorus", "0", "--gain", str(GAIN)]
      options += ["--sample-rate", str(_SYNTHESIS_RATE)]
      options += ["--audio-file-type", "wav", "--audio-file-format", "float"]
      options += ["--fast-render", str(wav), str(self.path), str(midi)]
      result = subprocess.run(
        [PROGRAM, *options], capture_output=True, text=True, check=False
      )
      said = " ".join((result.stderr or result.stdout).split())
      if result.returncode or not wav.is_file() or _REFUSED in said:
        raise ValueError(
          f"Expected {PROGRAM} to play {self.path}; it failed"
          f" (exit {result.returncode}): {said or 'no message'}"
        )
      return audio.read_audio(wav, self.sample_rate)


def _parts(notes: Notes) -> Iterator[Notes]:
  """The notes in parts that have a channel for each program."""
  gated = np.where(
    notes.is_drum, notes.onset + soundfont.DRUM_GATE_S, notes.offset
  )
  notes = dataclasses.replace(notes, offset=gated)
  programs = np.unique(notes.program[~notes.is_drum])
  for start in range(0, max(len(programs), 1), _MAX_PROGRAMS):
    chosen = np.isin(notes.program, programs[start : start + _MAX_PROGRAMS])
    part = notes[np.where(notes.is_drum, start == 0, chosen)]
    if len(part):
      yield part
