import math

from flax import traverse_util
import jax
from jax import numpy as jnp
import numpy as np
import pytest

from music_spectrogram_diffusion import audio, models
from music_spectrogram_diffusion.models import network, note_list


def shapes_of(config):
  """Shapes of the parameters by their names, without allocating them."""
  model = models.DiffusionModel(network=config)
  tree = jax.eval_shape(model.init, jax.random.key(0))
  return {
    name: leaf.shape
    for name, leaf in traverse_util.flatten_dict(tree, sep="/").items()
  }


def size_of(config):
  return sum(math.prod(shape) for shape in shapes_of(config).values())


@pytest.mark.parametrize(
  ("size", "expected"), [("small", 104_035_840), ("base", 411_665_664)]
)
def test_sizes_with_context_are_the_published_ones(size, expected):
  assert size_of(models.paper_network(size)) == expected


def test_small_without_context_has_85_million_parameters():
  size = size_of(models.paper_network("small", context=False))
  assert round(size / 1e6) == 85


def test_large_is_by_far_the_largest():
  assert size_of(models.paper_network("large")) > 3 * 411_665_664


def test_the_embedded_default_has_7_million_parameters():
  assert round(size_of(models.aligned_network()) / 1e5) == 71


ATTENTION = {f"{name}/kernel" for name in ("query", "key", "value", "out")}
MLP = {f"mlp/{name}/kernel" for name in ("wi_0", "wi_1", "wo")}


def published_encoder(num_layers, inputs):
  layer = (
    {"pre_attention_layer_norm/scale", "pre_mlp_layer_norm/scale"}
    | {f"attention/{name}" for name in ATTENTION}
    | MLP
  )
  layers = {f"layers_{i}/{name}" for i in range(num_layers) for name in layer}
  return layers | {"encoder_norm/scale", "Embed_0/embedding", inputs}


def published_decoder(num_layers):
  norms = ("pre_self_attention", "pre_cross_attention", "pre_mlp")
  layer = (
    {f"{name}_layer_norm/scale" for name in norms}
    | {f"FiLMLayer_{i}/DenseGeneral_0/kernel" for i in range(2)}
    | {f"self_attention/{name}" for name in ATTENTION}
    | {f"MultiHeadDotProductAttention_0/{name}" for name in ATTENTION}
    | MLP
  )
  layers = {f"layers_{i}/{name}" for i in range(num_layers) for name in layer}
  return layers | {
    "Embed_0/embedding",
    "continuous_inputs_projection/kernel",
    "time_emb_dense0/kernel",
    "time_emb_dense1/kernel",
    "decoder_norm/scale",
    "spec_out_dense/kernel",
  }


def published_names(context):
  encoders = {
    "token_encoder": published_encoder(2, "token_embedder/embedding"),
    "continuous_encoder": published_encoder(2, "input_proj/kernel"),
  }
  if not context:
    encoders = {"encoder": encoders["token_encoder"]}
  parts = encoders | {"decoder": published_decoder(2)}
  return {f"{part}/{name}" for part, names in parts.items() for name in names}


@pytest.mark.parametrize("context", [True, False])
def test_parameters_have_the_published_names(context):
  shapes = shapes_of(models.paper_network("tiny", context=context))
  assert shapes.keys() == published_names(context)


def test_kernels_are_matrices_and_tables_have_the_published_rows():
  shapes = shapes_of(models.paper_network("small"))
  assert {len(s) for n, s in shapes.items() if n.endswith("kernel")} == {2}
  assert shapes["token_encoder/token_embedder/embedding"] == (1536, 512)
  for part, rows in (
    ("token_encoder", 2048),
    ("continuous_encoder", 256),
    ("decoder", 256),
  ):
    assert shapes[f"{part}/Embed_0/embedding"] == (rows, 512)
  cross = "decoder/layers_7/MultiHeadDotProductAttention_0"
  assert shapes[f"{cross}/query/kernel"] == (512, 384)
  assert shapes[f"{cross}/out/kernel"] == (384, 512)
  film = "decoder/layers_0/FiLMLayer_1/DenseGeneral_0/kernel"
  assert shapes[film] == (2048, 1024)


def test_the_aligned_options_add_parameters_and_rename_none():
  shapes = shapes_of(
    models.aligned_network(emb_dim=32, num_heads=2, head_dim=16, mlp_dim=64)
  )
  layers = shapes_of(models.paper_network("tiny", max_tokens=8)).keys()
  decoder = {n for n in layers if n.startswith("decoder/layers_0")}
  assert decoder <= shapes.keys()
  added = shapes["relative_time_bias/embedding"]
  assert added == (note_list.NUM_BUCKETS, 4 * 2)
  assert shapes["null_note"] == (32,)


@pytest.mark.parametrize("make", ["paper", "aligned"])
def test_in_bfloat16_the_output_and_the_parameters_stay_float32(make):
  config = dict(
    paper=models.paper_network("tiny", dtype="bfloat16"),
    aligned=models.aligned_network(dtype="bfloat16"),
  )[make]
  model = models.DiffusionModel(network=config)

  def run(key):
    z_t = jnp.zeros((2, 256, 128))
    tokens, valid = jnp.ones((2, 64), jnp.int32), jnp.ones((2, 256), bool)
    parameters = model.init(key)
    conditioning = model.encode(parameters, tokens, z_t, valid)
    time = jnp.zeros(2)
    return (
      parameters,
      conditioning.keys,
      model.output(parameters, z_t, time, conditioning),
    )

  parameters, keys, output = jax.eval_shape(run, jax.random.key(0))
  assert {leaf.dtype for leaf in jax.tree.leaves(parameters)} == {
    jnp.dtype("float32")
  }
  assert (keys.dtype, output.dtype) == (jnp.bfloat16, jnp.float32)


def predict(tiny, batch, noisy, **changes):
  """The clean spectrograms that a model sees in `noisy`."""
  batch = batch | changes
  conditioning = tiny.encode(
    batch["note_tokens"], batch["context"], batch["context_mask"]
  )
  return np.asarray(tiny.denoise(*noisy, conditioning))


def test_padding_of_note_tokens_does_not_change_the_output(
  either, batch_of, noisy
):
  batch = batch_of(either)
  longer = jnp.pad(batch["note_tokens"][:, :40], ((0, 0), (0, 8)))
  np.testing.assert_array_equal(longer, batch["note_tokens"])
  np.testing.assert_allclose(
    predict(either, batch, noisy, note_tokens=longer[:, :40]),
    predict(either, batch, noisy),
    rtol=1e-4,
    atol=1e-4,
  )


def test_batch_neighbours_are_independent(either, batch_of, noisy):
  batch = batch_of(either)
  before = predict(either, batch, noisy)
  changed = {
    name: batch[name].at[1].set(batch[name][2])
    for name in ("note_tokens", "context", "context_mask")
  }
  after = predict(either, batch, noisy, **changed)
  np.testing.assert_allclose(
    after[[0, 2]], before[[0, 2]], rtol=1e-4, atol=1e-4
  )
  assert np.abs(after[1] - before[1]).max() > 1e-3


def test_notes_and_context_are_heard(either, batch_of, noisy):
  batch = batch_of(either)
  before = predict(either, batch, noisy)
  for name in ("note_tokens", "context"):
    changed = {name: jnp.roll(batch[name], 1, axis=0)}
    after = predict(either, batch, noisy, **changed)
    assert np.abs(after[0] - before[0]).max() > 1e-3, name


def test_context_that_is_not_valid_is_not_heard(either, batch_of, noisy):
  batch = batch_of(either)
  changed = jnp.where(batch["context_mask"][..., None], batch["context"], 0.0)
  assert not (changed == batch["context"]).all()
  np.testing.assert_array_equal(
    predict(either, batch, noisy, context=changed),
    predict(either, batch, noisy),
  )


def test_a_network_without_context_attends_to_notes_alone():
  model = models.DiffusionModel(
    network=models.paper_network(
      "tiny", context=False, segment_frames=12, max_tokens=48
    ),
    spectrogram=audio.SpectrogramConfig(n_mels=8),
  )
  parameters = jax.eval_shape(model.init, jax.random.key(0))
  keys = jax.eval_shape(
    lambda *inputs: model.encode(*inputs).keys,
    parameters,
    jnp.zeros((3, 48), jnp.int32),
    jnp.zeros((3, 12, 8)),
    jnp.ones((3, 12), bool),
  )
  assert keys.shape == (3, 48, 32)


def test_unconditional_is_without_notes_and_context(either, batch_of, noisy):
  batch = batch_of(either)
  conditioning = either.encode(
    batch["note_tokens"], batch["context"], batch["context_mask"]
  )
  unconditional = either.denoise(*noisy, conditioning.unconditional())
  nothing = predict(
    either,
    batch,
    noisy,
    note_tokens=jnp.zeros_like(batch["note_tokens"]),
    context_mask=jnp.zeros_like(batch["context_mask"]),
  )
  np.testing.assert_array_equal(unconditional, nothing)


def initial_bias(buckets, num_heads=2, num_context=3):
  module = network.RelativeTimeBias(num_layers=2, num_heads=num_heads)
  bias, _ = module.init_with_output(
    jax.random.key(0),
    jnp.asarray(buckets, jnp.int32)[None, None],
    num_context=num_context,
  )
  return np.asarray(bias[:, 0, :, 0])  # [layers, heads, keys]


def test_at_first_frames_attend_to_the_notes_that_sound():
  waiting, sounding, released = 3, note_list.WAITING + 5, note_list.TIED - 1
  bias = initial_bias([waiting, sounding, released, note_list.TIED])
  for layer in bias:
    null, waits, sounds, ended, tied, *context = layer[0]
    assert sounds == tied == 0.0 > null > context[0] > ended > waits
    assert len(set(context)) == 1 and len(context) == 3


def test_heads_prefer_all_that_sounds_or_onsets_or_releases():
  sounding = note_list.WAITING + np.arange(note_list.SOUNDING)
  released = sounding[-1] + 1 + np.arange(note_list.RELEASED)
  bias = initial_bias([*sounding, *released], num_heads=4)[0, :, 1:-3]
  since_onset, since_offset = np.split(bias, [note_list.SOUNDING], axis=1)
  assert since_onset[:, 0].tolist() == [0.0, 3.0, 0.0, 0.0]
  assert since_offset[:, 0].tolist() == [-1.0, -1.0, 2.5, -1.0]
  assert (np.diff(since_offset, axis=1) < 0).all()
  assert (np.diff(since_onset, axis=1) <= 0).all()


def test_repeat_and_concatenate_keep_examples_whole(aligned, batch_of):
  batch = batch_of(aligned)
  conditioning = aligned.encode(
    batch["note_tokens"], batch["context"], batch["context_mask"]
  )
  twice = conditioning.repeat(2)
  joined = conditioning.concatenate(conditioning.unconditional())
  for name, axis in (("keys", 0), ("mask", 0), ("bias", 1)):
    value = getattr(conditioning, name)
    np.testing.assert_array_equal(
      getattr(twice, name), np.repeat(value, 2, axis)
    )
    first, _ = np.split(getattr(joined, name), 2, axis)
    np.testing.assert_array_equal(first, value)
  np.testing.assert_array_equal(joined.mask[3:], joined.mask[:3] & joined.null)
