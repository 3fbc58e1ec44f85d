"""Pictures of a rendering: the piano roll over the log-mel spectrogram."""

import io

from jaxtyping import Float, Float32
from matplotlib import collections as mpl_collections
from matplotlib import colormaps, patches, ticker
from matplotlib import figure as mpl_figure
import numpy as np

from music_spectrogram_diffusion.audio import SpectrogramConfig
from music_spectrogram_diffusion.notes import PROGRAM_NAMES, Notes

_INCHES_PER_SECOND = 0.2
_MIN_INCHES, _MAX_INCHES = 9.0, 36.0
_MAX_LEGEND = 16
_DRUMS = -1
_DRUM_COLOR = "0.35"
_DRUM_S = 0.05
_SHORTEST_S = 0.02
# The strong colours before their pale twins.
_PALETTE = colormaps["tab20"].colors[::2] + colormaps["tab20"].colors[1::2]
_TICKS_HZ = (100, 200, 500, 1000, 2000, 4000, 8000)


class MelOverview:
  """A spectrogram of any length, in bounded memory.

  Holds means over as many frames as it takes to stay under `max_columns`
  columns: a power of two, which doubles while the piece grows.

  Attributes:
    frames_per_column: How many frames a column now stands for.
  """

  def __init__(self, mel_bins: int, max_columns: int = 4096):
    self.frames_per_column = 1
    self._max_columns = max_columns
    self._columns = np.empty((0, mel_bins), np.float32)
    self._rest = self._columns  # Frames after the last whole column.

  def append(self, log_mel: Float[np.ndarray, "frames mel_bins"]) -> None:
    """Adds the next frames of the piece."""
    frames = np.concatenate([self._rest, log_mel])
    columns, self._rest = _means(frames, self.frames_per_column)
    self._columns = np.concatenate([self._columns, columns])
    while len(self._columns) > self._max_columns:
      self._columns, odd = _means(self._columns, 2)
      odd_frames = odd.repeat(self.frames_per_column, axis=0)
      self._rest = np.concatenate([odd_frames, self._rest])
      self.frames_per_column *= 2

  def columns(self) -> Float32[np.ndarray, "columns mel_bins"]:
    """The spectrogram so far; the last column may stand for fewer frames."""
    if not len(self._rest):
      return self._columns
    last = self._rest.mean(axis=0, keepdims=True)
    return np.concatenate([self._columns, last])


def draw_rendering(
  notes: Notes,
  log_mel: Float[np.ndarray, "columns mel_bins"],
  *,
  config: SpectrogramConfig,
  frames_per_column: int = 1,
  title: str = "",
) -> mpl_figure.Figure:
  """Draws the notes above the spectrogram that was made from them.

  Args:
    notes: The piece; drums are drawn grey, other programs in colours.
    log_mel: Natural-log mel spectrogram, from the start of the piece.
    config: How the spectrogram was computed.
    frames_per_column: Frames that a column stands for; more than one in an
      overview.
    title: Line on top.

  Returns:
    A figure that no window owns, to `savefig`.
  """
  duration_s = len(log_mel) * frames_per_column / config.frame_rate
  width = np.clip(_INCHES_PER_SECOND * duration_s, _MIN_INCHES, _MAX_INCHES)
  figure = mpl_figure.Figure(figsize=(width, 6.0), layout="constrained")
  roll, mel = figure.subplots(2, sharex=True)
  _draw_roll(roll, notes)
  image = mel.imshow(
    log_mel.T,
    aspect="auto",
    origin="lower",
    cmap="magma",
    vmin=config.mel_range[0],
    vmax=config.mel_range[1],
    extent=(0.0, duration_s, -0.5, config.n_mels - 0.5),
  )
  _label_frequencies(mel, config)
  mel.set_xlim(0.0, duration_s)
  mel.set_xlabel("time (s)")
  scale = mel.inset_axes((1.01, 0.0, 0.01, 1.0))
  figure.colorbar(image, cax=scale, label="log mel")
  figure.suptitle(title, fontsize="medium", parse_math=False)
  return figure


def png(figure: mpl_figure.Figure) -> bytes:
  """The figure as the bytes of a PNG file."""
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", dpi=100)
  return buffer.getvalue()


def _means(rows, width):
  """Means of whole groups of `width` rows, and the rows that are left."""
  count = len(rows) // width
  groups = rows[: count * width].reshape(count, width, rows.shape[1])
  return groups.mean(axis=1), rows[count * width :]


def _draw_roll(axes, notes: Notes) -> None:
  program = np.where(notes.is_drum, _DRUMS, notes.program)
  programs, row = np.unique(program, return_inverse=True)
  others = np.cumsum(programs != _DRUMS) - 1
  colors = [
    _DRUM_COLOR if p == _DRUMS else _PALETTE[i % len(_PALETTE)]
    for p, i in zip(programs, others, strict=True)
  ]
  # Drum hits have no length of their own; the shortest note is still seen.
  length_s = np.maximum(notes.offset - notes.onset, _SHORTEST_S)
  offset = notes.onset + np.where(notes.is_drum, _DRUM_S, length_s)
  corners = [
    (notes.onset, notes.pitch - 0.5),
    (offset, notes.pitch - 0.5),
    (offset, notes.pitch + 0.5),
    (notes.onset, notes.pitch + 0.5),
  ]
  boxes = np.stack([np.stack(corner, -1) for corner in corners], axis=1)
  for i, color in enumerate(colors):
    axes.add_collection(
      mpl_collections.PolyCollection(
        boxes[row == i], facecolors=[color], linewidths=0
      )
    )
  low, high = (notes.pitch.min(), notes.pitch.max()) if len(notes) else (48, 72)
  axes.set_ylim(low - 2, high + 2)
  axes.set_ylabel("pitch")
  axes.yaxis.set_major_locator(ticker.MultipleLocator(12))
  axes.grid(axis="y", alpha=0.3)
  handles = [
    patches.Patch(
      color=color, label="Drums" if p == _DRUMS else PROGRAM_NAMES[p]
    )
    for p, color in zip(programs, colors, strict=True)
  ]
  if handles:
    axes.legend(
      handles=handles[:_MAX_LEGEND],
      loc="upper left",
      bbox_to_anchor=(1.0, 1.0),
      fontsize="x-small",
      frameon=False,
    )


def _label_frequencies(axes, config: SpectrogramConfig) -> None:
  """Marks round frequencies on an axis that counts mel bins."""

  def hz_to_mel(frequency_hz):
    return np.log1p(np.asarray(frequency_hz) / 700.0)

  low, high = hz_to_mel(config.fmin), hz_to_mel(config.fmax)
  ticks_hz = [hz for hz in _TICKS_HZ if config.fmin < hz <= config.fmax]
  # Bin b peaks at edge b + 1 of n_mels + 2 evenly spaced ones.
  position = (hz_to_mel(ticks_hz) - low) / (high - low)
  axes.set_yticks(position * (config.n_mels + 1) - 1, labels=ticks_hz)
  axes.set_ylabel("frequency (Hz)")
