import dataclasses
import json

import jax
from jax import numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion import audio, diffusion, models, notes


def through_json(part):
  return models.from_config(json.loads(json.dumps(models.to_config(part))))


def test_a_paper_model_comes_back():
  model = models.DiffusionModel(
    network=models.paper_network("base"),
    vocabulary=notes.Vocabulary(velocity_bins=127),
    schedule=diffusion.schedules.CosineSchedule(logsnr_max=15.0),
  )
  assert through_json(model) == model


def test_an_aligned_model_comes_back(aligned):
  model = aligned.model
  back = through_json(model)
  for field in dataclasses.fields(model):
    if field.name != "parameterization":
      assert getattr(back, field.name) == getattr(model, field.name)
  for name in ("mean", "deviation"):
    found = getattr(back.parameterization, name)
    expected = getattr(model.parameterization, name)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
  "part",
  [
    diffusion.schedules.LinearBetaSchedule(num_levels=10),
    diffusion.schedules.SquaredCosineSchedule(),
    diffusion.parameterization.V(),
    diffusion.parameterization.X0(),
    diffusion.parameterization.X0AndEps(),
    audio.SpectrogramConfig(n_mels=80),
    models.SamplingConfig(sampler="ddim"),
    models.aligned_network(),
  ],
  ids=lambda part: type(part).__name__,
)
def test_every_part_comes_back(part):
  back = through_json(part)
  assert back == part and type(back) is type(part)


def test_what_was_saved_before_spacings_is_sampled_as_it_was():
  config = models.to_config(models.SamplingConfig(sampler="ddim", end_time=0.7))
  del config["spacing"], config["guidance_interval"], config["overlap_frames"]
  sampling = models.from_config(config)
  assert (sampling.sampler, sampling.end_time) == ("ddim", 0.7)
  assert sampling.spacing == "time"  # All there was.
  assert sampling.overlap_frames == 0
  assert sampling.guidance_interval == (0.0, 1.0)


def test_a_standardized_x0_comes_back():
  mean, deviation = np.float32([-0.5, 0.1]), np.float32([0.2, 0.3])
  kind = diffusion.parameterization.StandardizedX0(mean, deviation)
  back = through_json(kind)
  assert type(back) is type(kind)
  np.testing.assert_array_equal(back.mean, mean)
  np.testing.assert_array_equal(back.deviation, deviation)


def test_every_float32_comes_back_exactly():
  bits = np.random.default_rng(0).integers(0, 2**32, 2000, np.uint32)
  values = bits.view(np.float32)
  values = values[np.isfinite(values)]
  edm = diffusion.parameterization.EDM(
    mean=jnp.asarray(values), deviation=jnp.asarray(values)
  )
  assert isinstance(edm.mean, jax.Array)
  np.testing.assert_array_equal(through_json(edm).mean, values)


def test_a_float_may_have_lost_its_point():
  config = {"type": "SpectrogramConfig", "log_max": 4}
  assert models.from_config(config) == audio.SpectrogramConfig()


@pytest.mark.parametrize(
  ("config", "said"),
  [
    ({"type": "Popen", "args": "ls"}, "got 'Popen'"),
    ({"emb_dim": 3}, "got 'None'"),
    ({"type": ["Vocabulary"]}, "Vocabulary"),
    ({"type": "Vocabulary", "bins": 2}, "Vocabulary has no field bins"),
    ({"type": "X0AndEps", "num_outputs": 3}, "no field num_outputs"),
    ({"type": "DiffusionModel"}, "DiffusionModel cannot be built.*network"),
    ({"type": "Vocabulary", "velocity_bins": "2"}, "as int; got '2'"),
    ({"type": "Vocabulary", "velocity_bins": 0}, "got 0"),
    ({"type": "CosineSchedule", "logsnr_min": None}, "as float"),
    ({"type": "NetworkConfig", "max_notes": 2.5}, "max_notes"),
    ({"type": "EDM", "mean": 0.0, "deviation": [1.0]}, "mean of EDM"),
    ({"type": "EDM", "mean": [{}], "deviation": [1.0]}, "numbers"),
    (
      {"type": "DiffusionModel", "network": {"type": "Vocabulary"}},
      "network of DiffusionModel as NetworkConfig",
    ),
  ],
)
def test_what_cannot_be_built_is_an_error(config, said):
  with pytest.raises(ValueError, match=said):
    models.from_config(config)


def test_a_wrong_part_deep_inside_is_an_error():
  config = models.to_config(
    models.DiffusionModel(network=models.paper_network("tiny"))
  )
  config["network"]["depth"] = 3
  with pytest.raises(ValueError, match="NetworkConfig has no field depth"):
    models.from_config(config)
