"""Which ways of sampling are compared, and in which order."""

import ast
import dataclasses
import itertools

import numpy as np

from music_spectrogram_diffusion import diffusion, models

REFERENCE_STEPS = 1000
_SHORT = (3, 6, 10)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
  """One way of sampling: a row of the table; as in `models.SamplingConfig`."""

  sampler: str
  spacing: str
  num_steps: int
  end_time: float
  guidance_weight: float
  guidance_interval: tuple[float, float]

  def passes(self, model: models.DiffusionModel) -> int:
    """Network passes of a segment: two for a guided prediction, else one."""
    return sum(1 + guided for guided in self._guided(model))

  def program(self, model: models.DiffusionModel) -> tuple:
    """Equal for settings that share a compiled program."""
    return self.sampler, self._guided(model)

  def _guided(self, model):
    """Whether each prediction is guided."""
    _, times = model.sampling_plan(**dataclasses.asdict(self))
    weights = diffusion.guidance.weights_at(
      times[:-1], self.guidance_weight, self.guidance_interval
    )
    return tuple(np.not_equal(weights, 1.0).tolist())


def default_of(model: models.DiffusionModel) -> Setting:
  """How a model is sampled unless told otherwise."""
  fields = dataclasses.asdict(model.sampling)
  return Setting(
    **{f.name: fields[f.name] for f in dataclasses.fields(Setting)}
  )


def parse(text: str, base: Setting) -> Setting:
  """Reads "sampler=dpm,num_steps=6"; what is not named is as in `base`.

  Raises:
    ValueError: There is no such setting.
  """
  fields = {}
  for assignment in filter(None, text.split(",")):
    name, _, value = assignment.partition("=")
    if name not in dataclasses.asdict(base):
      raise ValueError(
        f"Expected a setting of {', '.join(dataclasses.asdict(base))};"
        f" got {name!r}."
      )
    low, colon, high = value.partition(":")
    if colon:
      fields[name] = (float(low), float(high))
    elif name in ("sampler", "spacing"):
      fields[name] = value
    else:
      fields[name] = ast.literal_eval(value)
  return dataclasses.replace(base, **fields)


def solvers(base: Setting, steps: tuple[int, ...]) -> list[Setting]:
  """Every sampler with every spacing, down to the end of time."""
  return [
    dataclasses.replace(
      base, sampler=sampler, spacing=spacing, num_steps=number, end_time=0.0
    )
    for sampler, spacing, number in itertools.product(
      models.SAMPLERS, models.SPACINGS, steps
    )
  ]


def ends(base: Setting) -> list[Setting]:
  """Few steps that end early, for a model that is not yet sharp.

  And a single one, which is the same for all samplers and ends.
  """
  return [dataclasses.replace(base, spacing="time", num_steps=1)] + [
    dataclasses.replace(
      base, sampler=sampler, spacing="time", num_steps=number, end_time=end
    )
    for sampler, number, end in itertools.product(
      ("ddim", "dpm"), _SHORT, (0.3, 0.5, 0.7, 0.8)
    )
  ]


def guidance(base: Setting) -> list[Setting]:
  """Other weights, for the default and for ten steps."""
  ten = dataclasses.replace(base, sampler="dpm", num_steps=10, end_time=0.0)
  return [
    dataclasses.replace(one, guidance_weight=weight)
    for one in (base, ten)
    for weight in (1.0, 1.25, 1.5, 2.0, 3.0)
  ]


def intervals(base: Setting) -> list[Setting]:
  """Guidance at some noise times only, with ten steps."""
  ten = dataclasses.replace(base, sampler="dpm", num_steps=10, end_time=0.0)
  return [
    dataclasses.replace(ten, guidance_weight=weight, guidance_interval=interval)
    for weight in (1.5, 2.0)
    for interval in ((0.0, 0.5), (0.0, 0.8), (0.3, 1.0), (0.3, 0.8), (0.7, 1.0))
  ]


def long(base: Setting) -> list[Setting]:
  """Every sampler at few, at many and at very many steps."""
  return [
    dataclasses.replace(
      base, sampler=sampler, spacing="time", num_steps=number, end_time=0.0
    )
    for sampler, number in itertools.product(
      models.SAMPLERS, (10, 100, REFERENCE_STEPS)
    )
  ]


GROUPS = {
  "ends": ends,
  "guidance": guidance,
  "intervals": intervals,
}


def cheapest_first(
  settings: list[Setting], model: models.DiffusionModel
) -> list[Setting]:
  """Each setting once: the model's own, then those that cost least."""
  own = default_of(model)
  return sorted(
    dict.fromkeys(settings),
    key=lambda one: (one != own, one.passes(model)),
  )


def reference_of(base: Setting) -> Setting:
  """What the distances are measured from: the paper's sampler."""
  return dataclasses.replace(
    base,
    sampler="ddpm",
    spacing="time",
    num_steps=REFERENCE_STEPS,
    end_time=0.0,
  )
