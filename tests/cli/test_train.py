"""Runs of tiny models: begun, gone on with, fine-tuned, converted, rendered."""

import json
import re

import jax
import numpy as np
import pytest
import safetensors.numpy
import typer.testing

import gin
from music_spectrogram_diffusion import checkpoints, notes, training
from music_spectrogram_diffusion.cli import main
from music_spectrogram_diffusion.inference import Synthesizer
from music_spectrogram_diffusion.training import loop

LENGTHS = {"inputs": 32, "targets": 16, "targets_context": 16}
TINY = [
  "--gin.learners.fit_lengths.network=@models.NetworkConfig()",
  *(
    f"--gin.models.NetworkConfig.{name}={value}"
    for name, value in dict(
      emb_dim=16,
      num_heads=1,
      mlp_dim=16,
      num_encoder_layers=1,
      num_context_layers=1,
      num_decoder_layers=1,
    ).items()
  ),
]
NOTE = notes.Notes.from_columns([0.0], [0.4], [60], 90)


@pytest.fixture(scope="module", autouse=True)
def programs_and_no_config(kept_programs):
  yield
  gin.clear_config()


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
  """A directory of one prepared song: a held note, and noise."""
  path = tmp_path_factory.mktemp("songs")
  log_mel = np.random.default_rng(0).uniform(-11, 3, (500, 128))
  columns = vars(notes.Notes.from_columns([0.0], [10.0], [60], 90))
  safetensors.numpy.save_file(
    columns | {"log_mel": log_mel.astype(np.float16)},
    path / "held.safetensors",
  )
  return path


def spec_diff(*arguments):
  """Runs a command in this process; errors come as exceptions."""
  result = typer.testing.CliRunner().invoke(
    main.app, [*map(str, arguments)], catch_exceptions=False
  )
  assert result.exit_code == 0, result.output
  return result.output


def train(name, run, songs, **macros):
  places = {"MODEL_DIR": str(run), "DATA_DIR": str(songs)}
  fixed = {"TASK_FEATURE_LENGTHS": LENGTHS, "BATCH_SIZE": 2}
  settings = places | fixed | macros
  return spec_diff(
    "train",
    f"--gin_file=gin/{name}.gin",
    "--gin_file=gin/data/arrays.gin",
    "--gin.run.train_model.watchers=()",
    *TINY,
    *(f"--gin.{macro}={value!r}" for macro, value in settings.items()),
  )


def logged(run):
  lines = (run / "checkpoints" / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line)["step"] for line in lines]


@pytest.fixture(scope="module")
def run(songs, tmp_path_factory):
  path = tmp_path_factory.mktemp("runs") / "tiny"
  train("local_tiny", path, songs, TRAIN_STEPS=2)
  return path


@pytest.fixture(scope="module")
def model(run):
  path = run.with_name("model")
  spec_diff("convert", "run", run, path, "--dtype", "float32")
  return path


def parameters_of(model):
  return checkpoints.load_model_directory(model)[1]


def test_a_run_says_what_it_is(run):
  names = {path.name for path in run.iterdir()}
  assert names == {"checkpoints", "model.json", "operative_config.gin"}
  described = json.loads((run / "model.json").read_text())
  assert described["network"]["max_tokens"] == LENGTHS["inputs"]


def test_the_operative_config_loads_as_it_is_and_goes_on(run):
  config = run / "operative_config.gin"
  before = config.read_text()
  said = spec_diff("train", f"--gin_file={config}", "--gin.TRAIN_STEPS=3")
  assert said.splitlines()[-1].startswith(f"{run}: 3 steps made")
  assert logged(run) == [2, 3]
  # The steps that were asked for are all that is different.
  steps = re.compile(r"^TRAIN_STEPS = .*$", re.MULTILINE)
  assert steps.sub("", config.read_text()) == steps.sub("", before)


def test_a_run_becomes_a_model_that_renders(model):
  synthesizer = Synthesizer.from_pretrained(model)
  samples = synthesizer(NOTE, seed=0, steps=2)
  assert np.isfinite(samples).all() and len(samples) > 16000


def test_the_autoregressive_model_trains_and_renders(songs, tmp_path):
  run, model = tmp_path / "run", tmp_path / "model"
  network = {"num_context_layers": 0, "autoregressive": True}
  options = {f"models.NetworkConfig.{name}": v for name, v in network.items()}
  train("small_autoregressive", run, songs, TRAIN_STEPS=1, **options)
  spec_diff("convert", "run", run, model, "--raw")
  samples = Synthesizer.from_pretrained(model)(NOTE, seed=0)
  assert np.isfinite(samples).all() and len(samples) > 16000


def test_fine_tuning_starts_from_a_model_and_leaves_what_is_frozen(
  model, songs, tmp_path, capsys
):
  run, tuned = tmp_path / "run", tmp_path / "tuned"
  encoders = ("token_encoder", "continuous_encoder")
  train(
    "local_tiny",
    run,
    songs,
    TRAIN_STEPS=1,
    INITIAL_MODEL=str(model),
    FROZEN=encoders,
  )
  spec_diff("convert", "run", run, tuned, "--raw", "--dtype", "float32")
  before, after = parameters_of(model), parameters_of(tuned)
  for part in encoders:
    jax.tree.map(np.testing.assert_array_equal, before[part], after[part])
  kernel = [
    tree["decoder"]["spec_out_dense"]["kernel"] for tree in (before, after)
  ]
  moved = np.abs(kernel[1] - kernel[0])
  assert 0 < moved.max() < 0.05 * np.abs(kernel[0]).max()


def test_a_file_that_describes_no_run_is_named(tmp_path):
  path = tmp_path / "empty.gin"
  path.write_text("SEED = 3")
  with pytest.raises(ValueError, match="describes a run; .*empty.gin does not"):
    spec_diff("train", f"--gin_file={path}")


def test_a_model_that_does_not_fit_is_an_error_that_lists_how(
  model, songs, tmp_path
):
  with pytest.raises(ValueError) as error:
    train(
      "local_tiny",
      tmp_path / "run",
      songs,
      INITIAL_MODEL=str(model),
      TASK_FEATURE_LENGTHS=LENGTHS | {"inputs": 40},
    )
  table = "token_encoder/Embed_0/embedding is [32, 16], expected [40, 16]"
  assert str(model) in str(error.value) and table in str(error.value)


def test_the_directory_of_another_model_is_left_alone(run, songs):
  before = (run / "model.json").read_text()
  with pytest.raises(ValueError, match="network/max_tokens is 32 there and 40"):
    lengths = LENGTHS | {"inputs": 40}
    train("local_tiny", run, songs, TASK_FEATURE_LENGTHS=lengths)
  assert (run / "model.json").read_text() == before


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    (
      {"TASK_FEATURE_LENGTHS": LENGTHS | {"targets_context": 8}},
      "as many frames of targets_context as of targets",
    ),
    ({"partitioning.Partitioner.model": 2}, "number of devices; got -1 x 2"),
    ({"DATA_DIR": "nowhere"}, "prepared songs in nowhere"),
    ({"EVAL_DATA_DIR": "nowhere"}, "prepared songs in nowhere"),
    ({"INITIAL_MODEL": "nowhere"}, "got nowhere"),
    ({"FROZEN": ("encodr",)}, "got 'encodr'"),
  ],
)
def test_what_does_not_fit_is_one_line_and_begins_no_run(
  songs, tmp_path, settings, message
):
  with pytest.raises(ValueError, match=message) as error:
    train("local_tiny", tmp_path / "run", songs, **settings)
  assert "\n" not in str(error.value)
  assert not (tmp_path / "run").exists()


def test_an_interruption_is_one_line_and_its_own_exit_code(
  run, songs, monkeypatch
):
  def interrupted(*_, **__):
    raise training.Interrupted("Stopped by SIGTERM at step 3.", 143)

  monkeypatch.setattr(loop, "train", interrupted)
  monkeypatch.setattr(training.Partitioner, "create_state", lambda *_: {})
  monkeypatch.setattr(training.Partitioner, "jit_step", lambda *_: None)
  result = typer.testing.CliRunner().invoke(
    main.app, ["train", f"--gin_file={run / 'operative_config.gin'}"]
  )
  assert result.exit_code == 143
  assert result.stderr == "Stopped by SIGTERM at step 3.\n"


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--gin_fle=small.gin"], "got --gin_fle=small.gin"),
    (["--gin.TRAIN_STEPS=4"], "Expected a --gin_file"),
    (["--gin_file=data/arrays.gin"], "TASK_FEATURE_LENGTHS has no value"),
  ],
)
def test_a_command_that_trains_nothing_says_so(arguments, message):
  with pytest.raises(ValueError, match=message):
    spec_diff("train", *arguments)
