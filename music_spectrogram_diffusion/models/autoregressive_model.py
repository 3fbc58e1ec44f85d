"""The autoregressive baseline: one frame after the other, by least squares."""

import dataclasses
import functools
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
import numpy as np

from music_spectrogram_diffusion import audio, diffusion, notes
from music_spectrogram_diffusion.models import network
from music_spectrogram_diffusion.models.configs import NetworkConfig
from music_spectrogram_diffusion.models.diffusion_model import (
  Batch,
  Parameters,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoregressiveModel:
  """Note tokens in, a log-mel spectrogram out, frame by frame.

  Hawthorne et al. 2022, https://arxiv.org/abs/2206.05408, section 4.1.
  Segments are rendered independently of each other.

  Attributes:
    network: Size and options of the network, which is autoregressive.
    vocabulary: What note tokens mean.
    spectrogram: Features that are generated.
    dither: Deviation of the noise that sampling adds to every frame, in nats;
      0.2 in the paper.
    scale_frames: Whether the network's frames are log-mels scaled to [-1, 1]
      and cut off there, or, as in the released code, log-mels as they are. Of
      the latter, the zeros before the first frame are a magnitude of 1.
  """

  network: NetworkConfig
  vocabulary: notes.Vocabulary = notes.Vocabulary()
  spectrogram: audio.SpectrogramConfig = audio.SpectrogramConfig()
  dither: float = 0.2
  scale_frames: bool = True

  def __post_init__(self):
    if not self.network.autoregressive:
      raise ValueError("Expected a network with autoregressive=True.")

  @property
  def sampling_settings(self) -> dict[str, Any]:
    """Settings that `predict` takes, with their defaults: none."""
    return {}

  @functools.cached_property
  def module(self) -> network.Network:
    """The Flax module that parameters belong to."""
    return network.Network(self.network, self.vocabulary)

  def init(self, key: PRNGKeyArray) -> Parameters:
    """Draws parameters; wrap it in `jax.eval_shape` for their shapes alone."""
    return network.draw_parameters(self.module, key, self.spectrogram.n_mels)

  def _encode(self, parameters, note_tokens, **options):
    """Encodes notes; there is no context, so its arguments are empty."""
    batch, length = note_tokens.shape
    # Padding is attended to: with less of it the network would say other things
    # than it has learned, and a song others beside a denser one.
    missing = max(0, self.network.max_tokens - length)
    note_tokens = jnp.pad(
      note_tokens, ((0, 0), (0, missing)), constant_values=notes.PAD
    )
    return self.module.apply(
      {"params": parameters},
      note_tokens,
      jnp.zeros((batch, 0, self.spectrogram.n_mels)),
      jnp.zeros((batch, 0), bool),
      method="encode",
      **options,
    )

  @functools.partial(jax.jit, static_argnames="self")
  def predict(
    self,
    parameters: Parameters,
    note_tokens: Int[Array | np.ndarray, "batch tokens"],
    context: Float[Array | np.ndarray, "batch frames mel_bins"],
    context_mask: Bool[Array | np.ndarray, "batch frames"],
    key: diffusion.samplers.Keys,
  ) -> Float[Array, "batch frames mel_bins"]:
    """Generates the spectrograms of a batch of segments.

    Args:
      parameters: The model's.
      note_tokens: Tokens of each segment, padded with 0 as far as one likes.
      context: Not used; every model is given the segment before.
      context_mask: Not used.
      key: Seeds the dithering; one key for all, or one for each segment.

    Returns:
      Log-mel spectrograms.
    """
    del context, context_mask
    conditioning = self._encode(parameters, note_tokens)
    module = self.module.clone(decode_frames=True)
    num_frames = self.network.segment_frames
    deviation = self.dither
    if self.scale_frames:
      low, high = self.spectrogram.mel_range
      deviation = self.dither * 2.0 / (high - low)

    def step(cache, previous, position):
      return module.apply(
        {"params": parameters, "cache": cache},
        previous,
        conditioning,
        position,
        method="next_frames",
        mutable=["cache"],
      )

    def body(carry, position):
      cache, previous = carry
      frame, variables = step(cache, previous, position)
      own_key = diffusion.samplers.fold_in(key, position)
      noise = diffusion.samplers.noise(own_key, frame.shape)
      frame = frame + deviation * noise
      if self.scale_frames:
        frame = jnp.clip(frame, -1.0, 1.0)
      return (variables["cache"], frame), frame[:, 0]

    shape = (note_tokens.shape[0], 1, self.spectrogram.n_mels)
    # The first frame makes the cache.
    (cache, first), head = body(({}, jnp.zeros(shape)), jnp.int32(0))
    _, tail = lax.scan(body, (cache, first), jnp.arange(1, num_frames))
    frames = jnp.concatenate([head[None], tail]).swapaxes(0, 1)
    if self.scale_frames:
      frames = audio.unscale_log_mel(frames, self.spectrogram)
    return frames

  def loss(
    self,
    parameters: Parameters,
    batch: Batch,
    key: PRNGKeyArray,
    *,
    train: bool = True,
  ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Mean squared error of each frame, given the true ones before it.

    Args:
      parameters: The model's.
      batch: Arrays of the training contract; the context is not used.
      key: Draws dropout.
      train: Whether dropout is on.

    Returns:
      The loss, on the scale of the network's frames, and no further metrics.
    """
    encode_key, decode_key = jax.random.split(key)
    conditioning = self._encode(
      parameters,
      batch["note_tokens"],
      deterministic=not train,
      rngs={"dropout": encode_key},
    )
    targets = batch["targets"]
    if self.scale_frames:
      targets = audio.scale_log_mel(targets, self.spectrogram, clip=True)
    previous = jnp.pad(targets, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    predicted = self.module.apply(
      {"params": parameters},
      previous,
      conditioning,
      method="next_frames",
      deterministic=not train,
      rngs={"dropout": decode_key},
    )
    error = diffusion.losses.l2(predicted, targets)
    return diffusion.losses.masked_mean(error, batch["targets_mask"]), {}
