import numpy as np
import pytest

from music_spectrogram_diffusion.audio import SpectrogramConfig, log_mel
from music_spectrogram_diffusion.cli import plotting
from music_spectrogram_diffusion.notes import Notes


def frames_of(num_frames, mel_bins=3):
  values = np.arange(num_frames * mel_bins, dtype=np.float32)
  return values.reshape(num_frames, mel_bins)


@pytest.mark.parametrize("chunk", [1, 5, 64])
@pytest.mark.parametrize("num_frames", [1, 16, 17, 63, 64, 203])
def test_overview_holds_the_means_of_its_frames(num_frames, chunk):
  frames = frames_of(num_frames)
  overview = plotting.MelOverview(mel_bins=3, max_columns=16)
  for start in range(0, num_frames, chunk):
    overview.append(frames[start : start + chunk])
  width = overview.frames_per_column
  columns = overview.columns()
  assert len(columns) == -(-num_frames // width) <= 16 + 1
  expected = [
    frames[i : i + width].mean(axis=0) for i in range(0, num_frames, width)
  ]
  np.testing.assert_allclose(columns, expected, rtol=1e-6)


def test_overview_is_exact_while_the_piece_is_short():
  overview = plotting.MelOverview(mel_bins=3, max_columns=16)
  overview.append(frames_of(16))
  assert overview.frames_per_column == 1
  np.testing.assert_array_equal(overview.columns(), frames_of(16))


def chord():
  return Notes.from_columns(
    [0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [60, 64, 36], 80, [0, 40, 0], [0, 0, 1]
  )


def test_notes_and_spectrogram_share_the_axis_of_time():
  config = SpectrogramConfig()
  figure = plotting.draw_rendering(
    chord(), np.zeros((64, 128), np.float32), config=config, frames_per_column=4
  )
  roll, mel = figure.axes[:2]
  seconds = 64 * 4 / config.frame_rate
  assert roll.get_xlim() == mel.get_xlim() == (0.0, seconds)
  assert mel.images[0].get_extent()[:2] == [0.0, seconds]
  violin = roll.collections[2].get_paths()[0].vertices
  assert (violin[:, 0].min(), violin[:, 0].max()) == (1.0, 2.0)


def test_every_program_has_its_colour_and_its_name():
  config = SpectrogramConfig()
  figure = plotting.draw_rendering(
    chord(), np.zeros((64, 128), np.float32), config=config
  )
  roll = figure.axes[0]
  colors = {tuple(c.get_facecolor()[0]) for c in roll.collections}
  assert len(colors) == len(roll.collections) == 3
  labels = [text.get_text() for text in roll.get_legend().get_texts()]
  assert len(labels) == 3 and labels[0] == "Drums"


@pytest.mark.parametrize("frequency_hz", [200, 1000, 4000])
def test_a_tone_lies_at_its_mark_on_the_axis_of_frequencies(frequency_hz):
  config = SpectrogramConfig()
  time_s = np.arange(config.sample_rate) / config.sample_rate
  tone = np.sin(2 * np.pi * frequency_hz * time_s).astype(np.float32)
  mel = log_mel(tone, config)
  figure = plotting.draw_rendering(chord(), mel, config=config)
  axes = figure.axes[1]
  labels = [text.get_text() for text in axes.get_yticklabels()]
  mark = axes.get_yticks()[labels.index(str(frequency_hz))]
  assert abs(mel[10].argmax() - mark) <= 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("num_notes", [0, 3])
def test_a_picture_needs_no_notes_and_takes_any_title(num_notes):
  figure = plotting.draw_rendering(
    chord()[:num_notes],
    np.zeros((256, 128), np.float32),
    config=SpectrogramConfig(),
    title="$1 & $2_^.mid",
  )
  assert plotting.png(figure).startswith(b"\x89PNG")
