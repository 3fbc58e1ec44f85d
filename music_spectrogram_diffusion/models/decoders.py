"""The decoders: one that denoises, one that predicts frame by frame."""

from flax import linen as nn
import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from music_spectrogram_diffusion.models import layers, rematerialization
from music_spectrogram_diffusion.models.configs import NetworkConfig

MAX_NOISE_TIME = 20_000.0
"""Noise times in [0, 1] are multiplied by this before they are encoded."""

CROSS_ATTENTION = "MultiHeadDotProductAttention_0"  # As it was published.


def encode_noise_time(
  time: Float[Array, " batch"], num_channels: int
) -> Float[Array, "batch channels"]:
  """Sinusoids of noise times, whatever these are, in float32.

  bfloat16 tells apart only 256 times from 0.5 to 1, and here that is 39 radians
  from one to the next.
  """
  angles = time.astype(jnp.float32) * MAX_NOISE_TIME
  return layers.sinusoids(angles, num_channels, MAX_NOISE_TIME)


class DecoderLayer(nn.Module):
  """Self-attention, cross-attention and MLP, told the noise time by FiLM.

  Attributes:
    config: Size and options.
    decode: Whether frames come one at a time, as in `AutoregressiveDecoder`.
  """

  config: NetworkConfig
  decode: bool = False

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch frames emb_dim"],
    keys: Float[Array, "batch keys emb_dim"],
    mask: Bool[Array, "batch keys"],
    bias: Float[Array, "batch heads frames keys"] | None = None,
    condition: Float[Array, "batch cond_dim"] | None = None,
    self_mask: Bool[Array, "1 frames past"] | None = None,
    deterministic: bool = True,
  ) -> Float[Array, "batch frames emb_dim"]:
    """Decodes; without a `condition` there is no FiLM."""
    config = self.config
    dropout = layers.Dropout(config.dropout_rate)

    def norm(name):
      return layers.RMSNorm(config.dtype, name=name)

    def attention(name, kind=layers.Attention, **options):
      return kind(
        num_heads=config.num_heads,
        head_dim=config.head_dim,
        scale_logits=config.scale_logits,
        dropout_rate=config.dropout_rate,
        dtype=config.dtype,
        name=name,
        **options,
      )

    def film(x, name):
      if condition is None:
        return x
      return layers.FiLM(config.dtype, name=name)(x, condition)

    if self.decode:
      self_attention = attention(
        "self_attention", layers.GrowingAttention, length=config.segment_frames
      )
      cross_attention = attention(CROSS_ATTENTION, layers.KeptAttention)
    else:
      self_attention = attention("self_attention")
      cross_attention = attention(CROSS_ATTENTION)

    normed = norm("pre_self_attention_layer_norm")(x)
    normed = film(normed, "FiLMLayer_0")
    attended = self_attention(
      normed, normed, self_mask, deterministic=deterministic
    )
    x = x + dropout(attended, deterministic)

    normed = norm("pre_cross_attention_layer_norm")(x)
    attended = cross_attention(
      normed, keys, mask[:, None], bias, deterministic=deterministic
    )
    x = x + dropout(attended, deterministic)

    normed = norm("pre_mlp_layer_norm")(x)
    normed = film(normed, "FiLMLayer_1")
    hidden = layers.GatedMLP(
      config.mlp_dim, config.dropout_rate, config.dtype, name="mlp"
    )(normed, deterministic=deterministic)
    return x + dropout(hidden, deterministic)


class Decoder(nn.Module):
  """Maps a noisy spectrogram, its noise time and encodings to an output.

  Attributes:
    config: Size and options.
    num_outputs: How many spectrograms the output holds, side by side.
  """

  config: NetworkConfig
  num_outputs: int = 1

  @nn.compact
  def __call__(
    self,
    inputs: Float[Array, "batch frames mel_bins"],
    time: Float[Array, " batch"],
    keys: Float[Array, "batch keys emb_dim"],
    mask: Bool[Array, "batch keys"],
    bias: Float[Array, "layers batch heads frames keys"] | None = None,
    *,
    deterministic: bool,
  ) -> Float[Array, "batch frames outputs"]:
    """Runs the decoder.

    Args:
      inputs: Noisy spectrogram, on the model's scale.
      time: Noise time, 0 (clean) to 1 (noise).
      keys: Encoded notes and context.
      mask: Which of them are valid.
      bias: Added to the logits of the cross-attention, by layer.
      deterministic: Whether dropout is off.

    Returns:
      What the model's parameterization makes of it, float32.
    """
    config = self.config
    dropout = layers.Dropout(config.dropout_rate)
    condition = encode_noise_time(time, config.emb_dim).astype(config.dtype)
    for i in range(2):
      condition = nn.swish(
        layers.dense(4 * config.emb_dim, f"time_emb_dense{i}", config.dtype)(
          condition
        )
      )
    x = layers.dense(
      config.emb_dim, "continuous_inputs_projection", config.dtype
    )(inputs)
    x = x + layers.Positions(
      config.segment_frames, config.emb_dim, config.dtype, name="Embed_0"
    )(jnp.arange(inputs.shape[1]))
    x = dropout(x, deterministic)
    layer = rematerialization.rematerialized(DecoderLayer, config.remat)
    for i in range(config.num_decoder_layers):
      x = layer(config, name=f"layers_{i}")(
        x,
        keys,
        mask,
        None if bias is None else bias[i],
        condition,
        None,
        deterministic,
      )
    return _project_out(
      x, self.num_outputs * inputs.shape[-1], dropout, deterministic
    )


def _project_out(x, num_channels, dropout, deterministic):
  """The end of both decoders, in float32; called from their compact methods."""
  x = layers.RMSNorm(jnp.float32, name="decoder_norm")(x)
  x = dropout(x, deterministic)
  with jax.default_matmul_precision("float32"):
    return layers.dense(num_channels, "spec_out_dense", jnp.float32)(x)


class AutoregressiveDecoder(nn.Module):
  """Maps the frames before to the next one, under a causal mask.

  Attributes:
    config: Size and options.
    decode: Whether frames come one at a time: what earlier ones and the keys
      have become is then kept in the collection `cache`.
  """

  config: NetworkConfig
  decode: bool = False

  @nn.compact
  def __call__(
    self,
    previous: Float[Array, "batch frames mel_bins"],
    keys: Float[Array, "batch keys emb_dim"],
    mask: Bool[Array, "batch keys"],
    position: Int[Array, ""] | int = 0,
    *,
    deterministic: bool,
  ) -> Float[Array, "batch frames mel_bins"]:
    """Runs the decoder.

    Args:
      previous: The frame before each frame, on the model's scale; zeros before
        the first.
      keys: Encoded notes.
      mask: Which of them are valid.
      position: Number of the first frame of `previous` in the segment.
      deterministic: Whether dropout is off.

    Returns:
      The frames, on the model's scale.
    """
    config = self.config
    dropout = layers.Dropout(config.dropout_rate)
    frames = position + jnp.arange(previous.shape[1])
    num_past = config.segment_frames if self.decode else previous.shape[1]
    self_mask = jnp.arange(num_past) <= frames[:, None]
    x = layers.dense(
      config.emb_dim, "continuous_inputs_projection", config.dtype
    )(previous)
    positions = layers.sinusoids(frames.astype(jnp.float32), config.emb_dim)
    x = dropout(x + positions.astype(config.dtype), deterministic)
    # What is cached is not differentiated.
    remat = config.remat and not self.decode
    layer = rematerialization.rematerialized(DecoderLayer, remat)
    for i in range(config.num_decoder_layers):
      x = layer(config, self.decode, name=f"layers_{i}")(
        x, keys, mask, None, None, self_mask[None], deterministic
      )
    return _project_out(x, previous.shape[-1], dropout, deterministic)
