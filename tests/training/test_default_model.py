import itertools
import json

import numpy as np
import pytest

from music_spectrogram_diffusion import audio, diffusion, models
from music_spectrogram_diffusion.training import default_model, sources

FRAMES = 8
CONFIG = audio.SpectrogramConfig(n_mels=24)
LOW, HIGH = CONFIG.mel_range


def make_batch(step):
  """Bin 3 is loud in every other frame; half of the second row is padding."""
  targets = np.full((2, FRAMES, 24), LOW, np.float32)
  targets[:, ::2, 3] = HIGH
  valid = np.arange(FRAMES) < np.array([[FRAMES], [4]])
  return {
    "targets": np.where(valid[..., None], targets, HIGH + 9),
    "targets_mask": valid,
  }


def source(*, batch_size, host_index, host_count, seed):
  assert (host_index, host_count) == (0, 1)  # All hosts see the same.
  return sources.StepIndexed(make_batch)


def no_source(**_):
  raise AssertionError("The data was to be left alone.")


def test_bin_statistics_are_those_of_valid_frames_on_the_model_s_scale():
  batches = itertools.islice(sources.StepIndexed(make_batch), 3)
  mean, deviation = default_model.bin_statistics(batches, CONFIG)
  np.testing.assert_allclose(np.delete(mean, 3), -1.0, atol=1e-6)
  np.testing.assert_allclose(np.delete(deviation, 3), 0.0, atol=1e-6)
  assert (mean[3], deviation[3]) == pytest.approx((0.0, 1.0), abs=1e-6)


def test_the_preconditioning_is_around_the_data_s_mean(tmp_path):
  edm = default_model.preconditioning(source, tmp_path, CONFIG, num_batches=2)
  assert edm.mean[3] == pytest.approx(0.0, abs=1e-6)
  assert edm.deviation[3] == pytest.approx(0.4, rel=1e-5)
  # Bins that never change do not divide by zero.
  assert edm.deviation[0] == np.float32(0.02)


@pytest.mark.parametrize("kind", ["EDM", "StandardizedX0"])
def test_what_was_measured_is_given_to_the_parameterization(tmp_path, kind):
  kind = getattr(diffusion.parameterization, kind)
  made = default_model.preconditioning(
    source, tmp_path, CONFIG, parameterization=kind, num_batches=2
  )
  assert type(made) is kind and made.deviation[3] == pytest.approx(0.4)


def test_a_run_keeps_what_it_measured(tmp_path):
  path = tmp_path / "run"
  first = default_model.preconditioning(source, path, CONFIG, num_batches=2)
  (path / "checkpoints" / "100").mkdir(parents=True)
  second = default_model.preconditioning(no_source, path, CONFIG)
  np.testing.assert_array_equal(first.mean, second.mean)
  np.testing.assert_array_equal(first.deviation, second.deviation)


def test_a_run_that_never_began_is_measured_anew(tmp_path):
  (tmp_path / "statistics.json").write_text("of other data")
  edm = default_model.preconditioning(source, tmp_path, CONFIG, num_batches=1)
  assert edm.deviation[3] == pytest.approx(0.4, rel=1e-5)
  assert [path.name for path in tmp_path.iterdir()] == ["statistics.json"]


def test_a_run_may_begin_with_what_another_measured_and_keeps_it(tmp_path):
  run, other = tmp_path / "run", tmp_path / "other"
  first = default_model.preconditioning(source, other, CONFIG, num_batches=2)
  given = other / "statistics.json"
  second = default_model.preconditioning(no_source, run, CONFIG, given=given)
  (run / "checkpoints" / "100").mkdir(parents=True)
  given.write_text("{}")
  third = default_model.preconditioning(no_source, run, CONFIG, given=given)
  for edm in (second, third):
    np.testing.assert_array_equal(edm.mean, first.mean)
    np.testing.assert_array_equal(edm.deviation, first.deviation)


def test_a_run_may_begin_with_what_a_model_directory_says(tmp_path):
  first = default_model.preconditioning(source, tmp_path / "other", CONFIG)
  model = models.DiffusionModel(
    network=models.paper_network("tiny"), parameterization=first
  )
  given = tmp_path / "config.json"
  given.write_text(json.dumps({"model": models.to_config(model)}))
  second = default_model.preconditioning(
    no_source, tmp_path / "run", CONFIG, given=given
  )
  np.testing.assert_allclose(second.mean, first.mean)
  np.testing.assert_allclose(second.deviation, first.deviation, rtol=1e-6)


def test_a_model_without_a_mean_is_no_beginning(tmp_path):
  model = models.DiffusionModel(network=models.paper_network("tiny"))
  given = tmp_path / "config.json"
  given.write_text(json.dumps({"model": models.to_config(model)}))
  with pytest.raises(
    ValueError, match="around a mean in .*config.json, got Eps"
  ):
    default_model.preconditioning(
      no_source, tmp_path / "run", CONFIG, given=given
    )


@pytest.mark.parametrize("content", ["{", json.dumps({"mean": [0.0]})])
def test_a_measurement_that_is_damaged_is_named(tmp_path, content):
  (tmp_path / "statistics.json").write_text(content)
  (tmp_path / "checkpoints" / "100").mkdir(parents=True)
  with pytest.raises(ValueError, match="statistics.json"):
    default_model.preconditioning(no_source, tmp_path, CONFIG)
