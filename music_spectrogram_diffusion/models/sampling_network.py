"""The denoising decoder, many times over: its steps share all that they can.

The same function of the same parameters as `decoders.Decoder` without dropout,
of which each step computes only what is new to it. `prepare` computes keys and
values of the cross-attention once for all steps, `films` the scales and shifts
of all noise times at once. Then `decode` runs the rest, with and without the
condition in one batch.

Products are in the network's dtype, with float32 sums; all else is float32.
"""

from typing import Any

from flax import linen as nn
from flax import struct
import jax
from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Float

from music_spectrogram_diffusion.models import attention, decoders, layers
from music_spectrogram_diffusion.models.configs import NetworkConfig
from music_spectrogram_diffusion.models.network import Conditioning

Tree = dict[str, Any]


@struct.dataclass
class CrossAttention:
  """What one layer's cross-attention needs beside its queries.

  Heads share an axis with the batch, as in `_heads_first`.

  Attributes:
    key: Keys of notes and context.
    value: Their values; zeros where an example has neither.
    bias: Added to the logits; it also keeps queries from padding.
    unconditional: What it adds to every frame where there is no condition; None
      where that is nothing.
  """

  key: Float[Array, "heads keys head_dim"]
  value: Float[Array, "heads keys head_dim"]
  bias: Float[Array, "heads #frames keys"]
  unconditional: Float[Array, " emb_dim"] | None


@struct.dataclass
class Prepared:
  """What all denoising steps of a batch of segments share.

  Attributes:
    parameters: The decoder's; kernels in the dtype of the products.
    cross: The cross-attention of each layer.
  """

  parameters: Tree
  cross: list[CrossAttention]


def prepare(
  config: NetworkConfig, parameters: Tree, conditioning: Conditioning
) -> Prepared:
  """Computes what does not change from step to step.

  Args:
    config: Size and options.
    parameters: The decoder's.
    conditioning: What it attends to.
  """
  dtype = jnp.dtype(config.dtype)
  kernels = jax.tree_util.tree_map_with_path(
    lambda path, leaf: leaf.astype(dtype) if path[-1].key == "kernel" else leaf,
    parameters,
  )
  valid = attention.mask_bias(conditioning.mask)[:, None, None]
  valid = jnp.repeat(valid, config.num_heads, axis=1)
  some = conditioning.mask.any(-1)[:, None, None]

  def cross_attention(i):
    weights = kernels[f"layers_{i}"][decoders.CROSS_ATTENTION]
    key = _dense(conditioning.keys, weights["key"])
    value = _dense(conditioning.keys, weights["value"])
    bias = valid
    if conditioning.bias is not None:
      bias = valid + conditioning.bias[i]
    unconditional = None
    if config.max_notes is not None:
      # All that is left is the null note, the first key: its weight is 1.
      unconditional = _dense(value[0, 0], weights["out"])
    return CrossAttention(
      key=_heads_first(key, config),
      value=_heads_first(jnp.where(some, value, 0.0), config),
      bias=lax.collapse(bias, 0, 2),
      unconditional=unconditional,
    )

  return Prepared(
    # The end of the decoder is in float32 whatever the dtype.
    parameters=kernels | {"spec_out_dense": parameters["spec_out_dense"]},
    cross=[cross_attention(i) for i in range(config.num_decoder_layers)],
  )


def films(
  config: NetworkConfig, parameters: Tree, times: Float[Array, " steps"]
) -> list[list[Float[Array, "steps scale_shift"]]]:
  """Scales and shifts of both FiLM layers of every layer, at all noise times.

  Half of the decoder's weights are read for these alone. In float32, whatever
  the network's dtype.

  Args:
    config: Size and options.
    parameters: The decoder's.
    times: Noise times, 0 (clean) to 1 (noise).
  """
  condition = decoders.encode_noise_time(times, config.emb_dim)
  with jax.default_matmul_precision("float32"):
    for i in range(2):
      condition = nn.swish(_dense(condition, parameters[f"time_emb_dense{i}"]))
    return [
      [
        _dense(condition, parameters[f"layers_{i}"][name]["DenseGeneral_0"])
        for name in ("FiLMLayer_0", "FiLMLayer_1")
      ]
      for i in range(config.num_decoder_layers)
    ]


def decode(
  config: NetworkConfig,
  prepared: Prepared,
  inputs: Float[Array, "batch frames mel_bins"],
  films: list[list[Float[Array, " scale_shift"]]],
  *,
  guided: bool,
) -> Float[Array, "copies frames outputs"]:
  """One output for each example; with `guided`, then one without condition.

  Args:
    config: Size and options.
    prepared: What `prepare` has computed.
    inputs: Noisy spectrograms, on the model's scale.
    films: The row of their noise time of what `films` has computed.
    guided: Whether outputs without condition are wanted as well.

  Returns:
    What the model's parameterization makes something of, float32.
  """
  parameters = prepared.parameters
  batch, frames, _ = inputs.shape
  x = _dense(inputs, parameters["continuous_inputs_projection"])
  x = x + parameters["Embed_0"]["embedding"][:frames]
  for i, cross in enumerate(prepared.cross):
    layer = parameters[f"layers_{i}"]
    normed = _norm(x, layer["pre_self_attention_layer_norm"])
    normed = layers.film(normed, films[i][0])
    weights = layer["self_attention"]
    query, key, value = (
      _heads_first(_dense(normed, weights[name]), config)
      for name in ("query", "key", "value")
    )
    x = x + _attended(config, weights, query, key, value)

    # Until the first cross-attention, both halves are the same.
    heard, unheard = x[:batch], x[-batch:]
    normed = _norm(heard, layer["pre_cross_attention_layer_norm"])
    weights = layer[decoders.CROSS_ATTENTION]
    query = _heads_first(_dense(normed, weights["query"]), config)
    x = heard + _attended(
      config, weights, query, cross.key, cross.value, cross.bias
    )
    if guided:
      if cross.unconditional is not None:
        unheard = unheard + cross.unconditional
      x = jnp.concatenate([x, unheard])

    normed = _norm(x, layer["pre_mlp_layer_norm"])
    normed = layers.film(normed, films[i][1])
    weights = layer["mlp"]
    hidden = layers.gated(
      _dense(normed, weights["wi_0"]), _dense(normed, weights["wi_1"])
    )
    x = x + _dense(hidden, weights["wo"])
  x = _norm(x, parameters["decoder_norm"])
  with jax.default_matmul_precision("float32"):
    return _dense(x, parameters["spec_out_dense"])


def _dense(x: Array, weights: Tree) -> Array:
  """A product in the dtype of the kernel, its sums in float32."""
  kernel = weights["kernel"]
  return jnp.matmul(
    x.astype(kernel.dtype), kernel, preferred_element_type=jnp.float32
  )


def _norm(x: Array, weights: Tree) -> Array:
  return layers.rms_norm(x, weights["scale"])


def _heads_first(x: Array, config: NetworkConfig) -> Array:
  """[batch, length, heads*head_dim] as [batch*heads, length, head_dim].

  One axis for both: XLA's CPU backend takes an axis of 1 out of products, and
  then does not make one kernel of attention.
  """
  x = x.reshape(*x.shape[:-1], config.num_heads, config.head_dim)
  x = x.swapaxes(1, 2).astype(config.dtype)
  return lax.collapse(x, 0, 2)


def _attended(config, weights, query, key, value, bias=None) -> Array:
  """Attends, and projects to [batch, length, emb_dim]."""
  if config.scale_logits:
    query = query * config.head_dim**-0.5
  x = attention.weighted_means(query, key, value, bias)
  x = x.reshape(-1, config.num_heads, *x.shape[1:]).swapaxes(1, 2)
  return _dense(lax.collapse(x, 2), weights["out"])
