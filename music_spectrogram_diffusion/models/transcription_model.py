"""A transcriber: log-mel frames in, note tokens out, one after the other.

The T5.1.1 encoder-decoder of MT3, Gardner et al. 2022,
https://arxiv.org/abs/2111.03017, with plain sinusoids for positions. Parameters
are named and shaped like the published ones, but for the cross-attention, which
is called what it is called in our other decoders.
"""

import dataclasses
import functools
from typing import Any

from flax import linen as nn
import jax
from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int, Int32, PRNGKeyArray
import numpy as np

from music_spectrogram_diffusion import audio, notes
from music_spectrogram_diffusion.models import decoders, encoders, layers
from music_spectrogram_diffusion.models.configs import NetworkConfig
from music_spectrogram_diffusion.models.diffusion_model import Parameters

# What a mel bin without any energy becomes. Little energy is not raised to it.
_SILENCE = 1e-5

# Tokens for which there is room at first; the attention looks at all of it.
_SHORTEST_CACHE = 128

# Nothing but silence is below the smallest number that is not denormal.
SPECTROGRAM = audio.SpectrogramConfig(
  hop_length=128,
  win_length=2048,
  n_fft=2048,
  n_mels=512,
  fmin=20.0,
  fmax=7600.0,
  log_floor=float(np.finfo(np.float32).tiny),
)
"""The features that MT3 hears: 125 frames a second."""


class FrameEncoder(encoders.EncoderStack):
  """Encodes the frames of a segment; padding is attended to like the rest."""

  @nn.compact
  def __call__(
    self,
    frames: Float[Array, "batch frames mel_bins"],
    *,
    deterministic: bool = True,
  ) -> Float[Array, "batch frames emb_dim"]:
    config = self.config
    x = layers.dense(
      config.emb_dim, "continuous_inputs_projection", config.dtype
    )(frames)
    places = jnp.arange(frames.shape[1], dtype=jnp.float32)
    x += layers.sinusoids(places, config.emb_dim).astype(config.dtype)
    return self.stack(x, jnp.ones(frames.shape[:2], bool), deterministic)


class TokenDecoder(nn.Module):
  """Maps the tokens before to the logits of the next one.

  Attributes:
    config: Size and options.
    vocabulary: What the tokens mean; sizes the tables.
    decode: Whether tokens come one at a time: what earlier ones and the keys
      have become is then kept in the collection `cache`.
  """

  config: NetworkConfig
  vocabulary: notes.Vocabulary
  decode: bool = False

  @nn.compact
  def __call__(
    self,
    previous: Int[Array, "batch tokens"],
    keys: Float[Array, "batch frames emb_dim"],
    position: Int[Array, ""] | int = 0,
    *,
    deterministic: bool = True,
  ) -> Float[Array, "batch tokens table_rows"]:
    """Runs the decoder; `position` is that of the first of `previous`."""
    config = self.config
    # What a layer calls frames are its own positions: here, tokens.
    config = dataclasses.replace(config, segment_frames=config.max_tokens)
    dropout = layers.Dropout(config.dropout_rate)
    places = position + jnp.arange(previous.shape[1])
    num_past = config.max_tokens if self.decode else previous.shape[1]
    self_mask = jnp.arange(num_past) <= places[:, None]
    x = nn.Embed(
      self.vocabulary.table_rows,
      config.emb_dim,
      embedding_init=nn.initializers.normal(1.0),
      dtype=config.dtype,
      name="token_embedder",
    )(previous)
    positions = layers.sinusoids(places.astype(jnp.float32), config.emb_dim)
    x = dropout(x + positions.astype(config.dtype), deterministic)
    mask = jnp.ones(keys.shape[:2], bool)
    for i in range(config.num_decoder_layers):
      x = decoders.DecoderLayer(config, self.decode, name=f"layers_{i}")(
        x, keys, mask, None, None, self_mask[None], deterministic
      )
    x = layers.RMSNorm(jnp.float32, name="decoder_norm")(x)
    x = dropout(x, deterministic)
    with jax.default_matmul_precision("float32"):
      return layers.dense(
        self.vocabulary.table_rows, "logits_dense", jnp.float32
      )(x)


class TranscriptionNetwork(nn.Module):
  """The encoder and the decoder; attributes as in `TokenDecoder`."""

  config: NetworkConfig
  vocabulary: notes.Vocabulary
  decode: bool = False

  def setup(self):
    self.encoder = FrameEncoder(self.config, self.config.num_encoder_layers)
    self.decoder = TokenDecoder(self.config, self.vocabulary, self.decode)

  def __call__(
    self,
    frames: Float[Array, "batch frames mel_bins"],
    previous: Int[Array, "batch tokens"],
  ) -> Float[Array, "batch tokens table_rows"]:
    return self.decoder(previous, self.encoder(frames))

  def encode(
    self, frames: Float[Array, "batch frames mel_bins"]
  ) -> Float[Array, "batch frames emb_dim"]:
    return self.encoder(frames)

  def next_tokens(
    self,
    previous: Int[Array, "batch tokens"],
    keys: Float[Array, "batch frames emb_dim"],
    position: Int[Array, ""],
  ) -> Float[Array, "batch tokens table_rows"]:
    return self.decoder(previous, keys, position)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TranscriptionModel:
  """Hears notes in segments of audio, each on its own.

  Attributes:
    network: Size of the network: frames of a segment, and the most tokens that
      are written for one. Without context.
    vocabulary: What tokens mean.
    spectrogram: Features that are heard.
  """

  network: NetworkConfig
  vocabulary: notes.Vocabulary = notes.Vocabulary()
  spectrogram: audio.SpectrogramConfig = SPECTROGRAM

  @functools.cached_property
  def module(self) -> TranscriptionNetwork:
    """The Flax module that parameters belong to."""
    return TranscriptionNetwork(self.network, self.vocabulary)

  def init(self, key: PRNGKeyArray) -> Parameters:
    """Draws parameters; wrap it in `jax.eval_shape` for their shapes alone."""
    shape = (1, self.network.segment_frames, self.spectrogram.n_mels)
    previous = jnp.zeros((1, 1), jnp.int32)
    return self.module.init(key, jnp.zeros(shape), previous)["params"]

  def num_segments(self, num_samples: int) -> int:
    """Segments of a song; the released code adds a frame to its end."""
    num_frames = num_samples // self.spectrogram.hop_length + 1
    return -(-num_frames // self.network.segment_frames)

  def features(
    self, samples: Float32[np.ndarray, " samples"], segment: int
  ) -> Float32[np.ndarray, "frames mel_bins"]:
    """What is heard of a segment of a song.

    As MT3 was trained: no frame reaches beyond the end of its segment, bins
    without energy get ln 1e-5, and zeros, not silence, follow the song's end.

    Args:
      samples: The song, mono, in [-1, 1].
      segment: Number of the segment, below `num_segments`.
    """
    spectrogram = self.spectrogram
    hop, num_frames = spectrogram.hop_length, self.network.segment_frames
    start = segment * num_frames * hop
    heard = samples[start : start + num_frames * hop]
    # As many frames as hops have begun, and one more.
    whole = len(samples) // hop + 1
    in_song = min(num_frames, whole - segment * num_frames)
    heard = np.pad(heard, (0, in_song * hop - len(heard)))
    log_mel = audio.log_mel(heard, spectrogram)
    silent = log_mel <= spectrogram.mel_range[0]
    log_mel = np.where(silent, np.float32(np.log(_SILENCE)), log_mel)
    return np.pad(log_mel, ((0, num_frames - in_song), (0, 0)))

  @functools.partial(jax.jit, static_argnames="self")
  def predict(
    self,
    parameters: Parameters,
    frames: Float[Array, "batch frames mel_bins"],
  ) -> Int32[Array, "batch tokens"]:
    """Writes the most probable token, then the most probable next one.

    MT3's own beam search, with its one beam, may end a segment earlier.

    Args:
      parameters: The model's.
      frames: Features of segments.

    Returns:
      Tokens up to EOS, which `max_tokens` may cut off, then PAD.
    """
    batch = frames.shape[0]
    keys = self.module.apply({"params": parameters}, frames, method="encode")

    def write(module, carry):
      cache, tokens, previous, ended, position = carry
      logits, variables = module.apply(
        {"params": parameters, "cache": cache},
        previous[:, None],
        keys,
        position,
        method="next_tokens",
        mutable=["cache"],
      )
      token = logits[:, 0].argmax(-1).astype(jnp.int32)
      token = jnp.where(ended, notes.PAD, token)
      tokens = lax.dynamic_update_index_in_dim(tokens, token, position, 1)
      ended |= token == notes.EOS
      return variables["cache"], tokens, token, ended, position + 1

    carry = (
      {},
      jnp.full((batch, self.network.max_tokens), notes.PAD, jnp.int32),
      jnp.full(batch, notes.PAD, jnp.int32),
      jnp.zeros(batch, bool),
      jnp.int32(0),
    )
    for length in self._cache_lengths():
      network = dataclasses.replace(self.network, max_tokens=length)
      module = TranscriptionNetwork(network, self.vocabulary, decode=True)
      cache, *others = carry
      carry = _lengthen(cache, length), *others
      if not cache:  # The first token makes it.
        carry = write(module, carry)
      carry = lax.while_loop(
        lambda carry, length=length: (carry[4] < length) & ~carry[3].all(),
        functools.partial(write, module),
        carry,
      )
    return carry[1]

  def _cache_lengths(self) -> list[int]:
    """Each twice the one before: few segments need all of their tokens."""
    lengths = [self.network.max_tokens]
    while lengths[0] > _SHORTEST_CACHE:
      lengths.insert(0, -(-lengths[0] // 2))
    return lengths


def _lengthen(cache: dict[str, Any], length: int) -> dict[str, Any]:
  """Makes room for `length` tokens in what self-attention has kept."""

  def pad(path, array):
    if "self_attention" not in jax.tree_util.keystr(path) or not array.ndim:
      return array
    missing = length - array.shape[1]
    return jnp.pad(array, ((0, 0), (0, missing), (0, 0), (0, 0)))

  return jax.tree_util.tree_map_with_path(pad, cache)
