"""Sizes of the networks and what a model is made of, as plain data."""

import dataclasses
import math
from typing import Any

DTYPES = ("float32", "bfloat16")
"""What networks may compute in."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig:
  """Size and options of the encoder-decoder.

  The defaults of the options are the published architecture; `max_notes`,
  `relative_time` and `scale_logits` belong to the aligned family.

  Attributes:
    emb_dim: Channels of every layer.
    num_heads: Attention heads.
    head_dim: Channels of each head.
    mlp_dim: Hidden channels of the gated MLPs.
    num_encoder_layers: Layers of the note encoder.
    num_context_layers: Layers of the context encoder; 0 for no context.
    num_decoder_layers: Layers of the decoder.
    segment_frames: Frames of a segment, and of its context.
    max_tokens: Most note tokens of a segment.
    dropout_rate: Dropout in training.
    max_notes: Positions of the note-list encoder, the most notes of a segment;
      None reads token by token.
    relative_time: Whether cross-attention knows how frames and notes lie in
      time; needs `max_notes`.
    scale_logits: Whether attention logits are divided by the root of
      `head_dim`.
    autoregressive: Whether frames are predicted one after the other: no context
      and no noise time, plain sinusoids as positions, and an encoder that does
      not mask its padding.
    dtype: Name of the dtype of the computation, and in sampling of the
      denoising steps' products alone; parameters are float32.
    remat: Whether the gradient computes a layer's activations again instead of
      keeping them: a third more work, memory for one layer instead of all.
  """

  emb_dim: int
  num_heads: int
  head_dim: int = 64
  mlp_dim: int
  num_encoder_layers: int
  num_context_layers: int
  num_decoder_layers: int
  segment_frames: int = 256
  max_tokens: int = 2048
  dropout_rate: float = 0.1
  max_notes: int | None = None
  relative_time: bool = False
  scale_logits: bool = False
  autoregressive: bool = False
  dtype: str = "float32"
  remat: bool = False

  def __post_init__(self):
    if self.dtype not in DTYPES:
      raise ValueError(
        f"Expected a dtype of {', '.join(DTYPES)}; got {self.dtype!r}."
      )
    if self.relative_time and self.max_notes is None:
      raise ValueError(
        "relative_time needs a note list: set max_notes, for example to 256."
      )
    if self.autoregressive and (self.has_context or self.max_notes is not None):
      raise ValueError(
        "An autoregressive network has neither context nor note list: leave"
        " max_notes out and set num_context_layers to 0."
      )

  @property
  def has_context(self) -> bool:
    """Whether the network reads the segment before."""
    return self.num_context_layers > 0


_TINY = dict(emb_dim=32, num_heads=2, head_dim=16, mlp_dim=64)
_SMALL = dict(emb_dim=512, num_heads=6, mlp_dim=1024)
_BASE = dict(emb_dim=768, num_heads=12, mlp_dim=2048)
_LARGE = dict(emb_dim=1024, num_heads=16, mlp_dim=2816)


def paper_network(
  size: str, *, context: bool = True, **options: Any
) -> NetworkConfig:
  """A network of the paper: `tiny` (for tests), `small`, `base` or `large`.

  Hawthorne et al. 2022, section 4.

  Args:
    size: Which.
    context: Whether it reads the segment before.
    **options: Further fields of `NetworkConfig`.

  Raises:
    ValueError: There is no such size.
  """
  sizes = {
    "tiny": (_TINY, 2),
    "small": (_SMALL, 8),
    "base": (_BASE, 12),
    "large": (_LARGE, 24),
  }
  if size not in sizes:
    raise ValueError(f"Expected a size of {', '.join(sizes)}; got {size!r}.")
  widths, num_layers = sizes[size]
  return NetworkConfig(
    **widths,
    num_encoder_layers=num_layers,
    num_context_layers=num_layers if context else 0,
    num_decoder_layers=num_layers,
    **options,
  )


def aligned_network(**options: Any) -> NetworkConfig:
  """The network of the embedded default: 7.1 M parameters, notes aligned."""
  fields = dict(
    emb_dim=192,
    num_heads=3,
    mlp_dim=512,
    num_encoder_layers=2,
    num_context_layers=1,
    num_decoder_layers=4,
    dropout_rate=0.0,
    max_notes=256,
    relative_time=True,
    scale_logits=True,
  )
  return NetworkConfig(**(fields | options))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig:
  """How a model is sampled unless told otherwise.

  Attributes:
    sampler: Which step is repeated: a name of `diffusion_model.SAMPLERS`.
    num_steps: Number of network evaluations.
    guidance_weight: Weight of the conditional prediction; 1 means none.
    end_time: Time at which the grid of steps ends; the last step goes from the
      time before it to the clean prediction.
    spacing: How the steps lie between: a name of `diffusion_model.SPACINGS`.
    guidance_interval: Lowest and highest noise time with guidance. Outside of
      it the unconditional prediction is not computed.
    overlap_frames: Frames that a segment of a song shares with the next one,
      over which they are crossfaded.
  """

  sampler: str = "ddpm"
  num_steps: int = 1000
  guidance_weight: float = 2.0
  end_time: float = 0.0
  spacing: str = "time"
  guidance_interval: tuple[float, float] = (0.0, 1.0)
  overlap_frames: int = 0

  def __post_init__(self):
    if not math.isfinite(self.guidance_weight):
      raise ValueError(
        f"Expected a finite guidance weight, got {self.guidance_weight}."
      )
    if not 0.0 <= self.end_time < 1.0:
      raise ValueError(
        f"Expected an end_time from 0 to below 1, got {self.end_time}."
      )
    if self.overlap_frames < 0:
      raise ValueError(
        f"Expected overlap_frames of 0 or more, got {self.overlap_frames}."
      )
    interval = self.guidance_interval
    if len(interval) != 2 or not 0.0 <= interval[0] <= interval[1] <= 1.0:
      raise ValueError(
        "Expected a guidance_interval of two noise times from 0 to 1, the lower"
        f" one first; got {', '.join(map(str, interval))}."
      )
