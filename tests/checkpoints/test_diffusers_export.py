import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from music_spectrogram_diffusion import checkpoints, models
from music_spectrogram_diffusion.diffusion import parameterization, schedules

DATA = pathlib.Path(__file__).parents[1] / "data"
PIPELINE = DATA / "diffusers_tiny"
COMPONENTS = ("notes_encoder", "continuous_encoder", "decoder")


@pytest.fixture(scope="module")
def imported():
  return checkpoints.load_diffusers_pipeline(PIPELINE)


def changed(config, **changes):
  """The config with other fields in the model or, for a dict, in its part."""
  model = models.from_config(config)
  for name, value in changes.items():
    if isinstance(value, dict):
      value = dataclasses.replace(getattr(model, name), **value)
    model = dataclasses.replace(model, **{name: value})
  return models.to_config(model)


def test_what_was_imported_comes_out_with_the_same_tensors(imported, tmp_path):
  checkpoints.export_diffusers_pipeline(*imported, tmp_path / "out")
  for component in COMPONENTS:
    file = f"{component}/diffusion_pytorch_model.safetensors"
    expected = safetensors.numpy.load_file(PIPELINE / file)
    tensors = safetensors.numpy.load_file(tmp_path / "out" / file)
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
      np.testing.assert_array_equal(tensors[name], tensor)


def test_the_index_names_the_class_of_each_component(imported, tmp_path):
  checkpoints.export_diffusers_pipeline(*imported, tmp_path / "out")
  found, expected = (
    json.loads((path / "model_index.json").read_text())
    for path in (tmp_path / "out", PIPELINE)
  )
  assert found.keys() == expected.keys()
  for component in ("melgan", "scheduler", *COMPONENTS):
    assert found[component][1] == expected[component][1]
  # Elsewhere diffusers does not find them.
  for component in COMPONENTS[:2]:
    assert found[component][0].endswith(f"spectrogram_diffusion.{component}")


def test_what_was_imported_comes_out_with_the_same_settings(imported, tmp_path):
  checkpoints.export_diffusers_pipeline(*imported, tmp_path / "out")
  for path in PIPELINE.rglob("*/*.json"):
    settings = json.loads(
      (tmp_path / "out" / path.relative_to(PIPELINE)).read_text()
    )
    expected = json.loads(path.read_text())
    # What is left out are diffusers' own defaults.
    assert settings == {name: expected[name] for name in settings}
  config, parameters = checkpoints.load_diffusers_pipeline(tmp_path / "out")
  assert config == imported[0]
  jax.tree.map(np.testing.assert_array_equal, parameters, imported[1])


@pytest.mark.parametrize(
  "schedule",
  [
    schedules.CosineSchedule(),
    schedules.LinearBetaSchedule(),
    schedules.SquaredCosineSchedule(offset=0.02),
  ],
)
def test_a_schedule_without_a_name_is_written_as_betas(
  imported, tmp_path, schedule
):
  config, parameters = imported
  checkpoints.export_diffusers_pipeline(
    changed(config, schedule=schedule), parameters, tmp_path / "out"
  )
  settings = json.loads(
    (tmp_path / "out" / "scheduler" / "scheduler_config.json").read_text()
  )
  betas = np.asarray(settings["trained_betas"], np.float32)
  assert len(betas) == settings["num_train_timesteps"] == 1000
  assert betas.min() > 0 and betas.max() < 1
  signal = np.cumprod(1.0 - betas, dtype=np.float32)  # As diffusers has it.
  times = np.arange(1000, dtype=np.float32) / 1000
  expected = jax.nn.sigmoid(schedule.logsnr(jax.numpy.asarray(times)))
  np.testing.assert_allclose(signal, expected, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize(
  "changes, obstacle",
  [
    ({"sampling": {"guidance_weight": 2.0}}, "guidance.* 2.0"),
    ({"parameterization": parameterization.V()}, "output other than eps .V."),
    ({"network": {"max_notes": 8}}, "max_notes of 8"),
    ({"network": {"scale_logits": True}}, "scale_logits of True"),
    ({"network": {"num_context_layers": 0}}, "model without context"),
    ({"spectrogram": {"hop_length": 160}}, "hop_length of 160"),
    ({"vocabulary": {"velocity_bins": 127}}, "velocity_bins of 127"),
  ],
)
def test_what_diffusers_cannot_express_is_refused(
  imported, tmp_path, changes, obstacle
):
  config, parameters = imported
  path = tmp_path / "out"
  with pytest.raises(checkpoints.CheckpointError, match=f"no {obstacle}"):
    checkpoints.export_diffusers_pipeline(
      changed(config, **changes), parameters, path
    )
  assert not path.exists()


def test_all_that_is_in_the_way_of_the_aligned_family_is_named(tmp_path):
  model = models.DiffusionModel(
    network=models.aligned_network(), parameterization=parameterization.V()
  )
  with pytest.raises(checkpoints.CheckpointError) as error:
    checkpoints.export_diffusers_pipeline(
      models.to_config(model), {}, tmp_path / "out"
    )
  assert str(error.value) == (
    "Expected a model that diffusers can express; its"
    " SpectrogramDiffusionPipeline has no max_notes of 256, no relative_time of"
    " True, no scale_logits of True, no output other than eps (V), no guidance,"
    " of which this one has a weight of 2.0."
  )


def test_guidance_is_left_behind_on_request(imported, tmp_path):
  config, parameters = imported
  checkpoints.export_diffusers_pipeline(
    changed(config, sampling={"guidance_weight": 2.0}),
    parameters,
    tmp_path / "out",
    without_guidance=True,
  )
  loaded, _ = checkpoints.load_diffusers_pipeline(tmp_path / "out")
  assert loaded == config


def test_what_exists_is_not_replaced(imported, tmp_path):
  with pytest.raises(checkpoints.CheckpointError, match="new directory"):
    checkpoints.export_diffusers_pipeline(*imported, tmp_path)
  assert not list(tmp_path.iterdir())
