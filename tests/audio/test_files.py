"""Reading, resampling and writing of audio files."""

import contextlib
import resource

import numpy as np
import pytest
import soundfile

from music_spectrogram_diffusion.audio import files

RATE = 16_000


def sine(duration_s=1.0, rate=RATE, frequency_hz=440.0):
  time = np.arange(int(duration_s * rate)) / rate
  return (0.5 * np.sin(2 * np.pi * frequency_hz * time)).astype(np.float32)


def write(path, samples, **options):
  with files.AudioWriter(path, RATE, **options) as writer:
    writer.write(samples)
  return writer


@contextlib.contextmanager
def file_size_limited_to(num_bytes):
  """Lets files grow to a number of bytes, as a nearly full disk does."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
  "format, tolerance",
  [("wav", 1e-4), ("flac", 1e-4), ("ogg", 0.05), ("mp3", 0.05)],
)
def test_what_was_written_in_chunks_is_read_back(tmp_path, format, tolerance):
  path, samples = tmp_path / f"a.{format}", sine()
  with files.AudioWriter(path, RATE) as writer:
    for chunk in np.split(samples, [0, 1, 5000]):
      writer.write(chunk)
  read = files.read_audio(path, RATE)
  assert read.dtype == np.float32 and read.shape == samples.shape
  middle = slice(1000, -1000)  # Lossy formats are rough at both ends.
  assert np.abs(read - samples)[middle].max() < tolerance
  assert writer.num_samples == len(samples) and writer.num_clipped == 0


def test_channels_are_averaged_and_the_rate_is_changed(tmp_path):
  path = tmp_path / "stereo.wav"
  left, right = sine(1.0, 44_100), sine(1.0, 44_100, 660.0)
  soundfile.write(path, np.stack([left, right], axis=1), 44_100, "FLOAT")
  read = files.read_audio(path, RATE)
  expected = (sine() + sine(frequency_hz=660.0)) / 2
  np.testing.assert_allclose(read[200:-200], expected[200:-200], atol=1e-3)


def test_resampling_keeps_a_low_tone_and_drops_what_would_alias():
  kept = files.resample(sine(1.0, 48_000), 48_000, RATE)
  np.testing.assert_allclose(kept[200:-200], sine()[200:-200], atol=1e-3)
  dropped = files.resample(sine(1.0, 48_000, 12_000.0), 48_000, RATE)
  assert np.abs(dropped[200:-200]).max() < 1e-3
  assert files.resample(sine(), RATE, RATE).shape == (RATE,)
  with pytest.raises(ValueError, match="above 0 Hz"):
    files.resample(sine(), 0, RATE)


def test_a_header_that_claims_hours_gives_the_samples_that_are_there(tmp_path):
  path = tmp_path / "short.wav"
  soundfile.write(path, sine(0.1), RATE)
  data = bytearray(path.read_bytes())
  data[40:44] = (2**31).to_bytes(4, "little")
  path.write_bytes(data)
  assert len(files.read_audio(path, RATE)) == 1600


@pytest.mark.parametrize(
  "content, reason",
  [
    (None, "No such audio file"),
    (b"", "as audio"),
    (b"RIFF....", "as audio"),
    (b"MThd" + bytes(range(200)), "as audio"),
  ],
)
def test_what_is_not_audio_is_refused_by_name(tmp_path, content, reason):
  path = tmp_path / "song.wav"
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(files.AudioError, match=f"{reason}.*") as caught:
    files.read_audio(path, RATE)
  assert "song.wav" in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_an_empty_file_and_nan_are_refused(tmp_path):
  with pytest.raises(files.AudioError, match="folder"):
    files.read_audio(tmp_path, RATE)
  soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
  with pytest.raises(files.AudioError, match="no samples"):
    files.read_audio(tmp_path / "empty.wav", RATE)
  soundfile.write(tmp_path / "nan.wav", [0.0, np.nan], RATE, "FLOAT")
  with pytest.raises(files.AudioError, match="not finite"):
    files.read_audio(tmp_path / "nan.wav", RATE)


def test_samples_beyond_full_scale_are_clipped_and_counted(tmp_path):
  loud = np.array([0.5, 1.5, -3.0, 1.0], np.float32)
  writer = write(tmp_path / "loud.wav", loud)
  read = files.read_audio(tmp_path / "loud.wav", RATE)
  np.testing.assert_allclose(read, [0.5, 1.0, -1.0, 1.0], atol=1e-4)
  assert writer.num_clipped == 2


def test_an_existing_file_is_replaced_only_when_told(tmp_path):
  path = tmp_path / "a.wav"
  write(path, sine(0.1))
  with pytest.raises(files.AudioError, match="exists already"):
    write(path, sine(0.2))
  assert len(files.read_audio(path, RATE)) == 1600
  write(path, sine(0.2), overwrite=True)
  assert len(files.read_audio(path, RATE)) == 3200


def test_the_format_argument_goes_before_the_suffix(tmp_path):
  write(tmp_path / "a.sound", sine(0.1), format="flac")
  assert soundfile.info(tmp_path / "a.sound").format == "FLAC"
  with pytest.raises(files.AudioError, match="wav, flac, mp3, ogg"):
    files.AudioWriter(tmp_path / "a.sound", RATE)


@pytest.mark.parametrize("format", files.FORMATS)
def test_an_interrupted_file_is_playable(tmp_path, format):
  path = tmp_path / f"a.{format}"
  with pytest.raises(KeyboardInterrupt):
    with files.AudioWriter(path, RATE) as writer:
      writer.write(sine(0.5))
      assert not path.exists()
      raise KeyboardInterrupt
  assert len(files.read_audio(path, RATE)) == RATE // 2
  assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_by_an_error_or_an_early_interrupt(tmp_path):
  with pytest.raises(ZeroDivisionError):
    with files.AudioWriter(tmp_path / "a.wav", RATE) as writer:
      writer.write(sine())
      raise ZeroDivisionError
  with pytest.raises(KeyboardInterrupt):
    with files.AudioWriter(tmp_path / "a.wav", RATE):
      raise KeyboardInterrupt
  with pytest.raises(ValueError, match="finite"):
    write(tmp_path / "a.wav", np.array([np.nan], np.float32))
  assert not list(tmp_path.iterdir())


def test_an_error_keeps_the_file_that_was_to_be_overwritten(tmp_path):
  write(tmp_path / "a.wav", sine(0.1))
  with pytest.raises(ZeroDivisionError):
    with files.AudioWriter(tmp_path / "a.wav", RATE, overwrite=True) as writer:
      writer.write(sine())
      raise ZeroDivisionError
  assert len(files.read_audio(tmp_path / "a.wav", RATE)) == 1600


@pytest.mark.parametrize("format", files.FORMATS)
@pytest.mark.parametrize("room", [0.3, 0.99])
def test_a_full_disk_is_one_clear_line_and_leaves_nothing(
  tmp_path, format, room
):
  path = tmp_path / f"a.{format}"
  write(path, sine())
  size = path.stat().st_size
  path.unlink()
  with file_size_limited_to(int(room * size)):
    with pytest.raises(files.AudioError, match="Cannot write .*File too large"):
      write(path, sine())
  assert not list(tmp_path.iterdir())


def test_paths_that_cannot_be_written_are_refused_by_name(tmp_path):
  (tmp_path / "folder.wav").mkdir()
  with pytest.raises(files.AudioError, match="folder.wav: it is a folder"):
    write(tmp_path / "folder.wav", sine(0.1))
  with pytest.raises(files.AudioError, match="absent.*No such file"):
    write(tmp_path / "absent" / "a.wav", sine(0.1))
  with pytest.raises(files.AudioError, match="a.mp3"):
    with files.AudioWriter(tmp_path / "a.mp3", 12_345):
      pass
  assert len(list(tmp_path.iterdir())) == 1
