import dataclasses

import jax
from jax import numpy as jnp
import jax.extend
import numpy as np
import pytest

from music_spectrogram_diffusion import diffusion
from music_spectrogram_diffusion.models import precision, sampling_network

TIMES = jnp.asarray([1.0, 0.6, 0.05])


def changed(tiny, **options):
  network = dataclasses.replace(tiny.model.network, **options)
  return dataclasses.replace(tiny.model, network=network)


def without_context(tiny):
  """The same network without its context encoder."""
  parameters = dict(tiny.parameters)
  parameters["encoder"] = parameters.pop("token_encoder")
  del parameters["continuous_encoder"]
  return changed(tiny, num_context_layers=0), parameters


@pytest.fixture(
  scope="module",
  params=["paper", "paper without context", "aligned", "no relative time"],
)
def case(request, paper, aligned):
  """A model and its parameters."""
  parameters = dict(aligned.parameters)
  parameters.pop("relative_time_bias")
  return {
    "paper": (paper.model, paper.parameters),
    "paper without context": without_context(paper),
    "aligned": (aligned.model, aligned.parameters),
    "no relative time": (changed(aligned, relative_time=False), parameters),
  }[request.param]


@pytest.fixture(scope="module")
def conditioning(case, paper, aligned, batch_of):
  """A full, a partial and no context; in the last example no notes either."""
  model, parameters = case
  batch = batch_of(aligned if model.network.max_notes else paper)
  order = jnp.asarray([0, 2, 1])
  tokens = batch["note_tokens"][order].at[2].set(0)
  mask = batch["context_mask"][order]
  assert mask.sum(1).tolist() == [12, 5, 0]
  return jax.jit(model.encode)(
    parameters, tokens, batch["context"][order], mask
  )


@pytest.fixture(scope="module")
def inputs(noisy):
  return noisy[0]


@pytest.fixture(scope="module")
def plain(case, conditioning, inputs):
  """Outputs of the Flax modules at all times, with condition and without."""
  model, parameters = case

  @jax.jit
  def run(conditioning):
    def output(time):
      batch = jnp.full(len(inputs), time)
      return model.output(parameters, inputs, batch, conditioning)

    return jax.lax.map(output, TIMES)

  return run(conditioning), run(conditioning.unconditional())


@pytest.mark.parametrize("guided", [True, False])
def test_outputs_are_those_of_the_flax_modules(
  case, conditioning, inputs, plain, guided
):
  model, parameters = case
  config, decoder = model.network, parameters["decoder"]
  parameterization, schedule = model.parameterization, model.schedule

  @jax.jit
  def run(conditioning):
    prepared = sampling_network.prepare(config, decoder, conditioning)

    def output(row):
      time, films = row
      logsnr = schedule.logsnr(jnp.full(len(inputs), time))
      seen = parameterization.network_input(inputs, logsnr)
      return sampling_network.decode(
        config, prepared, seen, films, guided=guided
      )

    films = sampling_network.films(config, decoder, TIMES)
    return jax.lax.map(output, (TIMES, films))

  expected = jnp.concatenate(plain, 1) if guided else plain[0]
  np.testing.assert_allclose(run(conditioning), expected, atol=1e-4)
  # Were the condition not seen, this would say nothing.
  assert np.abs(plain[0] - plain[1])[:, :2].max() > 1e-2


def predict(model, parameters, batch, **settings):
  return model.predict(
    parameters,
    batch["note_tokens"],
    batch["context"],
    batch["context_mask"],
    jax.random.key(0),
    **settings,
  )


def test_one_program_serves_all_weights_and_times(
  aligned, batch_of, monkeypatch
):
  batch, prepare, traced = batch_of(aligned), sampling_network.prepare, []

  def watched(*arguments):
    traced.append(1)
    return prepare(*arguments)

  monkeypatch.setattr(sampling_network, "prepare", watched)

  def run(**settings):
    found = predict(
      aligned.model, aligned.parameters, batch, num_steps=3, **settings
    )
    return found, len(traced)

  first, programs = run(guidance_weight=1.25)
  heavy, same = run(guidance_weight=4.0)
  late, still = run(guidance_weight=1.25, end_time=0.1)
  assert 1 == programs == same == still
  assert np.abs(first - heavy).max() > 0.1 < np.abs(first - late).max()
  unguided, more = run(guidance_weight=1.0)
  assert more == 2 and np.abs(unguided - first).max() > 0.1


def precisions(jaxpr):
  """Those of all products in a program, its loops included."""
  found = set()
  for equation in jaxpr.eqns:
    if equation.primitive.name == "dot_general":
      found.add(equation.params["precision"])
    for inner in jax.extend.core.jaxprs_in_params(equation.params):
      found |= precisions(inner)
  return found


@pytest.mark.parametrize("asked", [None, "highest"])
def test_products_are_as_exact_as_the_user_asks_for(aligned, batch_of, asked):
  batch = batch_of(aligned)
  with jax.default_matmul_precision(asked):
    program = jax.make_jaxpr(lambda p: predict(aligned.model, p, batch))(
      aligned.parameters
    )
  exact = (jax.lax.Precision.HIGHEST,) * 2
  # The last layer, scales and shifts are exact always.
  expected = {exact} if asked else {exact, None}
  assert precisions(program.jaxpr) == expected


def x0_error(paper, conditioning, z_t, time, dtype):
  """Of a network in `dtype` against one in float32, where eps is predicted."""
  decoder = paper.parameters["decoder"]

  def x0(dtype):
    config = changed(paper, dtype=dtype).network

    @jax.jit
    def run():
      prepared = sampling_network.prepare(config, decoder, conditioning)
      films = sampling_network.films(config, decoder, jnp.asarray([time]))
      row = jax.tree.map(lambda film: film[0], films)
      eps = sampling_network.decode(config, prepared, z_t, row, guided=False)
      logsnr = paper.model.schedule.logsnr(jnp.full(len(z_t), time))
      return paper.model.parameterization.predict(eps, z_t, logsnr)[0]

    return run()

  return np.abs(x0(dtype) - x0("float32")).mean()


def test_in_bfloat16_x0_is_lost_at_much_noise_alone(paper, batch_of, noisy):
  batch = batch_of(paper)
  conditioning = paper.encode(
    batch["note_tokens"], batch["context"], batch["context_mask"]
  )
  errors = {
    time: x0_error(paper, conditioning, noisy[0], time, "bfloat16")
    for time in (1.0, 0.5)
  }
  assert errors[1.0] > 1.0 and 1e-4 < errors[0.5] < 0.02


EPS = diffusion.parameterization.Eps()
V = diffusion.parameterization.V()
EDM = diffusion.parameterization.EDM(
  mean=np.zeros(8, np.float32), deviation=np.full(8, 0.3, np.float32)
)


@pytest.mark.parametrize(
  ("parameterization", "dtype", "expected"),
  [
    (EPS, "bfloat16", [True, True, False, False]),
    (EPS, "float32", [False] * 4),
    (V, "bfloat16", [False] * 4),
    (EDM, "bfloat16", [False] * 4),
  ],
)
def test_steps_that_recover_x0_from_little_are_made_in_float32(
  paper, batch_of, monkeypatch, parameterization, dtype, expected
):
  model = dataclasses.replace(
    changed(paper, dtype=dtype), parameterization=parameterization
  )
  decode, made = sampling_network.decode, []

  def watched(config, prepared, inputs, films, *, guided):
    kernel = prepared.parameters["layers_0"]["mlp"]["wo"]["kernel"]
    made.append((config.dtype, str(kernel.dtype), str(inputs.dtype)))
    return decode(config, prepared, inputs, films, guided=guided)

  monkeypatch.setattr(sampling_network, "decode", watched)
  jax.eval_shape(
    lambda p: predict(model, p, batch_of(paper), num_steps=40), paper.parameters
  )
  found = precision.needs_float32(
    np.asarray([1.0, 0.975, 0.9, 0.5], np.float32),
    dtype=dtype,
    schedule=model.schedule,
    parameterization=parameterization,
    n_mels=model.spectrogram.n_mels,
  )
  assert found.tolist() == expected
  wanted = {dtype} | ({"float32"} if any(expected) else set())
  # The state of the sampler is in float32 always.
  assert {(kind, kind, "float32") for kind in wanted} == set(made)


def test_in_bfloat16_predictions_are_close(aligned, batch_of):
  batch, settings = batch_of(aligned), dict(num_steps=2)
  exact = predict(aligned.model, aligned.parameters, batch, **settings)
  model = changed(aligned, dtype="bfloat16")
  rounded = predict(model, aligned.parameters, batch, **settings)
  assert rounded.dtype == jnp.float32
  low, high = aligned.model.spectrogram.mel_range
  error = np.abs(rounded - exact) / (high - low)
  assert 1e-5 < error.mean() < 0.01
