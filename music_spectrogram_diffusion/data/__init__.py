"""Training data: generated pieces, soundfont rendering, batches of windows.

Imports the rooms `notes` and `audio`; no networks.
"""

from music_spectrogram_diffusion.data.audio_clips import (
  ClipBatches,
  ClipCutter,
)
from music_spectrogram_diffusion.data.coverage import (
  Coverage,
  cover,
  generated_pieces,
  pieces_of,
)
from music_spectrogram_diffusion.data.fit_rules import FitRules
from music_spectrogram_diffusion.data.generator import generate_piece
from music_spectrogram_diffusion.data.inspection import (
  TaskExample,
  read_task_examples,
)
from music_spectrogram_diffusion.data.live import LiveWindows
from music_spectrogram_diffusion.data.piece_sources import (
  WithSongs,
  with_songs,
)
from music_spectrogram_diffusion.data.played import prepare_soundfont
from music_spectrogram_diffusion.data.prepare import (
  DATASETS,
  PreparedDataset,
  prepare_dataset,
)
from music_spectrogram_diffusion.data.songs import prepare_songs
from music_spectrogram_diffusion.data.soundfont import (
  SoundfontRenderer,
  find_soundfont,
)
from music_spectrogram_diffusion.data.windows import (
  AudioWindowCutter,
  WindowBatches,
  WindowCutter,
)

__all__ = [
  "AudioWindowCutter",
  "ClipBatches",
  "ClipCutter",
  "Coverage",
  "DATASETS",
  "FitRules",
  "LiveWindows",
  "PreparedDataset",
  "SoundfontRenderer",
  "TaskExample",
  "WindowBatches",
  "WindowCutter",
  "WithSongs",
  "cover",
  "find_soundfont",
  "generate_piece",
  "generated_pieces",
  "pieces_of",
  "prepare_dataset",
  "prepare_songs",
  "prepare_soundfont",
  "read_task_examples",
  "with_songs",
]
