"""Which ways of sampling benchmarks/steps compares, and what they cost."""

import dataclasses
import importlib.util
import pathlib

import pytest

from music_spectrogram_diffusion import models

_PATH = pathlib.Path(__file__).parents[2] / "benchmarks/steps/plan.py"
_MODEL = models.DiffusionModel(
  network=models.paper_network("tiny"),
  sampling=models.SamplingConfig(
    sampler="ddim",
    num_steps=3,
    guidance_weight=1.5,
    end_time=0.7,
    overlap_frames=16,
  ),
)


@pytest.fixture(scope="module")
def plan():
  spec = importlib.util.spec_from_file_location("steps_plan", _PATH)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_a_guided_prediction_costs_two_passes_and_others_one(plan):
  base = plan.default_of(_MODEL)
  assert base.passes(_MODEL) == 6
  # The predictions are made at times 1, 0.9 and 0.8.
  part = dataclasses.replace(base, guidance_interval=(0.85, 0.95))
  assert part.passes(_MODEL) == 4
  assert dataclasses.replace(base, guidance_weight=1.0).passes(_MODEL) == 3
  assert plan.reference_of(base).passes(_MODEL) == 2000


def test_every_sampler_meets_every_spacing_and_cheap_ones_come_first(plan):
  base = plan.default_of(_MODEL)
  settings = plan.solvers(base, (10, 2)) + plan.solvers(base, (2,))
  ordered = plan.cheapest_first(settings, _MODEL)
  number = len(models.SAMPLERS) * len(models.SPACINGS)
  assert [one.num_steps for one in ordered] == [2] * number + [10] * number
  assert len(set(ordered)) == 2 * number


def test_every_setting_of_every_group_can_be_sampled(plan):
  base = plan.default_of(_MODEL)
  for group in plan.GROUPS.values():
    settings = group(base)
    assert len(set(settings)) == len(settings) > 1
    assert all(one.passes(_MODEL) > 0 for one in settings)


def test_settings_are_read_over_the_default(plan):
  base = plan.default_of(_MODEL)
  text = "sampler=dpm,num_steps=8,guidance_interval=0.2:0.8"
  assert plan.parse(text, base) == dataclasses.replace(
    base, sampler="dpm", num_steps=8, guidance_interval=(0.2, 0.8)
  )
  with pytest.raises(ValueError, match="got 'steps'"):
    plan.parse("steps=8", base)


def test_every_sampler_is_also_compared_at_very_many_steps(plan):
  settings = plan.long(plan.default_of(_MODEL))
  longest = [one for one in settings if one.num_steps == 1000]
  assert {one.sampler for one in longest} == set(models.SAMPLERS)
  assert plan.reference_of(plan.default_of(_MODEL)) in longest
