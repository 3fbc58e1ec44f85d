"""What is tried: each variant is the base setting with one thing changed."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Variant:
  """One row of the table.

  Attributes:
    name: What is changed, in a few words.
    group: The question that it answers: a heading of the table.
    bindings: Lines of gin over `base.gin`.
  """

  name: str
  group: str
  bindings: tuple[str, ...] = ()


_TOKENS = (
  "models.aligned_network.max_notes = None",
  "models.aligned_network.relative_time = False",
)
_NO_BIAS = "models.aligned_network.relative_time = False"
_RANDOM = "learners.ModelLearner.initialize = @learners.fresh_parameters"
_SOME = "learners.ModelLearner.initialize = @alternatives.partly_harmonic_init"
_LOG_NORMAL = "models.Objective.times = @alternatives.log_normal_times"


def _parameterization(name: str, *others: str) -> tuple[str, ...]:
  return (
    f"models.DiffusionModel.parameterization = @parameterization.{name}()",
    *others,
  )


def _measured(name: str) -> tuple[str, ...]:
  made = "default_model.preconditioning.parameterization"
  return (f"{made} = @parameterization.{name}",)


def _sigma_data(value: float) -> tuple[str, ...]:
  return (f"default_model.preconditioning.sigma_data = {value}",)


def _velocity_bins(number: int) -> tuple[str, ...]:
  return (f"notes.Vocabulary.velocity_bins = {number}",)


def _log_normal(mean: float) -> tuple[str, ...]:
  return (_LOG_NORMAL, f"alternatives.log_normal_times.mean = {mean}")


def _muon(gain: float) -> tuple[str, ...]:
  return (
    "OPTIMIZER = @optimizers.muon()",
    f"optimizers.muon.gain = {gain}",
  )


def _x0_loss(distance: str) -> tuple[str, ...]:
  return (
    "models.Objective.loss = @losses.x0_loss",
    f"losses.x0_loss.distance = @losses.{distance}",
  )


BASE = Variant("base", "base")

# The most important ones first: a table stands with whatever has finished.
VARIANTS = (
  BASE,
  Variant("base, another seed", "base", ("SEED = 1",)),
  Variant("random initial parameters", "c", (_RANDOM,)),
  Variant("no relative-time bias", "a", (_NO_BIAS,)),
  Variant("random, no bias", "a and c", (_NO_BIAS, _RANDOM)),
  Variant("plain tokens, random, no bias", "a, b and c", (*_TOKENS, _RANDOM)),
  Variant(
    "last projection 8 times as large",
    "c",
    (
      "learners.ModelLearner.initialize = @alternatives.louder_init",
      "alternatives.louder_init.gain = 8.0",
    ),
  ),
  Variant("v", "d", _parameterization("V")),
  Variant("x0", "d", _parameterization("X0")),
  Variant("L1", "loss", ("losses.output_loss.distance = @losses.l1",)),
  Variant("L2 of x0", "loss", _x0_loss("l2")),
  Variant("sigma_data 1", "sigma_data", _sigma_data(1.0)),
  Variant("sigma_data 0.2", "sigma_data", _sigma_data(0.2)),
  Variant("Muon", "optimizer", _muon(1.0)),
  Variant("Muon, 4 times the rate", "optimizer", _muon(4.0)),
  Variant("1 velocity bin", "velocity", _velocity_bins(1)),
  Variant(
    "no context", "context", ("models.aligned_network.num_context_layers = 0",)
  ),
  Variant("batch 2, twice the steps", "batch", ("BATCH_SIZE = 2",)),
  Variant("batch 8, half the steps", "batch", ("BATCH_SIZE = 8",)),
  Variant("x0 around the mean", "d", _measured("StandardizedX0")),
  Variant(
    "density in proportion to time",
    "noise",
    ("losses.stratified_times.exponent = 0.5",),
  ),
  Variant("log-normal, centred on -1.2", "noise", _log_normal(-1.2)),
  Variant("log-normal, centred on 1.2", "noise", _log_normal(1.2)),
  Variant("ties described", "ties", ("notes.Vocabulary.describe_ties = True",)),
  Variant("8 velocity bins", "velocity", _velocity_bins(8)),
  Variant("127 velocity bins", "velocity", _velocity_bins(127)),
  Variant("sigma_data 0.8", "sigma_data", _sigma_data(0.8)),
  Variant(
    "bias that is not learned", "a", ("FROZEN = ('relative_time_bias',)",)
  ),
  Variant(
    "bias from zero",
    "a",
    ("learners.ModelLearner.initialize = @alternatives.flat_bias_init",),
  ),
  Variant(
    "no layers in the note encoder",
    "b",
    ("models.aligned_network.num_encoder_layers = 0",),
  ),
  Variant(
    "small residuals alone",
    "c",
    (
      _SOME,
      "alternatives.partly_harmonic_init.pattern ="
      " 'FiLM|layers_[0-9]+/(attention|self_attention)/out|wo/kernel'",
    ),
  ),
  Variant(
    "combs and projections alone",
    "c",
    (
      _SOME,
      "alternatives.partly_harmonic_init.pattern ="
      " 'pitch_embedder|input_proj|continuous_inputs|spec_out|MultiHead'",
    ),
  ),
  Variant("1 noise draw", "batch", ("models.Objective.noise_draws = 1",)),
  Variant("4 noise draws", "batch", ("models.Objective.noise_draws = 4",)),
  Variant(
    "64 note positions", "notes", ("models.aligned_network.max_notes = 64",)
  ),
  Variant(
    "256 note positions", "notes", ("models.aligned_network.max_notes = 256",)
  ),
  Variant(
    "the paper's eps and L1",
    "d",
    _parameterization("Eps", "models.Objective.loss = @losses.eps_loss"),
  ),
  Variant("sigma_data 0.6", "sigma_data", _sigma_data(0.6)),
  Variant("x0, another seed", "d", (*_parameterization("X0"), "SEED = 1")),
  Variant("base, a third seed", "base", ("SEED = 2",)),
)
