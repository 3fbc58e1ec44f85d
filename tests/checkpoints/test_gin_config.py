import pytest

from music_spectrogram_diffusion import checkpoints
from music_spectrogram_diffusion.checkpoints import gin_config


@pytest.fixture
def bindings(tmp_path):
  """Reads a text as a gin file."""

  def read(text):
    path = tmp_path / "config.gin"
    path.write_text(text)
    return gin_config.Bindings(path)

  return read


def test_literals_are_read_whether_in_lines_or_in_blocks(bindings):
  read = bindings("""
# A comment.
from __gin__ import dynamic_registration
include 'other.gin'
network.T5Config.emb_dim = 768  # One more.
network.T5Config:
  dropout_rate = 0.1

  mlp_activations = ('gelu',
                     'linear')
LENGTHS = \\
    {'inputs': 2048, 'targets': -256}
NOTHING = None
""")
  assert read.get("T5Config.emb_dim") == 768
  assert read.get("T5Config.dropout_rate") == 0.1
  assert read.get("T5Config.mlp_activations") == ("gelu", "linear")
  assert read.get("LENGTHS") == {"inputs": 2048, "targets": -256}
  assert read.get("NOTHING", 1) is None
  assert read.get("T5Config.head_dim", 64) == 64


def test_macros_are_followed_and_configurables_are_names(bindings):
  read = bindings("""
A = %B
B = %C
C = 3
MODEL = @models.DiffusionModel()
x.Y.z = %MODEL
UNKNOWN = %a.constant
LOOP = %POOL
POOL = %LOOP
STRING = '%C'
""")
  assert read.get("A") == 3
  assert read.get("Y.z") == "@models.DiffusionModel()"
  assert isinstance(read.get("UNKNOWN"), gin_config.Reference)
  assert isinstance(read.get("LOOP"), gin_config.Reference)
  assert read.get("STRING") == "%C"


def test_a_scope_comes_before_none_and_the_last_binding_counts(bindings):
  read = bindings("""
a.Schedule.steps = 1
a.Schedule.steps = 2
train/a.Schedule.steps = 3
outer/inner/a.Schedule:
  steps = 4
""")
  assert read.get("Schedule.steps") == 2
  assert read.get("train/Schedule.steps") == 3
  assert read.get("sampler/Schedule.steps") == 2
  assert read.scopes("Schedule.steps") == [
    "Schedule.steps",
    "train/Schedule.steps",
    "outer/inner/Schedule.steps",
  ]


@pytest.mark.parametrize(
  "value",
  [
    "__import__('os').mkdir('{}')",
    "open('{}', 'w')",
    "@os.mkdir('{}')",
    "[x for x in (1,)]",
    "{{[]: 1}}",
    "9" * 5000,
    "-" * 2000 + "1",
    "10 ** 10 ** 10",
  ],
)
def test_nothing_is_run_to_know_a_value(bindings, tmp_path, value):
  text = value.format(tmp_path / "hit")
  read = bindings(f"import os\nA.b = {text}\nA.c = 1\n")
  assert isinstance(read.get("A.b"), gin_config.Reference)
  assert read.get("A.c") == 1
  assert not (tmp_path / "hit").exists()


@pytest.mark.parametrize("text", ["A = (", "A = '''", "  A = 1\n B = 2\n"])
def test_a_file_in_another_syntax_is_named(bindings, text):
  with pytest.raises(checkpoints.CheckpointError, match="config.gin"):
    bindings(text)


def test_a_missing_or_binary_file_is_named(tmp_path):
  path = tmp_path / "config.gin"
  with pytest.raises(checkpoints.CheckpointError, match="config.gin"):
    gin_config.Bindings(path)
  path.write_bytes(b"\xff\xfe\x00")
  with pytest.raises(checkpoints.CheckpointError, match="config.gin"):
    gin_config.Bindings(path)
