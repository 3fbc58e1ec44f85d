"""The encoder-decoder: what is heard so far and what to play, to an output."""

from typing import Any

from flax import linen as nn
from flax import struct
import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
import numpy as np

from music_spectrogram_diffusion import notes
from music_spectrogram_diffusion.models import decoders, encoders, note_list
from music_spectrogram_diffusion.models.configs import NetworkConfig


@struct.dataclass
class Conditioning:
  """What the decoder attends to: encoded once, used by every denoising step.

  Attributes:
    keys: Encoded notes, then encoded context.
    mask: Which of them are valid.
    null: Which of them stay valid when there is no condition.
    bias: Added to the logits of the cross-attention; None for none.
  """

  keys: Float[Array, "batch keys emb_dim"]
  mask: Bool[Array, "batch keys"]
  null: Bool[Array, " keys"]
  bias: Float[Array, "layers batch heads frames keys"] | None = None

  def unconditional(self) -> "Conditioning":
    """The same without notes and context, for classifier-free guidance."""
    return self.replace(mask=self.mask & self.null)

  def repeat(self, times: int) -> "Conditioning":
    """Each example `times` times over, one after the other."""
    return self.replace(
      keys=jnp.repeat(self.keys, times, axis=0),
      mask=jnp.repeat(self.mask, times, axis=0),
      bias=None if self.bias is None else jnp.repeat(self.bias, times, axis=1),
    )

  def concatenate(self, other: "Conditioning") -> "Conditioning":
    """The examples of both, in one batch."""

    def join(axis):
      return lambda a, b: jnp.concatenate([a, b], axis=axis)

    return self.replace(
      keys=join(0)(self.keys, other.keys),
      mask=join(0)(self.mask, other.mask),
      bias=jax.tree.map(join(1), self.bias, other.bias),
    )


class RelativeTimeBias(nn.Module):
  """A learned logit for each layer, head and bucket of relative time.

  The initial values let frames attend to the notes that sound in them. Of
  every three heads, the second prefers fresh onsets and the third recent
  releases.
  """

  num_layers: int
  num_heads: int

  @nn.compact
  def __call__(
    self, buckets: Int[Array, "batch frames notes"], *, num_context: int
  ) -> Float[Array, "layers batch heads frames keys"]:
    """Bias of the null note, the notes and `num_context` context frames."""

    def init(_, shape):
      waiting = [-2.0, -4.0, -6.0, -8.0]
      even, onset = [0.0] * 9, [3.0, 2.5, 2.0, 1.0, 0.0, -1.0, -1.5, -2.0, -2.0]
      fading = list(np.linspace(-1.0, -7.0, note_list.RELEASED))
      release = [2.5, 2.0, 1.0, 0.0, -1.5, -3.0, -5.0, -7.0]
      tail = [0.0, -3.0, -6.0]  # Tied, null, context.
      tastes = np.asarray(
        [
          waiting + even + fading + tail,
          waiting + onset + fading + tail,
          waiting + even + release + tail,
        ]
      )
      heads = tastes[np.arange(self.num_heads) % len(tastes)].T
      return jnp.asarray(np.tile(heads, (1, self.num_layers)), jnp.float32)

    shape = (note_list.NUM_BUCKETS, self.num_layers * self.num_heads)
    table = self.param("embedding", init, shape)
    # A product with one-hot rows: the gradient of a gather is a slow scatter.
    one_hot = jax.nn.one_hot(buckets, note_list.NUM_BUCKETS, dtype=table.dtype)

    def constant(bucket, num_keys):
      shape = (*buckets.shape[:2], num_keys, table.shape[1])
      return jnp.broadcast_to(table[bucket], shape)

    bias = jnp.concatenate(
      [
        constant(note_list.NULL, 1),
        one_hot @ table,
        constant(note_list.CONTEXT, num_context),
      ],
      axis=2,
    )
    bias = bias.reshape(*bias.shape[:3], self.num_layers, self.num_heads)
    return bias.transpose(3, 0, 4, 1, 2)


class Network(nn.Module):
  """Notes, context and a noisy spectrogram in; a denoising output out.

  Attributes:
    config: Size and options.
    vocabulary: What the note tokens mean.
    num_outputs: How many spectrograms the output holds, side by side.
    decode_frames: Whether an autoregressive decoder is given one frame at a
      time, and keeps what it needs of the others in the collection `cache`.
  """

  config: NetworkConfig
  vocabulary: notes.Vocabulary
  num_outputs: int = 1
  decode_frames: bool = False

  def setup(self):
    config = self.config
    # The published trees name the only encoder `encoder`, one of two
    # `token_encoder`.
    name = "token_encoder" if config.has_context else "encoder"
    if config.max_notes is None:
      self.note_encoder = encoders.TokenEncoder(
        config, config.num_encoder_layers, self.vocabulary, name=name
      )
    else:
      self.note_encoder = encoders.NoteListEncoder(
        config, config.num_encoder_layers, name=name
      )
      self.null_note = self.param(
        "null_note", nn.initializers.normal(1.0), (config.emb_dim,)
      )
    if config.has_context:
      self.context_encoder = encoders.ContinuousEncoder(
        config, config.num_context_layers, name="continuous_encoder"
      )
    if config.relative_time:
      self.relative_time_bias = RelativeTimeBias(
        config.num_decoder_layers, config.num_heads, name="relative_time_bias"
      )
    if config.autoregressive:
      self.decoder = decoders.AutoregressiveDecoder(
        config, self.decode_frames, name="decoder"
      )
    else:
      self.decoder = decoders.Decoder(config, self.num_outputs, name="decoder")

  def encode(
    self,
    note_tokens: Int[Array, "batch tokens"],
    context: Float[Array, "batch frames mel_bins"],
    context_mask: Bool[Array, "batch frames"],
    *,
    deterministic: bool = True,
  ) -> Conditioning:
    """Encodes what to play and what was heard before.

    Args:
      note_tokens: Tokens of the segment, padded with 0.
      context: Spectrogram before the segment, on the model's scale, its valid
        frames first; ignored by a network without context.
      context_mask: Which frames are valid.
      deterministic: Whether dropout is off.

    Returns:
      What `decode` attends to.
    """
    config = self.config
    listed = None
    if config.max_notes is None:
      keys, mask = self.note_encoder(note_tokens, deterministic=deterministic)
      null = jnp.zeros(keys.shape[1], bool)
    else:
      listed = note_list.parse_note_list(
        note_tokens, vocabulary=self.vocabulary, max_notes=config.max_notes
      )
      keys = self.note_encoder(listed, deterministic=deterministic)
      batch = keys.shape[0]
      null_note = self.null_note.astype(keys.dtype)
      null_key = jnp.broadcast_to(null_note, (batch, 1, config.emb_dim))
      keys = jnp.concatenate([null_key, keys], axis=1)
      mask = jnp.pad(listed.mask, ((0, 0), (1, 0)), constant_values=True)
      null = jnp.arange(keys.shape[1]) == 0
    if config.has_context:
      encoded = self.context_encoder(
        context, context_mask, deterministic=deterministic
      )
      keys = jnp.concatenate([keys, encoded], axis=1)
      mask = jnp.concatenate([mask, context_mask], axis=1)
      null = jnp.pad(null, (0, encoded.shape[1]))
    bias = None
    if config.relative_time:
      times = jnp.asarray(encoders.frame_times(config.segment_frames))
      buckets = note_list.relative_time_buckets(listed, times)
      num_context = context.shape[1] if config.has_context else 0
      bias = self.relative_time_bias(buckets, num_context=num_context)
    return Conditioning(keys=keys, mask=mask, null=null, bias=bias)

  def decode(
    self,
    inputs: Float[Array, "batch frames mel_bins"],
    time: Float[Array, " batch"],
    conditioning: Conditioning,
    *,
    deterministic: bool = True,
  ) -> Float[Array, "batch frames outputs"]:
    """One denoising output: see `decoders.Decoder`."""
    return self.decoder(
      inputs,
      time,
      conditioning.keys,
      conditioning.mask,
      conditioning.bias,
      deterministic=deterministic,
    )

  def next_frames(
    self,
    previous: Float[Array, "batch frames mel_bins"],
    conditioning: Conditioning,
    position: Int[Array, ""] | int = 0,
    *,
    deterministic: bool = True,
  ) -> Float[Array, "batch frames mel_bins"]:
    """The frames after `previous`: see `decoders.AutoregressiveDecoder`."""
    return self.decoder(
      previous,
      conditioning.keys,
      conditioning.mask,
      position,
      deterministic=deterministic,
    )

  def __call__(
    self,
    note_tokens: Int[Array, "batch tokens"],
    context: Float[Array, "batch frames mel_bins"],
    context_mask: Bool[Array, "batch frames"],
    inputs: Float[Array, "batch frames mel_bins"],
    time: Float[Array, " batch"],
  ) -> Float[Array, "batch frames outputs"]:
    """Encodes and decodes without dropout; initialises every parameter."""
    conditioning = self.encode(note_tokens, context, context_mask)
    if self.config.autoregressive:
      return self.next_frames(inputs, conditioning)
    return self.decode(inputs, time, conditioning)


def draw_parameters(
  module: Network, key: PRNGKeyArray, n_mels: int
) -> dict[str, Any]:
  """Draws every parameter of a network for spectrograms of `n_mels` bins."""
  config = module.config
  segment = (1, config.segment_frames, n_mels)
  return module.init(
    key,
    jnp.zeros((1, config.max_tokens), jnp.int32),
    jnp.zeros(segment),
    jnp.zeros(segment[:2], bool),
    jnp.zeros(segment),
    jnp.zeros(1),
  )["params"]
