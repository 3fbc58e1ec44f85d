"""Initial parameters that know where the harmonics of a pitch lie.

A network of the aligned family starts with a copy of the mel spectrum inside
its channels: a pitch is embedded as its comb of partials, cross-attention
copies what sounds into the frames, and the projections of input and output read
and write the same channels. Even untrained, one denoising step shows the right
harmonics, which spares a small model most of its training.
"""

from flax import traverse_util
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray
import numpy as np

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.models import encoders, layers
from music_spectrogram_diffusion.models.diffusion_model import (
  DiffusionModel,
  Parameters,
)

NUM_PARTIALS = 20
PARTIAL_DECAY = 0.85
PARTIAL_WIDTH_HZ = 14.0
HIGHEST_PARTIAL_HZ = 7900.0


def harmonic_combs(
  config: audio.SpectrogramConfig,
) -> Float[np.ndarray, "pitches mel_bins"]:
  """Log-mel spectrum of 20 decaying partials of every MIDI pitch.

  Args:
    config: Features.

  Returns:
    One row for each of the 128 pitches, of mean 0 and deviation 1; 0 where no
    partial is below the highest one that counts.
  """
  f0 = 440.0 * 2.0 ** ((np.arange(128) - 69) / 12)
  order = np.arange(1, NUM_PARTIALS + 1)
  partials = f0[:, None] * order  # [pitches, partials]
  levels = np.where(partials < HIGHEST_PARTIAL_HZ, PARTIAL_DECAY**order, 0.0)
  bins = np.linspace(0.0, config.sample_rate / 2, config.n_fft // 2 + 1)
  distance = (bins - partials[..., None]) / PARTIAL_WIDTH_HZ
  spectrum = np.einsum("ph,phf->pf", levels, np.exp(-0.5 * distance**2))
  combs = np.log(np.maximum(spectrum @ audio.mel_matrix(config), 3e-3))
  combs -= combs.mean(axis=1, keepdims=True)
  return combs / np.maximum(combs.std(axis=1, keepdims=True), 1e-6)


def _orthonormal(key: PRNGKeyArray, size: int) -> Float[Array, "size size"]:
  return jnp.linalg.qr(jax.random.normal(key, (size, size)))[0]


def harmonic_init(key: PRNGKeyArray, model: DiffusionModel) -> Parameters:
  """Draws parameters of an aligned model with the harmonics in place.

  Args:
    key: Seeds everything that is random.
    model: A model with a note list, as many attention channels as `emb_dim`
      and more of them than mel bins.

  Returns:
    Parameters, in place of `model.init(key)`.

  Raises:
    ValueError: The model is of another kind.
  """
  config, n_mels = model.network, model.spectrogram.n_mels
  emb_dim = config.emb_dim
  if (
    config.max_notes is None
    or config.num_heads * config.head_dim != emb_dim
    or emb_dim <= n_mels
  ):
    raise ValueError(
      "Expected a network with max_notes, num_heads * head_dim = emb_dim and"
      f" emb_dim > {n_mels}; got {config}."
    )
  keys = iter(jax.random.split(key, 64))
  # Channels are a rotation of [mel bins | everything else].
  rotation = _orthonormal(next(keys), emb_dim)
  to_mel, to_rest = rotation[:n_mels], rotation[n_mels:]
  rest = emb_dim - n_mels

  def noise(*shape):
    return jax.random.normal(next(keys), shape)

  def near_identity(gain):
    spread = 0.15 * noise(emb_dim, emb_dim) / jnp.sqrt(emb_dim)
    return gain * jnp.eye(emb_dim) + spread

  # Onsets and frame times go through one map, so that they can be compared.
  clock = _orthonormal(next(keys), emb_dim)[:, :rest] @ to_rest
  offset_clock = _orthonormal(next(keys), emb_dim)[:, :rest] @ to_rest
  combs = jnp.asarray(harmonic_combs(model.spectrogram), jnp.float32)
  drums = 0.3 * noise(128, n_mels)
  spectra = jnp.concatenate([1.2 * np.sqrt(emb_dim / n_mels) * combs, drums])
  frame_times = jnp.asarray(
    encoders.frame_times(config.segment_frames), jnp.float32
  )
  values = {
    "pitch_embedder/embedding": 0.5 * spectra @ to_mel
    + 0.15 * noise(256, rest) @ to_rest,
    "program_embedder/embedding": 0.35 * noise(129, rest) @ to_rest,
    "tied_embedder/embedding": 0.15 * noise(2, rest) @ to_rest,
    "velocity_proj/kernel": 0.35 * noise(1, rest) @ to_rest
    + 0.5 * jnp.ones((1, n_mels)) @ to_mel,
    "onset_proj/kernel": 0.4 * clock,
    "offset_proj/kernel": 0.3 * offset_clock,
    "continuous_encoder/input_proj/kernel": 0.7 * to_mel,
    "decoder/Embed_0/embedding": 0.8
    * layers.sinusoids(frame_times, emb_dim)
    @ clock,
    "decoder/continuous_inputs_projection/kernel": 0.4 * to_mel,
    "decoder/spec_out_dense/kernel": jnp.tile(
      0.55 * to_mel.T, (1, model.parameterization.num_outputs)
    ),
  }

  def initial(path, default):
    name = "/".join(path)
    for suffix, value in values.items():
      if name.endswith(suffix):
        assert value.shape == default.shape, (name, value.shape, default.shape)
        return value
    if "FiLMLayer" in name:
      return jnp.zeros_like(default)
    if "MultiHeadDotProductAttention_0" in name:
      part = path[-2]
      if part in ("value", "out"):
        return near_identity(1.0 if part == "value" else 0.5)
      return 0.3 * default if part == "query" else default
    if name.endswith(("out/kernel", "wo/kernel")):  # Ends of residual branches.
      return (0.3 if path[0] == "decoder" else 0.2) * default
    return default

  return traverse_util.path_aware_map(initial, model.init(next(keys)))
