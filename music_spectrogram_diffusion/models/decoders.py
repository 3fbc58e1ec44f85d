"""The denoising decoder."""

from flax import linen as nn
import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float

from music_spectrogram_diffusion.models import layers
from music_spectrogram_diffusion.models.configs import NetworkConfig

MAX_NOISE_TIME = 20_000.0
"""Noise times in [0, 1] are multiplied by this before they are encoded."""


class DecoderLayer(nn.Module):
  """Self-attention, cross-attention and MLP, told the noise time by FiLM."""

  config: NetworkConfig

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch frames emb_dim"],
    keys: Float[Array, "batch keys emb_dim"],
    mask: Bool[Array, "batch keys"],
    bias: Float[Array, "batch heads frames keys"] | None,
    condition: Float[Array, "batch cond_dim"],
    *,
    deterministic: bool,
  ) -> Float[Array, "batch frames emb_dim"]:
    config = self.config
    dropout = layers.Dropout(config.dropout_rate)

    def norm(name):
      return layers.RMSNorm(config.dtype, name=name)

    def attention(name):
      return layers.Attention(
        num_heads=config.num_heads,
        head_dim=config.head_dim,
        scale_logits=config.scale_logits,
        dropout_rate=config.dropout_rate,
        dtype=config.dtype,
        name=name,
      )

    def film(name):
      return layers.FiLM(config.dtype, name=name)

    normed = norm("pre_self_attention_layer_norm")(x)
    normed = film("FiLMLayer_0")(normed, condition)
    attended = attention("self_attention")(
      normed, normed, deterministic=deterministic
    )
    x = x + dropout(attended, deterministic)

    normed = norm("pre_cross_attention_layer_norm")(x)
    attended = attention("MultiHeadDotProductAttention_0")(
      normed, keys, mask[:, None], bias, deterministic=deterministic
    )
    x = x + dropout(attended, deterministic)

    normed = norm("pre_mlp_layer_norm")(x)
    normed = film("FiLMLayer_1")(normed, condition)
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
    condition = layers.sinusoids(
      time.astype(jnp.float32) * MAX_NOISE_TIME, config.emb_dim, MAX_NOISE_TIME
    ).astype(config.dtype)
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
    for i in range(config.num_decoder_layers):
      x = DecoderLayer(config, name=f"layers_{i}")(
        x,
        keys,
        mask,
        None if bias is None else bias[i],
        condition,
        deterministic=deterministic,
      )
    x = layers.RMSNorm(jnp.float32, name="decoder_norm")(x)
    x = dropout(x, deterministic)
    with jax.default_matmul_precision("float32"):
      return layers.dense(
        self.num_outputs * inputs.shape[-1], "spec_out_dense", jnp.float32
      )(x)
