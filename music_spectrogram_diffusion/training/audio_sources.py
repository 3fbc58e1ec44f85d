"""Sources of audio to train an inverter on.

Each is what a run wants, once gin has bound the keywords after the first four:
a function that gives an iterator of batches of a host's share.
"""

import os

from music_spectrogram_diffusion import audio, data
from music_spectrogram_diffusion.training import sources


def audio_folder(
  *,
  batch_size: int,
  host_index: int = 0,
  host_count: int = 1,
  seed: int = 0,
  directory: str | os.PathLike,
  clip_frames: int,
  spectrogram: audio.SpectrogramConfig,
  gain_db: tuple[float, float] = (0.0, 0.0),
) -> sources.StepIndexed:
  """Random clips of the audio files of a folder.

  Args:
    batch_size: Clips of this host's share of a batch.
    host_index: Which of several hosts this is.
    host_count: How many hosts make a batch together.
    seed: Another seed gives other clips.
    directory: Searched recursively for audio of any rate.
    clip_frames: Length of a clip, in frames.
    spectrogram: Gives the sample rate and the length of a frame.
    gain_db: Range that the level of each clip is changed by, at random.

  Raises:
    ValueError: There is no audio.
  """
  batches = data.ClipBatches(
    directory,
    sample_rate=spectrogram.sample_rate,
    clip_samples=clip_frames * spectrogram.hop_length,
    batch_size=batch_size,
    gain_db=gain_db,
    seed=seed,
    first_clip=host_index * batch_size,
  )
  return sources.StepIndexed(batches.batch)


def rendered_audio(
  *,
  batch_size: int,
  host_index: int = 0,
  host_count: int = 1,
  seed: int = 0,
  clip_frames: int,
  spectrogram: audio.SpectrogramConfig,
  soundfont: str | os.PathLike | None = None,
  midi: str | os.PathLike | None = None,
  midi_share: float = 0.2,
  gain_db: tuple[float, float] = (0.0, 0.0),
  num_workers: int = 2,
  clips_per_piece: int = 8,
) -> data.LiveWindows:
  """Clips of pieces that are composed and played by worker processes.

  Args:
    batch_size: Clips of this host's share of a batch.
    host_index: Which of several hosts this is; each has pieces of its own.
    host_count: How many hosts make a batch together.
    seed: Another seed gives other pieces.
    clip_frames: Length of a clip, in frames.
    spectrogram: Gives the sample rate and the length of a frame.
    soundfont: The soundfont; None for the one of this machine.
    midi: Folder of the MIDI files of songs; None for no songs.
    midi_share: Of the pieces, how many are excerpts of songs.
    gain_db: Range that the level of each clip is changed by, at random.
    num_workers: Processes; with 0, this one.
    clips_per_piece: Clips that are cut out of each piece.

  Raises:
    ValueError: There is no soundfont, or it cannot be played; or no MIDI file.
  """
  return data.LiveWindows(
    soundfont or data.find_soundfont(),
    data.ClipCutter(spectrogram, clip_frames, gain_db),
    pieces=data.with_songs(midi, midi_share),
    batch_size=batch_size,
    seed=seed,
    host_index=host_index,
    host_count=host_count,
    num_workers=num_workers,
    windows_per_piece=clips_per_piece,
  )
