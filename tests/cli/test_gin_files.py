import pytest

import gin
from music_spectrogram_diffusion.cli import gin_files

RUN = ["local_tiny.gin", "data/arrays.gin"]
BINDINGS = ["MODEL_DIR = 'run'", "DATA_DIR = 'songs'"]
HEAD = """
from __gin__ import dynamic_registration
from music_spectrogram_diffusion import models
"""


@pytest.fixture(autouse=True)
def no_config():
  yield
  gin.clear_config()


def fail(files, bindings, *parts, **options):
  """Loads what cannot be loaded; the message is one line with some parts."""
  with pytest.raises(ValueError) as error:
    gin_files.load(files, bindings, **options)
  message = str(error.value)
  assert "\n" not in message
  for part in parts:
    assert part in message, message


@pytest.fixture
def bad(tmp_path):
  def write(text):
    path = tmp_path / "bad.gin"
    path.write_text(HEAD + text)
    return [str(path)]

  return write


def test_files_are_found_with_and_without_their_folder_and_from_anywhere(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  for prefix in ("", "gin/"):
    gin_files.load([prefix + name for name in RUN], BINDINGS)
    assert gin.query_parameter("%TRAIN_STEPS") == 20


def test_bindings_come_after_files_and_a_search_path_before_what_is_installed(
  tmp_path,
):
  (tmp_path / "local_tiny.gin").write_text(
    "include 'small.gin'\nTRAIN_STEPS = 7\nBATCH_SIZE = 3"
  )
  gin_files.load(
    RUN, [*BINDINGS, "BATCH_SIZE = 5"], search_paths=[str(tmp_path)]
  )
  assert gin.query_parameter("%TRAIN_STEPS") == 7
  assert gin.query_parameter("%BATCH_SIZE") == 5


def test_nothing_is_left_of_an_earlier_configuration():
  gin_files.load(RUN, [*BINDINGS, "SEED = 5"])
  gin_files.load(RUN, BINDINGS)
  assert gin.query_parameter("%SEED") == 0


def test_bindings_reach_whatever_a_file_imports():
  binding = "models.SamplingConfig.end_time = 0.5"
  gin_files.load(RUN, [*BINDINGS, binding])
  assert gin.query_parameter("models.SamplingConfig.end_time") == 0.5


def test_a_file_that_is_not_there_has_a_suggestion():
  fail(["gin/smal.gin"], [], "gin/smal.gin", "small.gin is meant")
  fail(["what.gin"], [], "there are aligned.gin, aligned_gpu.gin")


def test_an_include_that_is_not_there_is_named_with_its_place(bad):
  fail(bad("include 'modl.gin'"), [], "bad.gin, line 4", "model.gin is meant")


@pytest.mark.parametrize(
  ("binding", "parts"),
  [
    ("TRAIN_STEP = 3", ["TRAIN_STEP", "TRAIN_STEPS is meant"]),
    ("NOTHING_LIKE_IT = 3", ["No gin file knows NOTHING_LIKE_IT"]),
    (
      "run.train_model.totl_steps = 3",
      ["run.train_model has no parameter totl_steps", "total_steps is meant"],
    ),
    ("run.trian_model.seed = 3", ["run.trian_model", "train_model is meant"]),
    ("rum.train_model.seed = 3", ["rum", "run is meant"]),
    ("models.DiffusionModl.network = 3", ["DiffusionModel is meant"]),
    ("MODEL_DIR = /tmp/run", ["""--gin.MODEL_DIR='"/tmp/run"'"""]),
    ("MODEL = @models.DifusionModel()", ["DiffusionModel is meant"]),
    ("SEED = %SEDE", ["SEDE has no value", "--gin.SEDE=VALUE"]),
  ],
)
def test_a_misspelt_binding_is_named_with_what_may_be_meant(binding, parts):
  fail(RUN, [*BINDINGS, binding], *parts)


@pytest.mark.parametrize(
  ("text", "parts"),
  [
    ("models.DiffusionModel.netwrk = 3", ["netwrk", "network is meant"]),
    ("models.DiffusionModl.network = 3", ["DiffusionModel is meant"]),
    ("modls.DiffusionModel.network = 3", ["No gin file imports modls"]),
    ("from music_spectrogram_diffusion import modelz", ["modelz"]),
    ("models.DiffusionModel.network = 3 +", ["line 4"]),
  ],
)
def test_a_misspelt_line_of_a_file_is_named_with_its_place(bad, text, parts):
  fail(bad(text), [], "bad.gin", "line 4", *parts)


def test_what_has_no_value_is_named_with_the_files_that_have_one():
  fail(RUN, BINDINGS[1:], "MODEL_DIR has no value: give --gin.MODEL_DIR=VALUE.")
  fail(RUN[:1], BINDINGS[:1], "TRAIN_SOURCE has no value", "data/arrays.gin")


def test_errors_of_what_is_configured_are_one_line(bad):
  files = bad("models.paper_network:\n  size = 'tiny'\n  drop = 3")
  gin_files.load(files)
  network = gin.get_configurable("models.paper_network")
  with pytest.raises(ValueError, match="paper_network takes no .* 'drop'"):
    with gin_files.explained():
      network()
  gin_files.load(bad("models.paper_network.size = 'huge'"))
  with pytest.raises(ValueError) as error:
    with gin_files.explained():
      network()
  assert str(error.value) == (
    "Expected a size of tiny, small, base, large; got 'huge'."
  )
