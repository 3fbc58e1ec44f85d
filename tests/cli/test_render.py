import dataclasses
import errno
import hashlib
import itertools
import json
import types
import warnings

import mido
import numpy as np
import pytest
import soundfile
import typer.testing

import music_spectrogram_diffusion
from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.cli import main, outputs

_SEGMENT_SAMPLES = 256 * 320


@dataclasses.dataclass(eq=False)
class FakeSong:
  seed: int
  is_wanted: bool = True


class FakeSynthesizer:
  """Two segments of a quiet tone for every piece; `hook` runs before each."""

  spectrogram_config = audio.SpectrogramConfig()
  model_hash = "0123abcd"
  defaults = types.MappingProxyType(
    {"steps": 4, "sampler": "ddim", "guidance": 1.5}
  )
  follows_notes = True

  def __init__(self):
    self.calls, self.overlaps = [], []
    self.hook = lambda index: None
    self.check_settings = lambda **settings: None
    self.inverter_name = "GriffinLim"
    self.model = types.SimpleNamespace(
      network=types.SimpleNamespace(dtype="bfloat16")
    )

  def prepare(self, notes, *, seed, overlap):
    self.overlaps.append(overlap)
    return FakeSong(seed)

  def stream_batch(self, songs, *, batch_size, **settings):
    songs = iter(songs)
    while batch := list(itertools.islice(songs, batch_size)):
      self.calls.append(([song.seed for song in batch], settings))
      for index in range(2):
        for song in batch:
          self.hook(index)
          yield (
            song,
            types.SimpleNamespace(
              samples=np.full(_SEGMENT_SAMPLES, 0.1, np.float32),
              log_mel=np.full((256, 128), -3.0, np.float32),
              index=index,
              num_segments=2,
            ),
          )
      for song in batch:
        yield song, None


class BatchTooLargeError(ValueError):
  pass


@pytest.fixture
def synthesizer(monkeypatch):
  fake = FakeSynthesizer()
  room = types.ModuleType("inference")

  def from_pretrained(path, **loading):
    fake.loading = loading
    return fake

  room.Synthesizer = types.SimpleNamespace(from_pretrained=from_pretrained)
  room.BatchTooLargeError = BatchTooLargeError
  room.peak_memory = lambda: "at most 1.00 GB"
  monkeypatch.setattr(
    music_spectrogram_diffusion, "inference", room, raising=False
  )
  return fake


@pytest.fixture
def song(tmp_path):
  path = tmp_path / "song.mid"
  write_song(path)
  return path


def write_song(path, pitches=(60, 64)):
  track = mido.MidiTrack()
  for pitch in pitches:
    track.append(mido.Message("note_on", note=pitch, velocity=80))
    track.append(mido.Message("note_off", note=pitch, time=480))
  path.parent.mkdir(parents=True, exist_ok=True)
  mido.MidiFile(tracks=[track]).save(path)


def spec_diff(*arguments):
  """Runs the verb and returns (exit code, stdout, lines of stderr)."""
  result = typer.testing.CliRunner().invoke(
    main.app, ["render", *map(str, arguments)]
  )
  if result.exception and not isinstance(result.exception, SystemExit):
    raise result.exception
  return result.exit_code, result.stdout, result.stderr.splitlines()


def names(folder):
  return sorted(path.name for path in folder.iterdir())


def test_audio_and_sidecar_lie_beside_the_song_by_default(synthesizer, song):
  code, stdout, stderr = spec_diff(song, "--steps", 7, "--seed", 3)
  assert (code, stderr) == (0, [])
  assert stdout.startswith(f"{song.with_suffix('.wav')}: 10.2 s of audio in")
  assert names(song.parent) == ["song.json", "song.mid", "song.wav"]
  samples, rate = soundfile.read(song.with_suffix(".wav"))
  assert (len(samples), rate) == (2 * _SEGMENT_SAMPLES, 16000)
  assert synthesizer.calls == [([3], {"steps": 7})]


def test_the_sidecar_says_what_made_the_audio(synthesizer, song):
  spec_diff(song, "--guidance", 2, "--format", "flac")
  facts = json.loads(song.with_suffix(".json").read_text())
  assert (
    facts.pop("input_sha256") == hashlib.sha256(song.read_bytes()).hexdigest()
  )
  assert facts == {
    "input": "song.mid",
    "output": "song.flac",
    "version": music_spectrogram_diffusion.__version__,
    "model_hash": "0123abcd",
    "dtype": "bfloat16",
    "inverter": "GriffinLim",
    "follow_notes": True,
    "settings": {"steps": 4, "sampler": "ddim", "guidance": 2.0, "seed": 0},
    "sample_rate": 16000,
    "duration_s": 10.24,
    "complete": True,
  }


@pytest.mark.parametrize("format", audio.FORMATS)
def test_the_format_follows_the_name_of_the_output(
  synthesizer, song, tmp_path, format
):
  target = tmp_path / f"a.b.{format}"
  assert spec_diff(song, "-o", target)[0] == 0
  assert soundfile.info(target).samplerate == 16000


def test_a_folder_is_rendered_with_its_subfolders(synthesizer, tmp_path):
  for name in ("one.mid", "one.MIDI", "two/one.kar", "two/text.txt"):
    write_song(tmp_path / "songs" / name)
  (tmp_path / "songs" / "._one.mid").write_bytes(b"what macOS leaves there")
  (tmp_path / "songs" / "one.MIDI").rename(tmp_path / "songs" / "other.MIDI")
  out = tmp_path / "out"
  assert spec_diff(tmp_path / "songs", "-o", out)[0] == 0
  assert names(out) == ["one.json", "one.wav", "other.json", "other.wav", "two"]
  assert names(out / "two") == ["one.json", "one.wav"]


def test_plot_draws_a_picture(synthesizer, song):
  assert spec_diff(song, "--plot")[0] == 0
  header = song.with_suffix(".png").read_bytes()[:4]
  assert header == b"\x89PNG"


@pytest.mark.parametrize("taken", ["song.wav", "song.json", "song.png"])
def test_nothing_is_overwritten_unasked(synthesizer, song, taken):
  song.with_name(taken).write_text("mine")
  code, _, stderr = spec_diff(song, "--plot")
  assert (code, len(stderr)) == (2, 1)
  assert str(song.with_name(taken)) in stderr[0]
  assert "--overwrite" in stderr[0]
  assert names(song.parent) == sorted(["song.mid", taken])
  assert song.with_name(taken).read_text() == "mine"
  assert spec_diff(song, "--plot", "--overwrite")[0] == 0
  assert len(names(song.parent)) == 4


def test_an_input_is_never_replaced_by_its_own_rendering(synthesizer, tmp_path):
  song = tmp_path / "song.wav"
  write_song(song)
  before = song.read_bytes()
  assert spec_diff(song, "--overwrite")[0] == 2
  assert song.read_bytes() == before


def test_two_songs_that_would_make_one_file_are_a_collision(
  synthesizer, song, tmp_path
):
  write_song(tmp_path / "more" / "song.midi")
  code, stdout, stderr = spec_diff(
    song, tmp_path / "more", "-o", tmp_path / "out"
  )
  assert (code, len(stdout.splitlines()), len(stderr)) == (2, 1, 1)
  assert str(song) in stderr[0] and "song.midi" in stderr[0]


def test_a_song_that_is_given_twice_is_rendered_once(synthesizer, song):
  code, stdout, stderr = spec_diff(song, song.parent, song)
  assert (code, len(stdout.splitlines()), stderr) == (0, 1, [])


def test_bad_files_are_one_line_each_and_the_others_are_rendered(
  synthesizer, song, tmp_path
):
  text, empty = tmp_path / "text.mid", tmp_path / "empty.mid"
  text.write_text("this is not MIDI at all")
  empty.touch()
  folder, missing = tmp_path / "folder", tmp_path / "missing.mid"
  folder.mkdir()
  code, _, stderr = spec_diff(
    text, folder, empty, missing, song, "-o", tmp_path / "out"
  )
  assert (code, len(stderr)) == (2, 4)
  for path in (text, folder, empty, missing):
    assert sum(str(path) in line for line in stderr) == 1
  assert names(tmp_path / "out") == ["song.json", "song.wav"]


def test_a_song_without_notes_is_rendered_with_a_warning(synthesizer, tmp_path):
  write_song(tmp_path / "rest.mid", pitches=())
  code, _, stderr = spec_diff(tmp_path / "rest.mid", "--plot")
  assert (code, len(stderr)) == (0, 1)
  assert stderr[0].startswith("warning: ") and "rest.mid" in stderr[0]
  assert (tmp_path / "rest.wav").exists()


def test_an_interrupt_leaves_a_playable_beginning(synthesizer, song):
  def interrupt(index):
    if index == 1:
      raise KeyboardInterrupt

  synthesizer.hook = interrupt
  code, _, stderr = spec_diff(song)
  assert code == 130
  assert str(song.with_suffix(".wav")) in stderr[-1] and "5.1 s" in stderr[-1]
  assert names(song.parent) == ["song.json", "song.mid", "song.wav"]
  samples, _ = soundfile.read(song.with_suffix(".wav"))
  assert len(samples) == _SEGMENT_SAMPLES
  facts = json.loads(song.with_suffix(".json").read_text())
  assert not facts["complete"]


def test_an_interrupt_before_any_audio_leaves_nothing(synthesizer, song):
  def interrupt(index):
    raise KeyboardInterrupt

  synthesizer.hook = interrupt
  assert spec_diff(song)[0] == 130
  assert names(song.parent) == ["song.mid"]


def test_a_failure_while_rendering_leaves_nothing(synthesizer, song):
  def fail(index):
    if index == 1:
      raise OSError(errno.ENOSPC, "No space left on device")

  synthesizer.hook = fail
  code, _, stderr = spec_diff(song)
  assert (code, stderr) == (2, [f"error: {song}: No space left on device"])
  assert names(song.parent) == ["song.mid"]


def test_an_output_that_cannot_be_written_is_one_line(synthesizer, song):
  blocked = song / "out"
  code, _, stderr = spec_diff(song, "-o", blocked)
  assert (code, len(stderr)) == (2, 1)
  assert str(blocked) in stderr[0]


@pytest.mark.parametrize(
  ("options", "said"),
  [
    (["-o", "song.aiff"], "song.aiff"),
    (["-o", "song.wav", "--format", "mp3"], ".mp3"),
    (["--format", "aiff"], "aiff"),
  ],
)
def test_an_output_that_cannot_be_meant_says_so(
  synthesizer, song, options, said
):
  with pytest.raises(ValueError, match=said):
    spec_diff(song, *options)


def test_several_inputs_need_a_folder(synthesizer, song, tmp_path):
  with pytest.raises(ValueError, match="folder"):
    spec_diff(song, song, "-o", tmp_path / "one.wav")


def test_a_warning_for_users_is_said_once(synthesizer, song):
  def warn(index):
    warnings.warn("thinned\nout", stacklevel=1)
    warnings.warn("old interface", DeprecationWarning, stacklevel=1)

  prepare = synthesizer.prepare
  synthesizer.prepare = lambda *a, **k: warn(0) or warn(1) or prepare(*a, **k)
  _, _, stderr = spec_diff(song)
  assert stderr == [f"warning: {song}: thinned out"]


def test_a_bug_shows_its_traceback(synthesizer, song):
  def fail(index):
    raise TypeError("a bug")

  synthesizer.hook = fail
  with pytest.raises(TypeError):
    spec_diff(song)


def test_write_whole_leaves_nothing_of_a_failed_write(tmp_path, monkeypatch):
  def fail(self, data):
    self.touch()
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr("pathlib.Path.write_bytes", fail)
  with pytest.raises(OSError, match="plot.png"):
    outputs.write_whole(tmp_path / "plot.png", b"data")
  assert names(tmp_path) == []


def test_settings_reach_the_synthesizer(synthesizer, song):
  options = "--sampler dpm --steps 9 --spacing karras --end-time 0.1"
  options += " --guidance 1.25 --guidance-interval 0.2 0.9 --overlap 8"
  assert spec_diff(song, *options.split())[0] == 0
  expected = {
    "sampler": "dpm",
    "steps": 9,
    "spacing": "karras",
    "end_time": 0.1,
    "guidance": 1.25,
    "guidance_interval": (0.2, 0.9),
  }
  assert synthesizer.calls == [([0], expected)]
  facts = json.loads(song.with_suffix(".json").read_text())
  assert synthesizer.overlaps == [8]
  expected |= {"guidance_interval": [0.2, 0.9], "overlap": 8, "seed": 0}
  assert facts["settings"] == expected


def test_a_setting_that_cannot_be_ends_all_before_anything_is_rendered(
  synthesizer, song
):
  def check(**settings):
    raise ValueError(f"no {settings}")

  synthesizer.check_settings = check
  with pytest.raises(ValueError, match="no {'steps': 0}"):
    spec_diff(song, "--steps", 0)
  assert names(song.parent) == ["song.mid"]


@pytest.mark.parametrize("option", ["--batch-size", "--variations"])
def test_less_than_one_at_a_time_is_an_error(synthesizer, song, option):
  with pytest.raises(
    ValueError, match=f"Expected {option} of 1 or more, got 0"
  ):
    spec_diff(song, option, 0)


@pytest.mark.parametrize(
  ("option", "expected"),
  [((), None), (("--follow-notes",), True), (("--no-follow-notes",), False)],
)
def test_whether_notes_are_followed_is_left_to_the_inverter_unless_said(
  synthesizer, song, option, expected
):
  assert spec_diff(song, *option)[0] == 0
  assert synthesizer.loading["follow_notes"] is expected


def test_variations_are_named_after_their_seeds(synthesizer, song):
  code, stdout, stderr = spec_diff(
    song, "--variations", 3, "--seed", 5, "--batch-size", 2
  )
  assert (code, len(stdout.splitlines())) == (0, 3)
  assert stderr == ["memory: at most 1.00 GB"]
  assert [seeds for seeds, _ in synthesizer.calls] == [[5, 6], [7]]
  for seed in (5, 6, 7):
    assert (song.parent / f"song-{seed}.wav").exists()
    facts = json.loads((song.parent / f"song-{seed}.json").read_text())
    assert facts["settings"]["seed"] == seed
  assert len(names(song.parent)) == 7


def test_an_interrupted_batch_leaves_the_beginnings_of_its_songs(
  synthesizer, song
):
  def interrupt(index):
    if index == 1:
      raise KeyboardInterrupt

  synthesizer.hook = interrupt
  code, _, stderr = spec_diff(song, "--variations", 3, "--batch-size", 2)
  assert (code, len(stderr)) == (130, 2)
  for seed in (0, 1):
    samples, _ = soundfile.read(song.parent / f"song-{seed}.wav")
    assert len(samples) == _SEGMENT_SAMPLES
  assert len(names(song.parent)) == 5


def test_an_interrupted_song_that_cannot_be_kept_leaves_the_others(
  synthesizer, song, monkeypatch
):
  def interrupt(index):
    if index == 1:
      raise KeyboardInterrupt

  rooms = iter([OSError(errno.ENOSPC, "No space left on device")])

  def check_room(self):
    if error := next(rooms, None):
      raise error

  synthesizer.hook = interrupt
  monkeypatch.setattr(audio.AudioWriter, "_check_room", check_room)
  with pytest.raises(audio.AudioError, match="No space left"):
    spec_diff(song, "--variations", 3, "--batch-size", 3)
  kept = [path for path in names(song.parent) if path.endswith(".wav")]
  assert len(kept) == 2
  assert not any(path.endswith(".part") for path in names(song.parent))


def test_a_song_that_cannot_be_written_leaves_the_others_of_its_batch(
  synthesizer, song, monkeypatch
):
  write = audio.AudioWriter.write

  def fail(self, samples):
    if "song-1" in str(self._path):
      raise OSError(errno.ENOSPC, "No space left on device")
    write(self, samples)

  monkeypatch.setattr(audio.AudioWriter, "write", fail)
  code, stdout, stderr = spec_diff(song, "--variations", 3, "--batch-size", 3)
  assert (code, len(stdout.splitlines())) == (2, 2)
  assert stderr[0] == f"error: {song}: No space left on device"
  kept = [f"song-{seed}.{kind}" for seed in (0, 2) for kind in ("json", "wav")]
  assert names(song.parent) == sorted([*kept, "song.mid"])


def test_a_batch_that_does_not_fit_ends_all(synthesizer, song):
  def fail(index):
    raise BatchTooLargeError("try a batch size of 2")

  synthesizer.hook = fail
  with pytest.raises(ValueError, match="try a batch size of 2"):
    spec_diff(song, "--variations", 6, "--batch-size", 3)
  assert names(song.parent) == ["song.mid"]


def test_what_fails_without_a_song_is_not_tried_forever(synthesizer, song):
  def fail(songs, **settings):
    raise ValueError("no song's fault")
    yield

  synthesizer.stream_batch = fail
  with pytest.raises(ValueError, match="no song's fault"):
    spec_diff(song)
  assert names(song.parent) == ["song.mid"]
