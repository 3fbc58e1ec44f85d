"""Sources of batches of songs: prepared ones, or made while one trains.

Each is what a run wants, once gin has bound the keywords after the first four:
a function that gives an iterator of batches of a host's share.
"""

from collections.abc import Mapping
import os
from pathlib import Path

from music_spectrogram_diffusion import audio, data, notes
from music_spectrogram_diffusion.training import sources


def prepared_songs(
  *,
  batch_size: int,
  host_index: int = 0,
  host_count: int = 1,
  seed: int = 0,
  directory: str | os.PathLike,
  lengths: Mapping[str, int],
  vocabulary: notes.Vocabulary,
  spectrogram: audio.SpectrogramConfig,
) -> sources.StepIndexed:
  """Random windows of the songs of a directory.

  Args:
    batch_size: Windows of this host's share of a batch.
    host_index: Which of several hosts this is.
    host_count: How many hosts make a batch together; all of them see all songs,
      and a batch does not depend on how many they are.
    seed: Another seed gives other windows.
    directory: Where `spec-diff prepare soundfont --format=arrays` wrote.
    lengths: Of features: `inputs`, the most tokens, and `targets`, the frames.
    vocabulary: Ids of the note tokens.
    spectrogram: The spectrogram's shape.

  Raises:
    ValueError: There are no songs.
  """
  batches = data.WindowBatches(
    directory,
    vocabulary=vocabulary,
    config=spectrogram,
    batch_size=batch_size,
    max_tokens=lengths["inputs"],
    segment_frames=lengths["targets"],
    seed=seed,
    first_window=host_index * batch_size,
  )
  return sources.StepIndexed(batches.batch)


def rendered_songs(
  *,
  batch_size: int,
  host_index: int = 0,
  host_count: int = 1,
  seed: int = 0,
  lengths: Mapping[str, int],
  soundfont: str | os.PathLike | None = None,
  vocabulary: notes.Vocabulary,
  spectrogram: audio.SpectrogramConfig,
  midi: str | os.PathLike | None = None,
  midi_share: float = 0.2,
  num_workers: int = 2,
  windows_per_piece: int = 8,
  pieces_per_block: int = 16,
  replays: int = 1,
) -> data.LiveWindows:
  """Windows of pieces that are composed and played by worker processes.

  And of songs: see `data.WithSongs` for how they are varied.

  Args:
    batch_size: Windows of this host's share of a batch.
    host_index: Which of several hosts this is; each has pieces of its own.
    host_count: How many hosts make a batch together.
    seed: Another seed gives other pieces.
    lengths: Of features: `inputs`, the most tokens, and `targets`, the frames.
    soundfont: The soundfont; None for the one of this machine.
    vocabulary: Ids of the note tokens.
    spectrogram: The spectrogram's shape.
    midi: Folder of the MIDI files of songs; None for no songs.
    midi_share: Of the pieces, how many are excerpts of songs.
    num_workers: Processes; with 0, this one.
    windows_per_piece: Windows that are cut out of each piece.
    pieces_per_block: Pieces whose windows are shuffled together.
    replays: How many times the windows of a block come, where one trains faster
      than as many processes can play.

  Raises:
    ValueError: There is no soundfont, or it cannot be played; or no MIDI file.
  """
  return data.LiveWindows(
    data.find_soundfont() if soundfont is None else Path(soundfont),
    data.WindowCutter(
      vocabulary=vocabulary,
      config=spectrogram,
      max_tokens=lengths["inputs"],
      segment_frames=lengths["targets"],
    ),
    pieces=data.with_songs(midi, midi_share),
    batch_size=batch_size,
    seed=seed,
    host_index=host_index,
    host_count=host_count,
    num_workers=num_workers,
    windows_per_piece=windows_per_piece,
    pieces_per_block=pieces_per_block,
    replays=replays,
  )
