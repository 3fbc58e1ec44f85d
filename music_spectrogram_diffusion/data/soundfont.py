"""Notes to audio through a soundfont: the teacher of the default model."""

import functools
import os
from pathlib import Path

from jaxtyping import Float32
import numpy as np
import soxr

from music_spectrogram_diffusion.notes import Notes

OVERSAMPLING = 3
"""Synthesis runs at this multiple of the output rate.

The synthesiser interpolates its samples linearly, which is clean enough only
well above the rate that is kept.
"""

GAIN_DB = -8.0
"""Fixed gain of the mix: about one generated piece in a hundred peaks over 1.

One constant for all pieces, so that a note's level depends on its velocity
alone.
"""

TAIL_S = 2.0
"""Seconds that are rendered after the last note for its release."""

DRUM_GATE_S = 1.0
"""Notes on drums have no offsets; every hit is held for as many seconds."""

_MAX_VOICES = 512
_DRUM_CHANNEL = 128  # Channels 0 to 127 each hold the program of that number.
_DRUM_BANK = 128
_FADE_S = 0.1  # More than the synthesiser takes to end a voice.

_SOUNDFONT_VARIABLE = "SPEC_DIFF_SOUNDFONT"
_SOUNDFONT_PATHS = (
  "/usr/share/sounds/sf2/FluidR3_GM.sf2",
  "/usr/share/sounds/sf3/FluidR3Mono_GM.sf3",
  "/usr/share/sounds/sf3/default-GM.sf3",
  "/usr/share/sounds/sf2/default-GM.sf2",
)


def find_soundfont() -> Path:
  """Path of a General MIDI soundfont on this machine.

  The variable SPEC_DIFF_SOUNDFONT names one; otherwise it is looked for where
  Debian's packages put it.

  Raises:
    ValueError: If there is none, with what to install.
  """
  named = os.environ.get(_SOUNDFONT_VARIABLE)
  for path in [named] if named else _SOUNDFONT_PATHS:
    if Path(path).is_file():
      return Path(path)
  if named:
    raise ValueError(
      f"Expected a soundfont at {named}, the value of {_SOUNDFONT_VARIABLE};"
      " found no file there."
    )
  raise ValueError(
    f"Found no soundfont at {', '.join(_SOUNDFONT_PATHS)}; install the Debian"
    " package fluid-soundfont-gm, or name a .sf2 or .sf3 file in the"
    f" environment variable {_SOUNDFONT_VARIABLE}."
  )


class SoundfontRenderer:
  """Plays notes on a General MIDI soundfont, without reverb or chorus.

  Attributes:
    path: The soundfont, .sf2 or .sf3.
    sample_rate: Rate of the audio, in Hz.

  Raises:
    ValueError: If the path is no soundfont, or tinysoundfont is missing.
  """

  def __init__(self, path: str | Path, sample_rate: int = 16000):
    self.path = Path(path)
    self.sample_rate = sample_rate
    try:  # A package of those who prepare data, not of those who train.
      from tinysoundfont import _tinysoundfont
    except ImportError as error:
      raise ValueError(
        "Rendering needs tinysoundfont: `pip install --no-deps tinysoundfont`"
        " (its pyaudio is for live playback alone)."
      ) from error
    if not self.path.is_file():
      raise ValueError(f"Expected a soundfont at {path}; found no file there.")
    try:
      self._font = _tinysoundfont.SoundFont(str(self.path))
    except RuntimeError as error:
      raise ValueError(
        f"Expected an .sf2 or .sf3 soundfont at {path}; {error}."
      ) from error
    self._font.set_output(
      _tinysoundfont.OutputMode.StereoInterleaved,
      sample_rate * OVERSAMPLING,
      GAIN_DB,
    )
    self._font.set_max_voices(_MAX_VOICES)

  def render(
    self, notes: Notes, duration_s: float | None = None
  ) -> Float32[np.ndarray, " samples"]:
    """Renders `notes` to mono, every onset and offset at its exact sample.

    Args:
      notes: The piece. A note goes on sounding, as its instrument releases it,
        after its offset; how long a drum sounds does not depend on it.
      duration_s: Length of the audio; by default 2 s more than the piece.

    Returns:
      The mean of the two stereo channels; loud pieces may exceed 1.
    """
    if duration_s is None:
      duration_s = notes.duration_s + TAIL_S
    num_samples = round(duration_s * self.sample_rate)
    audio = np.zeros((num_samples * OVERSAMPLING, 2), np.float32)
    self._select_programs(notes)
    position = 0
    for start, play in self._events(notes):
      if start >= len(audio):
        break
      if start > position:
        self._font.render(memoryview(audio[position:start]).cast("B"))
        position = start
      play()
    if position < len(audio):
      self._font.render(memoryview(audio[position:]).cast("B"))
    self._silence()
    return soxr.resample(audio.mean(axis=1), OVERSAMPLING, 1, quality="HQ")

  def _silence(self):
    """Ends all voices, so that no piece is heard in the next one."""
    self._font.reset()
    fade = np.zeros((round(_FADE_S * self.sample_rate * OVERSAMPLING), 2), "f4")
    self._font.render(memoryview(fade).cast("B"))

  def _select_programs(self, notes: Notes):
    self._font.channel_set_bank(_DRUM_CHANNEL, _DRUM_BANK)
    self._font.channel_set_preset_number(_DRUM_CHANNEL, 0, True)
    for program in np.unique(notes.program[~notes.is_drum]).tolist():
      self._font.channel_set_bank(program, 0)
      self._font.channel_set_preset_number(program, program, False)

  def _events(self, notes: Notes):
    """Pairs of (sample, what to call then) in order of time, offsets first."""
    rate = self.sample_rate * OVERSAMPLING
    offset = np.where(notes.is_drum, notes.onset + DRUM_GATE_S, notes.offset)
    starts = np.rint(notes.onset * rate).astype(np.int64)
    ends = np.maximum(np.rint(offset * rate).astype(np.int64), starts + 1)
    channels = np.where(notes.is_drum, _DRUM_CHANNEL, notes.program).tolist()
    pitches, velocities = notes.pitch.tolist(), notes.velocity.tolist()
    times = np.concatenate([ends, starts])
    for event in np.argsort(times, kind="stable").tolist():
      note = event % len(notes)
      key = channels[note], pitches[note]
      if event < len(notes):
        play = functools.partial(self._font.channel_note_off, *key)
      else:
        loudness = velocities[note] / 127
        play = functools.partial(self._font.channel_note_on, *key, loudness)
      yield int(times[event]), play
