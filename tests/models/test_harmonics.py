import dataclasses

import jax
from jax import numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion import audio, diffusion, models, notes
from music_spectrogram_diffusion.models import harmonics

MEL_BINS, FRAMES, TOKENS = 48, 8, 16
PITCHES = np.array([45, 50, 57, 62, 69, 76])
CONFIG = audio.SpectrogramConfig(n_mels=MEL_BINS)


@pytest.fixture(scope="module")
def model():
  return models.DiffusionModel(
    network=models.aligned_network(
      emb_dim=64,
      num_heads=2,
      head_dim=32,
      mlp_dim=64,
      num_encoder_layers=1,
      num_decoder_layers=1,
      segment_frames=FRAMES,
      max_tokens=TOKENS,
    ),
    spectrogram=CONFIG,
    parameterization=diffusion.parameterization.EDM(
      mean=np.full(MEL_BINS, -0.5, np.float32),
      deviation=np.full(MEL_BINS, 0.15, np.float32),
    ),
  )


@pytest.fixture(scope="module")
def parameters(model):
  init = jax.jit(lambda key: harmonics.harmonic_init(key, model))
  return init(jax.random.key(0))


def test_combs_are_standardised():
  combs = harmonics.harmonic_combs(audio.SpectrogramConfig())
  assert combs.shape == (128, 128)
  np.testing.assert_allclose(combs.mean(1), 0.0, atol=1e-9)
  np.testing.assert_allclose(combs[:119].std(1), 1.0)


def test_a_pitch_beyond_the_highest_partial_has_no_comb():
  # 440 Hz * 2**(50/12) = 7902 Hz is that of pitch 119.
  combs = harmonics.harmonic_combs(audio.SpectrogramConfig())
  np.testing.assert_allclose(combs[119:], 0.0, atol=1e-6)


@pytest.mark.parametrize("pitch", [57, 69, 81])
def test_a_comb_peaks_at_the_partials_and_nowhere_else(pitch):
  config = audio.SpectrogramConfig(n_mels=400)
  comb = harmonics.harmonic_combs(config)[pitch]
  f0 = 440.0 * 2 ** ((pitch - 69) / 12)
  mel_edges = np.linspace(0, 1127 * np.log1p(8000 / 700), 402)
  centres = 700 * np.expm1(mel_edges[1:-1] / 1127)
  # Bins well below 1 kHz are finer than the FFT; above 4 kHz they are wide.
  loud = (comb > comb.max() - 2.0) & (centres > 1.5 * f0) & (centres < 4000)
  distance = np.abs(centres[loud] / f0 - np.rint(centres[loud] / f0)) * f0
  assert loud.any() and distance.max() < 60.0
  partials = f0 * np.arange(2, 4000 // f0)
  assert all(np.abs(centres[loud] - f).min() < 30.0 for f in partials)


def correlations(model, parameters):
  """Of an untrained step's frames, by pitch played, with combs of pitches."""
  tokens = [
    notes.tokenize_segments(
      notes.Notes.from_columns(0, 1.0, pitch, 80),
      vocabulary=model.vocabulary,
      segment_frames=FRAMES,
      num_segments=1,
    )[0]
    for pitch in PITCHES
  ]
  tokens = np.stack([np.pad(t, (0, TOKENS - len(t))) for t in tokens])
  shape = (len(PITCHES), FRAMES, MEL_BINS)

  @jax.jit
  def step(parameters):
    conditioning = model.encode(
      parameters,
      jnp.asarray(tokens),
      jnp.zeros(shape),
      jnp.zeros(shape[:2], bool),
    )
    noise = jax.random.normal(jax.random.key(1), shape[1:])
    noise = jnp.broadcast_to(noise, shape)
    return model.denoise(parameters, noise, jnp.ones(len(tokens)), conditioning)

  heard = np.asarray(step(parameters)).mean(1)
  combs = harmonics.harmonic_combs(CONFIG)[PITCHES]
  return np.corrcoef(heard, combs)[: len(heard), len(heard) :]


def test_one_untrained_step_has_the_harmonics_of_the_note(model, parameters):
  found = correlations(model, parameters)
  own = np.diag(found)
  assert own.min() > 0.5
  others = found - np.diag(np.full(len(found), np.inf))
  assert (own > others.max(axis=1) + 0.1).all(), found.round(2)


def test_parameters_have_the_names_and_shapes_of_plain_ones(model, parameters):
  expected = jax.eval_shape(model.init, jax.random.key(0))
  assert jax.tree.map(jnp.shape, parameters) == jax.tree.map(
    jnp.shape, expected
  )
  assert {leaf.dtype for leaf in jax.tree.leaves(parameters)} == {
    jnp.dtype("float32")
  }
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(parameters))


def test_at_first_the_noise_level_changes_no_channel(parameters):
  film = parameters["decoder"]["layers_0"]["FiLMLayer_0"]
  assert not film["DenseGeneral_0"]["kernel"].any()


def test_input_and_output_share_their_channels(parameters):
  decoder = parameters["decoder"]
  read = decoder["continuous_inputs_projection"]["kernel"]
  write = decoder["spec_out_dense"]["kernel"]
  np.testing.assert_allclose(
    read @ write, 0.4 * 0.55 * np.eye(MEL_BINS), atol=1e-5
  )


@pytest.mark.parametrize(
  "changes",
  [
    dict(max_notes=None, relative_time=False),
    dict(head_dim=16),
    dict(emb_dim=48, num_heads=3, head_dim=16),
  ],
)
def test_a_network_without_room_for_harmonics_is_an_error(model, changes):
  network = dataclasses.replace(model.network, **changes)
  other = dataclasses.replace(model, network=network)
  with pytest.raises(ValueError, match="emb_dim > 48"):
    models.harmonic_init(jax.random.key(0), other)
