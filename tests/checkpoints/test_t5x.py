import pathlib
import shutil
import zlib

from flax import serialization, traverse_util
import jax
import ml_dtypes
import numpy as np
import pytest
import tensorstore

from music_spectrogram_diffusion import checkpoints, models, notes
from music_spectrogram_diffusion.checkpoints import t5x
from music_spectrogram_diffusion.diffusion import parameterization, schedules

RUN = pathlib.Path(__file__).parents[1] / "data" / "t5x_tiny"
STEP = "checkpoint_7"
KERNEL = "decoder/layers_0/mlp/wo/kernel"
FOLDER = "target.decoder.layers_0.mlp.wo.kernel"


@pytest.fixture
def run(tmp_path):
  """A copy of the tiny run, to be spoilt."""
  return shutil.copytree(RUN, tmp_path / "run")


def draw(name, shape):
  """What make_t5x_fixture.py has drawn."""
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  return (rng.integers(-8, 8, shape) / 16).astype(np.float32)


def assert_drawn(parameters):
  flat = traverse_util.flatten_dict(parameters, sep="/")
  for name, array in flat.items():
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, draw(name, array.shape), name)


def change_config(run, old, new):
  path = run / "config.gin"
  text = path.read_text()
  assert old in text
  path.write_text(text.replace(old, new))


def change_target(run, change):
  """Applies `change` to the flat tree of what the msgpack file describes."""
  path = run / STEP / "checkpoint"
  contents = serialization.msgpack_restore(path.read_bytes())
  flat = traverse_util.flatten_dict(
    contents["optimizer"]["target"],
    sep="/",
    is_leaf=lambda _, leaf: "driver" in leaf,
  )
  change(flat)
  contents["optimizer"]["target"] = traverse_util.unflatten_dict(flat, sep="/")
  path.write_bytes(serialization.msgpack_serialize(contents))


def write_array(step, folder, array, **store):
  store = store or {"driver": "file"}
  place = f"{step}/" if store["driver"] == "file" else ""
  tensorstore.open(
    {
      "driver": "zarr",
      "kvstore": {**store, "path": f"{place}{folder}/"},
      "metadata": {"compressor": {"id": "gzip"}, "chunks": list(array.shape)},
    },
    create=True,
    delete_existing=True,
    dtype=array.dtype,
    shape=array.shape,
  ).result().write(array).result()


def test_every_parameter_that_t5x_wrote_is_restored_bit_for_bit():
  config, parameters = t5x.load_t5x_checkpoint(RUN / STEP)
  model = models.from_config(config)
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  checkpoints.check_parameters(shapes, parameters, RUN)
  assert_drawn(parameters)


def test_the_model_is_the_one_that_config_gin_describes():
  config, _ = t5x.load_t5x_checkpoint(RUN)
  assert models.from_config(config) == models.DiffusionModel(
    network=models.NetworkConfig(
      emb_dim=16,
      num_heads=2,
      head_dim=6,
      mlp_dim=24,
      num_encoder_layers=1,
      num_context_layers=1,
      num_decoder_layers=1,
      segment_frames=8,
      max_tokens=32,
      dropout_rate=0.1,
    ),
    vocabulary=notes.Vocabulary(velocity_bins=1),
    schedule=schedules.CosineSchedule(-20.0, 20.0),
    parameterization=parameterization.Eps(),
    sampling=models.SamplingConfig(
      sampler="ddpm", num_steps=1000, guidance_weight=2.0
    ),
  )


def test_other_settings_are_followed(run):
  # Written as training runs are configured, in blocks and with macros.
  with (run / "config.gin").open("a") as file:
    file.write("""
WEIGHT = 5
diffusion_utils.ClassifierFreeGuidanceConfig:
  eval_condition_weight = %WEIGHT
diffusion_utils.SamplerConfig.name = 'ddim'
sampler/diffusion_utils.DiffusionSchedule.num_steps = 50
network.T5Config.dropout_rate = 0
diffusion_utils.DiffusionConfig.model_output = 'v'
""")
  model = models.from_config(t5x.load_t5x_checkpoint(run)[0])
  assert model.parameterization == parameterization.V()
  assert model.network.dropout_rate == 0.0
  assert model.sampling == models.SamplingConfig(
    sampler="ddim", num_steps=50, guidance_weight=5.0
  )


def test_of_several_steps_the_last_is_read(run):
  shutil.copytree(run / STEP, run / "checkpoint_10")
  write_array(run / "checkpoint_10", FOLDER, np.ones((24, 16), np.float32))
  (run / "checkpoint_20").mkdir()  # As a failed save leaves it.
  _, parameters = t5x.load_t5x_checkpoint(run)
  assert parameters["decoder"]["layers_0"]["mlp"]["wo"]["kernel"].min() == 1.0


def test_a_model_without_context_has_one_encoder_of_its_own_name(run):
  def change(flat):
    for name in list(flat):
      if name.startswith("continuous_encoder/"):
        del flat[name]
      elif name.startswith("token_encoder/"):
        flat[name.removeprefix("token_")] = flat.pop(name)

  change_target(run, change)
  change_config(run, "@models.ContextDiffusionModel", "@models.DiffusionModel")
  change_config(run, ", 'targets_context': 8", "")
  config, parameters = t5x.load_t5x_checkpoint(run)
  assert not models.from_config(config).network.has_context
  assert parameters.keys() == {"encoder", "decoder"}


def autoregressive_shapes():
  """Parameters of the released autoregressive network, of the tiny size."""

  def layer(*attentions):
    norms = ("pre_mlp_layer_norm", *(norm for norm, _ in attentions))
    shapes = {f"{norm}/scale": (16,) for norm in norms}
    for _, name in attentions:
      for projection in ("query", "key", "value"):
        shapes[f"{name}/{projection}/kernel"] = (16, 12)
      shapes[f"{name}/out/kernel"] = (12, 16)
    return shapes | {
      "mlp/wi_0/kernel": (16, 24),
      "mlp/wi_1/kernel": (16, 24),
      "mlp/wo/kernel": (24, 16),
    }

  encoder = layer(("pre_attention_layer_norm", "attention"))
  decoder = layer(
    ("pre_self_attention_layer_norm", "self_attention"),
    ("pre_cross_attention_layer_norm", "encoder_decoder_attention"),
  )
  return {
    "encoder/token_embedder/embedding": (1536, 16),
    "encoder/encoder_norm/scale": (16,),
    **{f"encoder/layers_0/{name}": shape for name, shape in encoder.items()},
    "decoder/continuous_inputs_projection/kernel": (128, 16),
    "decoder/decoder_norm/scale": (16,),
    "decoder/spec_out_dense/kernel": (16, 128),
    **{f"decoder/layers_0/{name}": shape for name, shape in decoder.items()},
  }


@pytest.fixture
def autoregressive_run(run):
  def change(flat):
    flat.clear()
    for name, shape in autoregressive_shapes().items():
      flat[name] = draw(name, shape)

  change_target(run, change)
  kind = "ContinuousOutputsEncoderDecoderModel"
  change_config(run, "ContextDiffusionModel", kind)
  change_config(run, ", 'targets_context': 8", "")
  with (run / "config.gin").open("a") as file:
    file.write(f"""
models.{kind}.output_function = @output_functions.Deterministic()
""")
  return run


def test_an_autoregressive_model_has_frames_that_are_not_scaled(
  autoregressive_run,
):
  config, parameters = t5x.load_t5x_checkpoint(autoregressive_run)
  model = models.from_config(config)
  assert model == models.AutoregressiveModel(
    network=models.NetworkConfig(
      emb_dim=16,
      num_heads=2,
      head_dim=6,
      mlp_dim=24,
      num_encoder_layers=1,
      num_context_layers=0,
      num_decoder_layers=1,
      segment_frames=8,
      max_tokens=32,
      autoregressive=True,
    ),
    dither=0.2,
    scale_frames=False,
  )
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  checkpoints.check_parameters(shapes, parameters, autoregressive_run)
  layer = parameters["decoder"]["layers_0"]
  cross_attention = layer.pop("MultiHeadDotProductAttention_0")
  layer["encoder_decoder_attention"] = cross_attention
  assert_drawn(parameters)


def test_the_dither_of_an_autoregressive_model_is_followed(autoregressive_run):
  with (autoregressive_run / "config.gin").open("a") as file:
    file.write("output_functions.Deterministic.sampling_dither_amount = 0.5\n")
  config, _ = t5x.load_t5x_checkpoint(autoregressive_run)
  assert models.from_config(config).dither == 0.5


def test_an_autoregressive_model_of_another_output_is_refused(
  autoregressive_run,
):
  change_config(autoregressive_run, "Deterministic", "GaussianMixture")
  message = message_of(autoregressive_run)
  assert "output_function to be a Deterministic" in message


def test_what_an_autoregressive_checkpoint_lacks_has_its_name_there(
  autoregressive_run,
):
  name = "decoder/layers_0/encoder_decoder_attention/out/kernel"
  change_target(autoregressive_run, lambda flat: flat.pop(name))
  assert f"{name} [12, 16] is missing" in message_of(autoregressive_run)


@pytest.mark.parametrize(
  "description",
  [
    {"driver": "zarr", "kvstore": {"driver": "gfile", "path": FOLDER}},
    {
      "driver": "zarr",
      "kvstore": {"driver": "gcs", "bucket": "t5x-dummy-bucket"},
      "path": f"{FOLDER}/",
    },
    {
      "driver": "zarr",
      "kvstore": {"driver": "file", "path": f"/elsewhere/{FOLDER}/"},
    },
  ],
)
def test_descriptions_of_other_versions_lead_to_the_same_folder(
  run, description
):
  change_target(run, lambda flat: flat.update({KERNEL: description}))
  assert_drawn(t5x.load_t5x_checkpoint(run)[1])


def test_arrays_may_be_in_the_msgpack_file_itself(run):
  kernel = draw(KERNEL, (24, 16))
  shutil.rmtree(run / STEP / FOLDER)
  change_target(run, lambda flat: flat.update({KERNEL: kernel}))
  assert_drawn(t5x.load_t5x_checkpoint(run)[1])


def test_the_oldest_layout_has_the_target_on_top(run):
  path = run / STEP / "checkpoint"
  contents = serialization.msgpack_restore(path.read_bytes())
  path.write_bytes(serialization.msgpack_serialize(contents["optimizer"]))
  assert_drawn(t5x.load_t5x_checkpoint(run)[1])


def test_a_checkpoint_by_orbax_holds_the_same(run):
  _, parameters = t5x.load_t5x_checkpoint(run)
  base = {"driver": "file", "path": f"{run / STEP / 'state'}/"}
  for name, array in traverse_util.flatten_dict(parameters, sep=".").items():
    write_array(run / STEP, f"target.{name}", array, driver="ocdbt", base=base)
  for path in (run / STEP).iterdir():
    if path.name != "state":
      shutil.rmtree(path) if path.is_dir() else path.unlink()
  assert_drawn(t5x.load_t5x_checkpoint(run)[1])


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float64])
def test_all_floating_types_come_as_float32(run, dtype):
  write_array(run / STEP, FOLDER, draw(KERNEL, (24, 16)).astype(dtype))
  assert_drawn(t5x.load_t5x_checkpoint(run)[1])


def message_of(run):
  with pytest.raises(checkpoints.CheckpointError) as error:
    t5x.load_t5x_checkpoint(run)
  return str(error.value)


def test_all_parameters_that_do_not_fit_are_named(run):
  shutil.rmtree(run / STEP / "target.decoder.decoder_norm.scale")
  write_array(run / STEP, FOLDER, np.ones((16, 24), np.float32))
  change_target(run, lambda flat: flat.pop("token_encoder/Embed_0/embedding"))
  change_target(run, lambda flat: flat.update(extra=np.ones(3, np.float32)))
  assert message_of(run) == (
    f"Parameters in {run / STEP} do not fit the model:"
    " decoder/decoder_norm/scale [16] is missing;"
    " token_encoder/Embed_0/embedding [32, 16] is missing;"
    " extra [3] is unexpected;"
    f" {KERNEL} is [16, 24], expected [24, 16]."
  )


def test_all_arrays_that_are_damaged_are_named(run):
  chunk = run / STEP / FOLDER / "0.0"
  chunk.write_bytes(chunk.read_bytes()[:50])
  (run / STEP / "target.decoder.decoder_norm.scale" / "0").unlink()
  write_array(
    run / STEP,
    "target.token_encoder.encoder_norm.scale",
    np.ones(16, np.uint16),
  )
  message = message_of(run)
  assert f"{KERNEL}: " in message and "truncated" in message
  assert "decoder/decoder_norm/scale: " in message and "missing" in message
  assert "token_encoder/encoder_norm/scale is uint16" in message
  assert "spec=" not in message


def test_a_chunk_larger_than_its_array_is_not_read(run):
  path = run / STEP / FOLDER / ".zarray"
  text = path.read_text()
  path.write_text(text.replace('"chunks":[24,16]', f'"chunks":[24,{10**12}]'))
  assert path.read_text() != text
  assert f"{KERNEL} is in chunks" in message_of(run)


@pytest.mark.parametrize("path", ["..", "/", "", "../../outside", None, 3])
def test_a_description_leads_nowhere_else(run, path):
  outside = run.parent / "outside"
  shutil.copytree(run / STEP / FOLDER, outside)
  description = {"driver": "zarr", "kvstore": {"path": path}}
  change_target(run, lambda flat: flat.update({KERNEL: description}))
  assert f"{KERNEL} [24, 16] is missing" in message_of(run)


@pytest.mark.parametrize("leaf", ["text", 3, None, [1.0]])
def test_what_is_no_array_counts_as_missing(run, leaf):
  def change(flat):
    flat[KERNEL] = leaf

  change_target(run, change)
  assert f"{KERNEL} [24, 16] is missing" in message_of(run)


@pytest.mark.parametrize(
  "content",
  [
    b"",
    b"\xc1",
    b"\x80",
    b"\x01",
    b"\x91" * 5000,
    b"\x81\xa6target" + b"\x81\xa1a" * 1000 + b"\x01",
    serialization.msgpack_serialize({"optimizer": 3}),
    serialization.msgpack_serialize({"model": {"a": np.ones(2)}}),
    b"\x80\x04\x95K\x01.",
  ],
)
def test_a_damaged_msgpack_file_is_named(run, content):
  (run / STEP / "checkpoint").write_bytes(content)
  assert f"{STEP}/checkpoint" in message_of(run)


def test_damaged_metadata_and_databases_are_named(run):
  (run / STEP / FOLDER / ".zarray").write_text("{")
  message = message_of(run)
  assert KERNEL in message and "spec=" not in message
  (run / STEP / "checkpoint").unlink()
  (run / STEP / "state").mkdir()
  (run / STEP / "state" / "manifest.ocdbt").write_bytes(b"x")
  assert f"{STEP}/state" in message_of(run)


def test_a_directory_without_a_checkpoint_is_refused(tmp_path):
  (tmp_path / "checkpoint_7").mkdir()
  assert str(tmp_path) in message_of(tmp_path)
  assert "missing" in message_of(tmp_path / "missing")


def test_a_missing_config_is_named(run):
  (run / "config.gin").unlink()
  assert "config.gin" in message_of(run)


@pytest.mark.parametrize(
  "kind",
  [
    "@models.ContinuousInputsEncoderDecoderModel()",  # MT3's.
    "@models.GaussianModel",
    "'ContextDiffusionModel; import os'",
    "3",
    "%NOWHERE",
  ],
)
def test_another_kind_of_model_is_refused(run, kind):
  change_config(run, "@models.ContextDiffusionModel()", kind)
  message = message_of(run)
  assert "MODEL to be a ContextDiffusionModel or DiffusionModel" in message
  assert "config.gin" in message


@pytest.mark.parametrize(
  "name, value",
  [
    ("network.T5Config.emb_dim", "@os.system('touch hit')"),
    ("network.T5Config.emb_dim", "-16"),
    ("network.T5Config.emb_dim", "16.0"),
    ("network.T5Config.emb_dim", "True"),
    ("network.T5Config.mlp_dim", "10000000000"),
    ("network.T5Config.num_encoder_layers", "1000"),
    ("network.T5Config.dropout_rate", "'0.1'"),
    ("network.T5Config.dropout_rate", "1e999"),
    ("network.T5Config.decoder_cross_attend_style", "'sum_cross_attends'"),
    ("network.T5Config.context_positions", "'regular'"),
    ("network.T5Config.mlp_activations", "('relu',)"),
    ("network.T5Config.max_decoder_noise_time", "2000"),
    ("vocabularies.VocabularyConfig.num_velocity_bins", "128"),
    ("vocabularies.VocabularyConfig.steps_per_second", "50"),
    ("train/diffusion_utils.DiffusionSchedule.name", "'linear'"),
    ("elsewhere/diffusion_utils.DiffusionSchedule.name", "'linear'"),
    ("sampler/diffusion_utils.DiffusionSchedule.num_steps", "0"),
    ("diffusion_utils.SamplerConfig.name", "['ddpm']"),
    ("diffusion_utils.SamplerConfig.logvar_type", "'small'"),
    ("diffusion_utils.DiffusionConfig.model_output", "'score'"),
    ("TASK_FEATURE_LENGTHS", "{'inputs': 32, 'targets': 8}"),
    ("TASK_FEATURE_LENGTHS", "{'inputs': 32}"),
    ("TASK_FEATURE_LENGTHS", "[32, 8, 8]"),
    (
      "TASK_FEATURE_LENGTHS",
      "{'inputs': 32, 'targets': 8, 'targets_context': 4}",
    ),
  ],
)
def test_settings_that_the_model_cannot_follow_are_named(
  run, tmp_path, monkeypatch, name, value
):
  monkeypatch.chdir(tmp_path)
  with (run / "config.gin").open("a") as file:
    file.write(f"\n{name} = {value}\n")
  message = message_of(run)
  assert name.split(".")[-1] in message and "config.gin" in message
  assert not (tmp_path / "hit").exists()


def test_a_checkpoint_of_another_size_is_named_with_all_that_differs(run):
  with (run / "config.gin").open("a") as file:
    file.write("\nnetwork.T5Config.num_decoder_layers = 2\n")
  message = message_of(run)
  assert "decoder/layers_1/mlp/wo/kernel [24, 16] is missing" in message
  assert message.count("is missing") == 16
