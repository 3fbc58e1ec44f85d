"""Encoders of note tokens, of lists of notes and of the previous segment."""

from flax import linen as nn
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from music_spectrogram_diffusion import notes
from music_spectrogram_diffusion.models import (
  layers,
  note_list,
  rematerialization,
)
from music_spectrogram_diffusion.models.configs import NetworkConfig


class EncoderLayer(nn.Module):
  """Self-attention and a gated MLP, each behind a norm and added back."""

  config: NetworkConfig

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch length emb_dim"],
    mask: Bool[Array, "batch #length length"],
    deterministic: bool,
  ) -> Float[Array, "batch length emb_dim"]:
    config = self.config
    dropout = layers.Dropout(config.dropout_rate)
    normed = layers.RMSNorm(config.dtype, name="pre_attention_layer_norm")(x)
    attended = layers.Attention(
      num_heads=config.num_heads,
      head_dim=config.head_dim,
      scale_logits=config.scale_logits,
      dropout_rate=config.dropout_rate,
      dtype=config.dtype,
      name="attention",
    )(normed, normed, mask, deterministic=deterministic)
    x = x + dropout(attended, deterministic)
    normed = layers.RMSNorm(config.dtype, name="pre_mlp_layer_norm")(x)
    hidden = layers.GatedMLP(
      config.mlp_dim, config.dropout_rate, config.dtype, name="mlp"
    )(normed, deterministic=deterministic)
    return x + dropout(hidden, deterministic)


class EncoderStack(nn.Module):
  """Encoder layers and a final norm; only valid positions are attended to."""

  config: NetworkConfig
  num_layers: int

  def stack(
    self,
    x: Float[Array, "batch length emb_dim"],
    valid: Bool[Array, "batch length"],
    deterministic: bool,
  ) -> Float[Array, "batch length emb_dim"]:
    """Runs the layers on embedded inputs; call it from a compact method."""
    config = self.config
    dropout = layers.Dropout(config.dropout_rate)
    mask = valid[:, :, None] & valid[:, None, :]
    x = dropout(x, deterministic)
    layer = rematerialization.rematerialized(EncoderLayer, config.remat)
    for i in range(self.num_layers):
      x = layer(config, name=f"layers_{i}")(x, mask, deterministic)
    x = layers.RMSNorm(config.dtype, name="encoder_norm")(x)
    return dropout(x, deterministic)


class TokenEncoder(EncoderStack):
  """Encodes note tokens one by one, as published.

  Attributes:
    vocabulary: What the tokens mean; sizes the embedding table.
  """

  vocabulary: notes.Vocabulary = notes.Vocabulary()

  @nn.compact
  def __call__(
    self, note_tokens: Int[Array, "batch tokens"], *, deterministic: bool
  ) -> tuple[Float[Array, "batch tokens emb_dim"], Bool[Array, "batch tokens"]]:
    """Returns the encoded tokens and which of them are no padding."""
    config = self.config
    embed = nn.Embed(
      self.vocabulary.table_rows,
      config.emb_dim,
      embedding_init=nn.initializers.normal(1.0),
      dtype=config.dtype,
      name="token_embedder",
    )
    places = jnp.arange(note_tokens.shape[1])
    valid = note_tokens > 0
    if config.autoregressive:
      positions = layers.sinusoids(places.astype(jnp.float32), config.emb_dim)
      attended = jnp.ones_like(valid)
    else:
      positions = layers.Positions(
        config.max_tokens, config.emb_dim, config.dtype, name="Embed_0"
      )(places)
      attended = valid
    x = embed(note_tokens) + positions.astype(config.dtype)
    return self.stack(x, attended, deterministic), valid


class NoteListEncoder(EncoderStack):
  """Encodes one position per note: what sounds, from when to when."""

  @nn.compact
  def __call__(
    self, listed: note_list.NoteList, *, deterministic: bool
  ) -> Float[Array, "batch notes emb_dim"]:
    config = self.config
    emb_dim = config.emb_dim

    def embed(rows, name):
      return nn.Embed(rows, emb_dim, dtype=config.dtype, name=name)

    # Two tables in one: pitches, then drums.
    pitch = jnp.where(listed.is_drum, listed.pitch + 128, listed.pitch)
    x = embed(256, "pitch_embedder")(pitch)
    program = jnp.where(listed.is_drum, 128, listed.program)
    x += embed(129, "program_embedder")(program)
    x += embed(2, "tied_embedder")(listed.tied.astype(jnp.int32))
    x += layers.dense(emb_dim, "velocity_proj", config.dtype)(
      listed.velocity[..., None]
    )
    last_step = 2 * config.segment_frames
    for name, time in (
      ("onset_proj", listed.onset),
      ("offset_proj", jnp.minimum(listed.offset, last_step)),
    ):
      encoded = layers.sinusoids(time.astype(jnp.float32), emb_dim)
      x += layers.dense(emb_dim, name, config.dtype)(encoded)
    return self.stack(x, listed.mask, deterministic)


class ContinuousEncoder(EncoderStack):
  """Encodes the spectrogram before the segment.

  Positions are counted from the end: the last valid frame, which the segment
  goes on from, always has the last position.
  """

  @nn.compact
  def __call__(
    self,
    context: Float[Array, "batch frames mel_bins"],
    valid: Bool[Array, "batch frames"],
    *,
    deterministic: bool,
  ) -> Float[Array, "batch frames emb_dim"]:
    config = self.config
    num_frames = context.shape[1]
    # The first invalid frame; 0, which is the same here, where all are valid.
    num_valid = jnp.argmin(valid, axis=1)
    ids = (jnp.arange(num_frames) - num_valid[:, None]) % num_frames
    x = layers.dense(config.emb_dim, "input_proj", config.dtype)(context)
    x = x + layers.Positions(
      config.segment_frames, config.emb_dim, config.dtype, name="Embed_0"
    )(ids)
    return self.stack(x, valid, deterministic)


def frame_times(num_frames: int) -> Int[np.ndarray, " frames"]:
  """Centres of a segment's frames, in steps of 10 ms from its start.

  Frame t is a window over the hops t and t + 1, of 20 ms each.
  """
  return 2 * np.arange(num_frames) + 2
