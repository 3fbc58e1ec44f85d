"""The verb `info` on a task of a tiny dataset."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

pytest.importorskip("seqio")
pytest.importorskip("tensorflow_datasets")

import seqio  # noqa: E402

from music_spectrogram_diffusion import data, inverter, notes  # noqa: E402
from music_spectrogram_diffusion.cli import looking, main  # noqa: E402
from music_spectrogram_diffusion.data import inspection  # noqa: E402

SINE = Path(__file__).parents[1] / "data" / "sine.sf2"
RATE = 16000


@pytest.fixture(scope="module")
def tune():
  """Notes of 16 s, one of them held over the first boundary at 5.12 s."""
  rng = np.random.default_rng(0)
  onset = np.sort(rng.uniform(0.1, 15.5, 60))
  piece = notes.Notes.from_columns(
    onset, onset + 0.3, rng.integers(50, 80, 60), 100, 40
  )
  held = notes.Notes.from_columns(5.0, 5.5, 45, 100, 73)
  return notes.trim_overlaps(notes.Notes.concatenate([piece, held]))


@pytest.fixture(scope="module")
def data_dir(tune, tmp_path_factory):
  directory = tmp_path_factory.mktemp("data")
  notes.write_midi(tune, directory / "a tune.mid")
  data.prepare_soundfont(
    data_dir=directory,
    midi_dir=directory,
    soundfont_path=SINE,
    validation_share=0.0,
    num_workers=0,
  )
  yield directory
  seqio.set_tfds_data_dir_override(None)


@pytest.fixture(autouse=True)
def cheap_inverter(monkeypatch):
  """As long as the real one's audio, and as silent as can be."""

  def invert(self, log_mel):
    return np.zeros(len(log_mel) * self.config.hop_length, np.float32)

  monkeypatch.setattr(inverter.GriffinLim, "__call__", invert)


def info(task, data_dir, output, *more):
  arguments = ["info", task, f"--data_dir={data_dir}", "-o", str(output), *more]
  result = CliRunner().invoke(main.app, arguments, catch_exceptions=False)
  assert result.exit_code == 0, result.output
  return result.stdout.splitlines()


def duration_s(path):
  samples, rate = soundfile.read(path)
  assert rate == RATE
  return len(samples) / rate


def test_windows_become_pictures_sounds_notes_and_text(data_dir, tmp_path):
  task = "soundfont_with_context_eval"
  lines = info(task, data_dir, tmp_path / "new", "--n=2")
  assert len(lines) == 2
  assert all("5.12 s after" in line and "sound +0.0" in line for line in lines)
  stem = tmp_path / "new" / "02_a_tune"
  made = {p.name.removeprefix(stem.name) for p in tmp_path.glob("new/02_*")}
  assert made == {".png", ".txt", ".mid", ".inverted.wav", ".context.wav"}
  assert stem.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
  assert duration_s(f"{stem}.inverted.wav") == 5.12
  assert duration_s(f"{stem}.context.wav") == 5.12


def test_tokens_are_told_in_words(data_dir):
  first, second = data.read_task_examples(
    "soundfont_with_context_eval", count=2, data_dir=data_dir
  )
  assert (first.first_frame, len(first.context)) == (0, 0)
  assert (second.first_frame, len(second.context)) == (256, 256)
  lines = list(looking.describe_tokens(second))
  said = [line[13:] for line in lines[1:]]
  assert lines[0] == f"segment 0: {len(second.tokens[0])} tokens"
  assert "program 73 (Flute)" in said and "pitch 45 (A2)" in said
  assert said.index("pitch 45 (A2)") < said.index(
    "tie: what is above was held from before"
  )
  assert "at 0.38 s" in said and said[-1] == "end"
  assert lines[-1].split()[1] == "1"


def test_a_whole_song_has_its_recording_up_to_what_is_asked_for(
  data_dir, tmp_path, tune
):
  [line] = info(
    "soundfont_full_song", data_dir, tmp_path, "--seconds=10", "--n=3"
  )
  assert "10.24 s after 0.00 s" in line
  assert duration_s(tmp_path / "01_a_tune.original.wav") == 10.24
  assert duration_s(tmp_path / "01_a_tune.inverted.wav") == 10.24
  played = notes.read_midi(tmp_path / "01_a_tune.mid")
  assert len(played) == np.count_nonzero(tune.onset < 10.24)


def test_notes_of_another_song_do_not_lie_on_the_sound(data_dir, monkeypatch):
  [example] = data.read_task_examples(
    "soundfont_full_song", count=1, data_dir=data_dir
  )
  assert example.found.score > 0.2 and abs(example.found.lag_s) < 0.02
  shifted = notes.detokenize_segments

  def late(segments, **settings):
    found = shifted(segments, **settings)
    return notes.Notes.from_columns(
      found.onset + 0.2, found.offset + 0.2, found.pitch, found.velocity
    )

  monkeypatch.setattr(inspection.notes_lib, "detokenize_segments", late)
  [example] = data.read_task_examples(
    "soundfont_full_song", count=1, data_dir=data_dir
  )
  assert abs(example.found.lag_s + 0.2) < 0.02


def test_what_cannot_be_looked_at_is_one_line(data_dir, tmp_path):
  with pytest.raises(ValueError, match="none named nothing"):
    info("nothing", data_dir, tmp_path)
  with pytest.raises(ValueError, match="soundfont_pieces without inputs and"):
    info("soundfont_pieces", data_dir, tmp_path)
  with pytest.raises(ValueError, match="split.*found train"):
    info("soundfont", data_dir, tmp_path, "--split=validation")
  with pytest.raises(ValueError, match="prepare soundfont"):
    info("soundfont", tmp_path, tmp_path)
  with pytest.raises(ValueError, match=r"say where to write: .* -o DIR"):
    CliRunner().invoke(main.app, ["info", "soundfont"], catch_exceptions=False)
