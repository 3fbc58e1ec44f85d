"""Facts about the experiments: what they change, measure and lay out."""

import importlib
from pathlib import Path
import sys

import jax
from jax import numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from music_spectrogram_diffusion import audio, diffusion, models
from music_spectrogram_diffusion.training import learners

_BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
_MODULES = ("alternatives", "variants", "table", "trial", "scoring", "run")
_CONFIG = audio.SpectrogramConfig()


@pytest.fixture(scope="module")
def experiments():
  """The modules of the folder, which import each other by their names."""
  before, known = sys.path[:], sys.modules.copy()
  sys.path[:0] = [
    str(_BENCHMARKS / "experiments"),
    str(_BENCHMARKS / "quality"),
  ]
  for name in _MODULES:  # Other folders may have modules of these names.
    sys.modules.pop(name, None)
  try:
    yield {name: importlib.import_module(name) for name in _MODULES}
  finally:
    sys.path[:] = before
    for name, module in list(sys.modules.items()):
      if str(_BENCHMARKS) in str(getattr(module, "__file__", "")):
        del sys.modules[name]
    sys.modules.update(
      {name: known[name] for name in known if name not in sys.modules}
    )


def write_song(path):
  columns = dict(onset=[0.0, 1.0], offset=[0.5, 2.0])
  columns = {name: np.asarray(value) for name, value in columns.items()}
  for name in ("pitch", "velocity", "program"):
    columns[name] = np.array([60, 64], np.int32)
  columns["is_drum"] = np.zeros(2, bool)
  columns["log_mel"] = np.zeros((150, 128), np.float16)
  path.parent.mkdir(exist_ok=True)
  safetensors.numpy.save_file(columns, path)


def test_every_variant_changes_the_trial_that_gin_makes(experiments, tmp_path):
  gin = pytest.importorskip("gin")
  folders = (tmp_path / "train", tmp_path / "held_out")
  for folder in folders:
    write_song(folder / "song.safetensors")
  seen = {}
  try:
    for variant in experiments["variants"].VARIANTS:
      made = experiments["run"].configured(variant, folders, tmp_path)
      assert isinstance(made.learner, learners.ModelLearner)
      seen.setdefault(gin.config_str(), []).append(variant.name)
  finally:
    gin.clear_config()
  assert [names for names in seen.values() if len(names) > 1] == []


def test_steps_and_what_depends_on_them_are_bound_together(
  experiments, tmp_path
):
  gin = pytest.importorskip("gin")
  folders = (tmp_path / "train", tmp_path / "held_out")
  for folder in folders:
    write_song(folder / "song.safetensors")
  base = experiments["variants"].BASE
  try:
    made = experiments["run"].configured(base, folders, tmp_path, 100)
    assert made.num_steps == 100
    macros = ("%WARMUP_STEPS", "%DECAY_STEPS")
    assert [gin.query_parameter(macro) for macro in macros] == [15, 40]
  finally:
    gin.clear_config()


def test_log_normal_times_have_normal_noise_levels(experiments):
  times = experiments["alternatives"].log_normal_times(
    jax.random.key(0), 4000, mean=-0.5, deviation=0.7
  )
  schedule = diffusion.schedules.CosineSchedule()
  levels = -0.5 * np.asarray(schedule.logsnr(times))  # ln(sigma / alpha)
  assert levels.mean() == pytest.approx(-0.5, abs=0.01)
  assert levels.std() == pytest.approx(0.7, abs=0.01)


class FakeModel:
  """Its parameters are zeros; harmonic ones are ones, by the fixture below."""

  def init(self, key):
    names = ("token_encoder", "decoder", "relative_time_bias")
    return {name: {"kernel": jnp.zeros(2)} for name in names}


@pytest.fixture
def harmonic_ones(monkeypatch):
  def init(key, model):
    return jax.tree.map(jnp.ones_like, model.init(key))

  monkeypatch.setattr(models, "harmonic_init", init)


def test_partly_harmonic_parameters_are_harmonic_where_they_match(
  experiments, harmonic_ones
):
  made = experiments["alternatives"].partly_harmonic_init(
    jax.random.key(0), FakeModel(), pattern="decoder/k|nothing"
  )
  found = {name: float(value["kernel"].sum()) for name, value in made.items()}
  assert found == {"token_encoder": 0, "decoder": 2, "relative_time_bias": 0}


def test_a_flat_bias_is_zero_and_everything_else_harmonic(
  experiments, harmonic_ones
):
  made = experiments["alternatives"].flat_bias_init(
    jax.random.key(0), FakeModel()
  )
  found = {name: float(value["kernel"].sum()) for name, value in made.items()}
  assert found == {"token_encoder": 2, "decoder": 2, "relative_time_bias": 0}


class FakeLearner:
  """Its state counts the steps."""

  def check_batch(self, batch):
    assert set(batch) == {"targets"}

  def initial_state(self, key):
    return jnp.zeros(2)

  def step(self, state, batch, key):
    return state + 1, {"loss": jnp.sum(batch["targets"])}


def test_a_trial_makes_its_steps_and_says_what_they_cost(experiments):
  def source(**_):
    return iter([{"targets": np.ones(3), "ids": np.array(["a"])}] * 4)

  made = experiments["trial"].Trial(
    learner=FakeLearner(),
    train_source=source,
    held_out_source=source,
    batch_size=1,
    num_steps=4,
  )
  state, cost = made.train()
  np.testing.assert_allclose(state, 4.0)
  assert cost["loss"] == pytest.approx(3.0)
  assert cost["seconds_a_step"] > 0


class Instrument:
  """Plays a sine as loud as its velocity says."""

  def render(self, played, duration_s):
    rate = _CONFIG.sample_rate
    samples = np.zeros(round(duration_s * rate), np.float32)
    times = np.arange(len(samples)) / rate
    for onset, offset, velocity in zip(
      played.onset, played.offset, played.velocity, strict=True
    ):
      now = (times >= onset) & (times < offset)
      wave = np.sin(2 * np.pi * 440 * times[now])
      samples[now] = 10 ** ((velocity - 127) / 40) * wave
    return samples


class Echo:
  """Plays pieces as they are, or every note as loud as all."""

  model = models.DiffusionModel(
    network=models.aligned_network(segment_frames=128)
  )

  def __init__(self, louder):
    self._louder = louder

  def play(self, pieces, sampling):
    return [self._louder * piece.log_mel for piece in pieces]


def test_notes_as_loud_as_the_soundfont_s_have_its_dynamics(experiments):
  found = experiments["scoring"].loudness(Echo(1.0), Instrument())
  assert found["dynamics"] == pytest.approx(1.0)
  assert found["velocity"] == pytest.approx(1.0, abs=1e-3)
  assert found["velocity"] == found["velocity of the soundfont"]
  # Half of every logarithm: half the decibels, which still follow velocities.
  half = experiments["scoring"].loudness(Echo(0.5), Instrument())
  assert 0.3 < half["dynamics"] < 0.7
  assert half["velocity"] > 0.95


def test_the_table_has_f1_relative_to_ground_truth_and_keeps_groups_together(
  experiments,
):
  variants, table = experiments["variants"], experiments["table"]
  scores = dict.fromkeys(table._COLUMNS, 0.25) | {"f1 of ground truth": 0.5}
  results = {
    variant.name: {
      "steps": 7,
      "gigaflops_a_step": 2.0,
      "seconds_a_step": 0.1,
      "scores": scores,
    }
    for variant in variants.VARIANTS
  }
  rows = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in table.layout(results).splitlines()
  ]
  assert len(rows) == 2 + len(variants.VARIANTS)
  groups = [row[1] for row in rows[2:]]
  changes = sum(a != b for a, b in zip(groups, groups[1:], strict=False))
  assert changes == len(set(groups)) - 1
  assert rows[2][rows[0].index("F1, 1 step")] == "0.500"


def test_songs_are_split_into_those_trained_on_and_others(
  experiments, tmp_path
):
  songs = tmp_path / "songs"
  songs.mkdir()
  for index in range(80):
    (songs / f"{index:03d}.safetensors").touch()
  folders = experiments["run"].split_songs(songs, tmp_path)
  names = [{path.name for path in folder.iterdir()} for folder in folders]
  assert names[1] == {"000.safetensors", "040.safetensors"}
  assert not names[0] & names[1] and len(names[0] | names[1]) == 80
