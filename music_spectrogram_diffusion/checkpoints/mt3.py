"""Import of the checkpoint of MT3, the transcriber of Gardner et al. 2022.

It has the form of t5x's, without a config.gin in the released copy: the sizes
of the network are read from the shapes of its parameters, which are called as
our own are, but for the cross-attention.
"""

from collections.abc import Mapping
import os
from pathlib import Path
from typing import Any

from flax import traverse_util
import jax

from music_spectrogram_diffusion import models, notes
from music_spectrogram_diffusion.checkpoints import directory, gin_config, t5x

_OURS = "MultiHeadDotProductAttention_0"
_THEIRS = "encoder_decoder_attention"

# What all of MT3's networks have, and no shape tells.
_HEAD_DIM = 64
_LENGTHS = {"inputs": 256, "targets": 1024}  # Frames and tokens.


def load_mt3_checkpoint(
  path: str | os.PathLike,
) -> tuple[models.TranscriptionModel, dict[str, Any]]:
  """Reads the multi-instrument model of MT3.

  Args:
    path: The directory with the file `checkpoint`, or one with several
      directories `checkpoint_STEP`, of which the last is read. Where a
      config.gin lies in it or above, that says the size of a head and the
      lengths of segments.

  Returns:
    The model, and its parameters under nested names.

  Raises:
    CheckpointError: A file is missing or damaged, or parameters are not those
      of such a model.
  """
  path = t5x.find_step(Path(path).absolute())
  stored = t5x.open_arrays(path)
  model = _model(stored, path)
  shapes = traverse_util.flatten_dict(
    jax.eval_shape(model.init, jax.random.key(0)), sep="/"
  )
  names = {name.replace(f"/{_OURS}/", f"/{_THEIRS}/"): name for name in shapes}
  directory.check_parameters(
    {published: shapes[name] for published, name in names.items()}, stored, path
  )
  parameters = {
    names[published]: array
    for published, array in t5x.read_arrays(stored, path).items()
  }
  return model, traverse_util.unflatten_dict(parameters, sep="/")


def _model(stored: Mapping[str, Any], path: Path) -> models.TranscriptionModel:
  """The model whose parameters have these shapes."""

  def matrix(name):
    shape = stored[name].shape if name in stored else None
    if shape is None or len(shape) != 2:
      found = "none" if shape is None else f"one of shape {list(shape)}"
      raise directory.CheckpointError(
        f"Expected a matrix {name}, as MT3 has it, in {path}, found {found}."
      )
    return shape

  def num_layers(stack):
    count = 0
    while f"{stack}/layers_{count}/mlp/wo/kernel" in stored:
      count += 1
    return count

  n_mels, emb_dim = matrix("encoder/continuous_inputs_projection/kernel")
  rows, _ = matrix("decoder/token_embedder/embedding")
  _, heads_dim = matrix("encoder/layers_0/attention/query/kernel")
  _, mlp_dim = matrix("encoder/layers_0/mlp/wi_0/kernel")
  vocabulary = notes.Vocabulary()
  spectrogram = models.TranscriptionModel.spectrogram
  for name, expected, found in (
    ("tokens", vocabulary.table_rows, rows),
    ("mel bins", spectrogram.n_mels, n_mels),
  ):
    if found != expected:
      raise directory.CheckpointError(
        f"Expected MT3's {expected} {name} in {path}, got {found}; models of"
        " another vocabulary, such as the piano model of 2021, are not"
        " imported."
      )
  head_dim, lengths = _settings(path)
  if heads_dim % head_dim:
    raise directory.CheckpointError(
      f"Expected heads of {head_dim} channels in {path}, got {heads_dim}"
      " channels in all."
    )
  return models.TranscriptionModel(
    network=models.NetworkConfig(
      emb_dim=emb_dim,
      num_heads=heads_dim // head_dim,
      head_dim=head_dim,
      mlp_dim=mlp_dim,
      num_encoder_layers=num_layers("encoder"),
      num_context_layers=0,
      num_decoder_layers=num_layers("decoder"),
      segment_frames=lengths["inputs"],
      max_tokens=lengths["targets"],
    )
  )


def _settings(path: Path) -> tuple[int, dict[str, int]]:
  """The size of a head, and the lengths of a segment and its tokens."""
  beside = [folder / t5x.CONFIG for folder in (path, path.parent)]
  config = next((file for file in beside if file.is_file()), None)
  if config is None:
    return _HEAD_DIM, _LENGTHS
  bindings = gin_config.Bindings(config)
  head_dim = bindings.get("T5Config.head_dim", _HEAD_DIM)
  lengths = bindings.get("TASK_FEATURE_LENGTHS", _LENGTHS)
  sizes = [head_dim]
  if isinstance(lengths, dict):
    sizes += [lengths.get(name) for name in _LENGTHS]
  if len(sizes) < 3 or any(type(n) is not int or n < 1 for n in sizes):
    raise directory.CheckpointError(
      f"Expected T5Config.head_dim and TASK_FEATURE_LENGTHS in {config} to be a"
      " size, and sizes of inputs and targets, got"
      f" {head_dim!r:.50} and {lengths!r:.100}."
    )
  return head_dim, lengths
