"""The verb `evaluate` on a folder of songs, with a random model."""

import json

import jax
import numpy as np
import pytest
import soundfile
import typer.testing

from music_spectrogram_diffusion import (
  audio,
  checkpoints,
  diffusion,
  inference,
  models,
  notes,
)
from music_spectrogram_diffusion.cli import main

RATE = 16_000
MEL_BINS, FRAMES = 16, 64
SHORT = ("--inverter=griffin-lim", "--steps=1")


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory):
  model = models.DiffusionModel(
    network=models.aligned_network(
      emb_dim=16,
      num_heads=2,
      head_dim=8,
      mlp_dim=16,
      num_encoder_layers=1,
      num_decoder_layers=1,
      segment_frames=FRAMES,
      max_tokens=128,
      max_notes=16,
    ),
    spectrogram=audio.SpectrogramConfig(n_mels=MEL_BINS),
    parameterization=diffusion.parameterization.EDM(
      mean=np.full(MEL_BINS, 0.4, np.float32),
      deviation=np.full(MEL_BINS, 0.3, np.float32),
    ),
    sampling=models.SamplingConfig(
      sampler="ddim", num_steps=2, guidance_weight=1.5, end_time=0.5
    ),
  )
  rng = np.random.default_rng(0)
  parameters = jax.tree.map(
    lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32),
    jax.eval_shape(model.init, jax.random.key(0)),
  )
  path = tmp_path_factory.mktemp("models") / "tiny"
  config = {"model": models.to_config(model)}
  checkpoints.save_model_directory(path, config, parameters)
  return path


@pytest.fixture
def songs(tmp_path):
  """Three songs of three seconds; the last one's recording is none."""
  folder = tmp_path / "songs"
  folder.mkdir()
  rng = np.random.default_rng(0)
  for name, program in (("a", 0), ("b", 40), ("c", 0)):
    samples = rng.normal(0, 0.1, 3 * RATE)
    soundfile.write(folder / f"{name}.wav", samples, RATE)
    piece = notes.Notes.from_columns([0, 1], [1, 1.8], 60, 90, program)
    notes.write_midi(piece, folder / f"{name}.mid")
  (folder / "c.wav").write_bytes(b"")
  return folder


@pytest.fixture
def spec_diff(songs, model_directory, tmp_path, monkeypatch):
  """Runs the verb into `out`; gives (exit code, stdout, lines of stderr)."""
  monkeypatch.setenv("SPEC_DIFF_DEBUG", "0")

  def run(*more):
    arguments = [
      "evaluate",
      f"--task={songs}",
      f"--model={model_directory}",
      f"--output={tmp_path / 'out'}",
      *SHORT,
      *more,
    ]
    result = typer.testing.CliRunner().invoke(main.app, arguments)
    if isinstance(result.exception, ValueError):
      return 2, result.stdout, [str(result.exception)]
    if result.exception and not isinstance(result.exception, SystemExit):
      raise result.exception
    return result.exit_code, result.stdout, result.stderr.splitlines()

  return run


def lines_of(tmp_path):
  return (tmp_path / "out" / "results.jsonl").read_text().splitlines()


def test_a_folder_of_songs_becomes_a_table_and_goes_on_where_it_stopped(
  spec_diff, songs, tmp_path, monkeypatch
):
  code, stdout, stderr = spec_diff("--embedding=vggish=/nowhere")
  assert code == 2  # An embedding was asked for and is not there.
  assert "without the embedding vggish" in stderr[0]
  assert any("1 song: left out (songs/c" in line for line in stderr)
  for text in ("tiny", "ground truth through the inverter", "(published)"):
    assert text in stdout
  records = [json.loads(line) for line in lines_of(tmp_path)]
  assert [record["id"] for record in records] == ["a", "b", "c"]
  scores = records[0]["systems"]["tiny"]["scores"]
  assert scores.keys() == {"STFT distance", "log-mel distance"}
  # Two segments and a half of three seconds: one is the first.
  assert records[0]["systems"]["tiny"]["timing"]["mel_audio_s"] == 2 * 1.28
  out = {path.name for path in (tmp_path / "out").iterdir()}
  assert out >= {"report.md", "by_dataset.png", "by_instrument.png"}
  assert "songs_tiny.png" in out
  assert "* seed: 0" in (tmp_path / "out" / "report.md").read_text()

  # Killed while it wrote the second song's line: only that one and what
  # follows is rendered again.
  path = tmp_path / "out" / "results.jsonl"
  whole = path.read_bytes()
  path.write_bytes(whole[: whole.index(b"\n") + 20])
  rendered = []
  call = inference.Synthesizer.__call__

  def counted(self, *arguments, **settings):
    rendered.append(settings["seed"])
    return call(self, *arguments, **settings)

  monkeypatch.setattr(inference.Synthesizer, "__call__", counted)
  spec_diff("--embedding=vggish=/nowhere")
  assert len(rendered) == 1
  again = [json.loads(line) for line in lines_of(tmp_path)]
  assert [record["id"] for record in again] == ["a", "b", "c"]
  for one, two in zip(records[:2], again[:2], strict=True):
    assert one["systems"]["tiny"]["scores"] == two["systems"]["tiny"]["scores"]

  code, _, [line] = spec_diff("--embedding=vggish=/nowhere", "--seed=1")
  assert code == 2
  assert "holds an evaluation whose seed is 0, not 1" in line
  assert len(rendered) == 1


def test_an_interrupt_leaves_what_is_done_and_says_so(
  spec_diff, tmp_path, monkeypatch
):
  call = inference.Synthesizer.__call__
  started = []

  def interrupted(self, *arguments, **settings):
    started.append(1)
    if len(started) == 2:
      raise KeyboardInterrupt
    return call(self, *arguments, **settings)

  monkeypatch.setattr(inference.Synthesizer, "__call__", interrupted)
  code, stdout, stderr = spec_diff("--songs=2", "--save_audio")
  assert code == 130
  assert stderr[-1].endswith("holds 1 songs, and the same command goes on.")
  assert "tiny" in stdout
  assert len(lines_of(tmp_path)) == 1
  samples, rate = soundfile.read(tmp_path / "out/audio/tiny/songs/a.wav")
  assert (len(samples), rate) == (round(2.8 * RATE), RATE)


def test_a_bucket_is_no_folder_and_none_is_made_in_its_name(
  spec_diff, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  code, _, [line] = spec_diff("--output=gs://bucket/results")
  assert code == 2
  assert "workers see, got gs:/bucket/results" in line
  assert not (tmp_path / "gs:").exists()


def test_what_is_no_task_is_one_line_and_nothing_is_written(
  spec_diff, tmp_path
):
  (tmp_path / "songs" / "a.mid").rename(tmp_path / "x.mid")
  for name in ("b", "c"):
    (tmp_path / "songs" / f"{name}.mid").unlink()
  code, _, [line] = spec_diff()
  assert code == 2
  assert line.startswith("Expected recordings")
  assert not (tmp_path / "out").exists()


def test_a_model_that_fails_on_all_songs_ends_with_an_error(
  spec_diff, monkeypatch
):
  def fail(*_, **__):
    raise ValueError("nothing is heard")

  monkeypatch.setattr(inference.Synthesizer, "__call__", fail)
  interval = ("--guidance-interval", "0.2", "0.8")
  for _ in range(2):  # The same settings are recognised.
    code, _, stderr = spec_diff(*interval)
    assert code == 2
    assert any("nothing is heard" in line for line in stderr)
