"""Writes tests/data/t5x_tiny: a tiny checkpoint by t5x itself.

Run from the root of the checkout, in an environment of its own, after a change
of what is stored; the tests then need no t5x. That is not on the package index:
have checkouts of google-research/t5x, google/airio and
google-research/jestimator on PYTHONPATH, beside this project.

  pip install jax==0.10.2 flax==0.12.8 seqio==0.0.20 tensorflow==2.21.0 \
    cached_property clu fiddle grain tensorboard
  python tests/parity/make_t5x_fixture.py
"""

from pathlib import Path
import shutil
import zlib

import flax
from flax import traverse_util
from flax.linen import partitioning as axes
import jax
import numpy as np
from t5x import adafactor, checkpoints, partitioning, train_state

from music_spectrogram_diffusion import models

STEP = 7
NETWORK = models.NetworkConfig(
  emb_dim=16,
  num_heads=2,
  head_dim=6,
  mlp_dim=24,
  num_encoder_layers=1,
  num_context_layers=1,
  num_decoder_layers=1,
  segment_frames=8,
  max_tokens=32,
)

# As t5x saves it beside its checkpoints, shortened.
CONFIG = """\
from __gin__ import dynamic_registration
import __main__ as train_script
from music_spectrogram_diffusion import vocabularies
from music_spectrogram_diffusion.models.diffusion import diffusion_utils
from music_spectrogram_diffusion.models.diffusion import models
from music_spectrogram_diffusion.models.diffusion import network
from t5x import utils

# Macros:
# ==============================================================================
BATCH_SIZE = 1024
MODEL = @models.{kind}()
NUM_VELOCITY_BINS = 1
TASK_FEATURE_LENGTHS = \\
    {lengths}
VOCAB_CONFIG = @vocabularies.VocabularyConfig()

# Parameters for diffusion_utils.DiffusionConfig:
# ==============================================================================
diffusion_utils.DiffusionConfig.train_schedule = \\
    @train/diffusion_utils.DiffusionSchedule()

# Parameters for sampler/diffusion_utils.DiffusionSchedule:
# ==============================================================================
sampler/diffusion_utils.DiffusionSchedule.name = 'cosine'
sampler/diffusion_utils.DiffusionSchedule.num_steps = 1000

# Parameters for train/diffusion_utils.DiffusionSchedule:
# ==============================================================================
train/diffusion_utils.DiffusionSchedule.name = 'cosine'

# Parameters for network.T5Config:
# ==============================================================================
network.T5Config.context_positions = 'terminal_relative'
network.T5Config.decoder_cross_attend_style = 'concat_encodings'
network.T5Config.dropout_rate = 0.1
network.T5Config.dtype = 'float32'
{sizes}
network.T5Config.mlp_activations = ('gelu', 'linear')
network.T5Config.position_encoding = 'fixed_permuted_offset'
network.T5Config.vocab_size = @vocabularies.num_embeddings()

# Parameters for train/utils.DatasetConfig:
# ==============================================================================
train/utils.DatasetConfig.batch_size = %BATCH_SIZE
train/utils.DatasetConfig.task_feature_lengths = %TASK_FEATURE_LENGTHS

# Parameters for vocabularies.VocabularyConfig:
# ==============================================================================
vocabularies.VocabularyConfig.num_velocity_bins = %NUM_VELOCITY_BINS
"""


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Values that differ from name to name, of few bits that compress well."""
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  return (rng.integers(-8, 8, shape) / 16).astype(np.float32)


def draw_parameters(network: models.NetworkConfig) -> dict:
  """Parameters of a network, under nested names."""
  model = models.DiffusionModel(network=network)
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  return {
    name: draw(name, leaf.shape)
    for name, leaf in traverse_util.flatten_dict(shapes, sep="/").items()
  }


def write_checkpoint(path: Path, parameters: dict[str, np.ndarray]) -> None:
  """Saves a training state of the parameters by t5x, in the published form."""
  names = {
    f"{name}_axes": axes.AxisMetadata(names=("embed", "mlp")[: array.ndim])
    for name, array in parameters.items()
  }
  state = train_state.FlaxOptimTrainState.create(
    adafactor.Adafactor(
      logical_factor_rules=adafactor.standard_logical_factor_rules()
    ),
    flax.core.freeze(
      {
        "params": traverse_util.unflatten_dict(parameters, sep="/"),
        "params_axes": traverse_util.unflatten_dict(names, sep="/"),
      }
    ),
  )
  checkpoints.Checkpointer(
    state.replace_step(np.int32(STEP)),
    partitioning.PjitPartitioner(num_partitions=1),
    str(path),
  ).save(state.replace_step(np.int32(STEP)))


def describe(network: models.NetworkConfig) -> str:
  """The config.gin of a network."""
  names = ["emb_dim", "head_dim", "mlp_dim", "num_heads"]
  names += ["num_encoder_layers", "num_decoder_layers"]
  sizes = [f"network.T5Config.{n} = {getattr(network, n)}" for n in names]
  lengths = {"inputs": network.max_tokens, "targets": network.segment_frames}
  if network.has_context:
    lengths["targets_context"] = network.segment_frames
  return CONFIG.format(
    kind="ContextDiffusionModel" if network.has_context else "DiffusionModel",
    lengths=lengths,
    sizes="\n".join(sizes),
  )


def main() -> None:
  path = Path("tests/data/t5x_tiny")
  shutil.rmtree(path, ignore_errors=True)
  path.mkdir(parents=True)
  (path / "config.gin").write_text(describe(NETWORK))
  write_checkpoint(path.absolute(), draw_parameters(NETWORK))
  # What the optimizer remembers, which no reader of parameters needs.
  for folder in path.glob("checkpoint_*/state.*"):
    shutil.rmtree(folder)


if __name__ == "__main__":
  main()
