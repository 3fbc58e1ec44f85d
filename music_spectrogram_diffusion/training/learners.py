"""What a run trains: something with a state, a step and a description."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray
import optax

from music_spectrogram_diffusion import models
from music_spectrogram_diffusion.training import step as steps

Batch = Mapping[str, Any]
"""Arrays, or where only these matter their shapes."""
Metrics = dict[str, Float[Array, ""]]
State = Any
"""A pytree with an int32 scalar `step`, and the weights to use in `average`."""


@runtime_checkable
class Learner(Protocol):
  """What `run.train_model` is given to train: a synthesiser, an inverter."""

  def describe(self) -> dict[str, Any]:
    """What is trained, as JSON values: `model.json` of the run's directory.

    It has a `type`, by which `spec-diff convert run` knows what to write.
    """

  def initial_state(self, key: PRNGKeyArray) -> State:
    """The state before the first step; it is traced."""

  def start_from(self, state: State, parameters: Mapping[str, Any]) -> State:
    """The initial state with the weights of another run in place of its own.

    Args:
      state: The initial state.
      parameters: Weights of the names and shapes of `state.average`.
    """

  def step(
    self, state: State, batch: Batch, key: PRNGKeyArray
  ) -> tuple[State, Metrics]:
    """Makes one update; it is traced.

    Args:
      state: The state before.
      batch: Arrays.
      key: Key of the run, from which each step derives its own.
    """

  def evaluate(self, state: State, batch: Batch, key: PRNGKeyArray) -> Metrics:
    """The metrics of a batch that is not trained on; it is traced."""

  def check_batch(self, batch: Batch) -> None:
    """Raises ValueError where a batch is not what is trained on."""


def fresh_parameters(
  key: PRNGKeyArray, model: "models.DiffusionModel | models.AutoregressiveModel"
) -> dict[str, Any]:
  """Draws a model's parameters as its modules say."""
  return model.init(key)


def fit_lengths(
  network: models.NetworkConfig,
  lengths: Mapping[str, int],
  max_tokens: int | None = None,
) -> models.NetworkConfig:
  """A network for features of these lengths.

  Args:
    network: Its other sizes.
    lengths: In t5x's names: note tokens as `inputs`, frames of a segment as
      `targets` and, where the network has context, as `targets_context`.
    max_tokens: Most tokens of a segment to be played, where they may be more
      than in training; None for as many.

  Raises:
    ValueError: A length is missing, unknown or does not fit another.
  """
  known = ["inputs", "targets"] + ["targets_context"] * network.has_context
  if (
    set(lengths) - {*known, "targets_context"}
    or not set(known) <= set(lengths)
    or not all(type(value) is int and value > 0 for value in lengths.values())
  ):
    raise ValueError(
      f"Expected TASK_FEATURE_LENGTHS of {', '.join(known)}, each a positive"
      f" integer; got {dict(lengths)}."
    )
  if network.has_context and lengths["targets_context"] != lengths["targets"]:
    raise ValueError(
      "Expected as many frames of targets_context as of targets in"
      f" TASK_FEATURE_LENGTHS, since a segment is the context of the next; got"
      f" {dict(lengths)}."
    )
  return dataclasses.replace(
    network,
    max_tokens=max_tokens or lengths["inputs"],
    segment_frames=lengths["targets"],
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelLearner:
  """Trains a model of the room `models`.

  Attributes:
    model: What is trained.
    optimizer: Turns gradients into updates.
    loss_options: Keyword arguments of the model's `loss`, such as `objective`.
    initialize: Function of a key and the model; draws its parameters.
    ema_decay: Weight of the old average of the parameters.
    micro_batches: Parts that a batch is cut into, to save memory.
  """

  model: models.DiffusionModel | models.AutoregressiveModel
  optimizer: optax.GradientTransformation
  loss_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  initialize: Callable[..., dict[str, Any]] = fresh_parameters
  ema_decay: float = 0.999
  micro_batches: int = 1

  def describe(self) -> dict[str, Any]:
    """The model, as `models.to_config` writes it."""
    return models.to_config(self.model)

  def initial_state(self, key: PRNGKeyArray) -> steps.TrainState:
    """Draws parameters, and the optimizer's state for them."""
    return steps.TrainState.create(
      self.initialize(key, self.model), self.optimizer
    )

  def start_from(
    self, state: steps.TrainState, parameters: Mapping[str, Any]
  ) -> steps.TrainState:
    """Both the parameters and their average start as `parameters`."""
    return state.replace(
      parameters=parameters, average=jax.tree.map(jnp.copy, parameters)
    )

  def loss(
    self, parameters: dict[str, Any], batch: Batch, key: PRNGKeyArray
  ) -> tuple[Float[Array, ""], Metrics]:
    """The loss of a batch in training, and what to watch."""
    return self.model.loss(parameters, batch, key, **self.loss_options)

  def step(
    self, state: steps.TrainState, batch: Batch, key: PRNGKeyArray
  ) -> tuple[steps.TrainState, Metrics]:
    """One update by the gradient of the loss."""
    return steps.train_step(
      state,
      batch,
      key,
      loss=self.loss,
      optimizer=self.optimizer,
      ema_decay=self.ema_decay,
      micro_batches=self.micro_batches,
    )

  def evaluate(
    self, state: steps.TrainState, batch: Batch, key: PRNGKeyArray
  ) -> Metrics:
    """The loss without dropout, of the averaged parameters."""
    value, metrics = self.model.loss(
      state.average, batch, key, train=False, **self.loss_options
    )
    return metrics | {"loss": value}

  def check_batch(self, batch: Batch) -> None:
    """See `check_batch` of this module."""
    check_batch(self.model, batch)


def check_batch(
  model: models.DiffusionModel | models.AutoregressiveModel, batch: Batch
) -> None:
  """Compares a batch's shapes with a network's.

  Args:
    model: What is trained.
    batch: Arrays of the training contract, or their shapes.

  Raises:
    ValueError: An array is missing, or of another length than the network's;
      the tokens may be fewer.
  """
  network = model.network
  frames = (network.segment_frames,)
  mels = (*frames, model.spectrogram.n_mels)
  expected = {
    "note_tokens": (network.max_tokens,),
    "context": mels,
    "context_mask": frames,
    "targets": mels,
    "targets_mask": frames,
  }
  for name, shape in expected.items():
    if name not in batch:
      raise ValueError(
        f"Expected batches of {', '.join(expected)}; {name} is missing."
      )
    found = tuple(batch[name].shape[1:])
    fits = found == shape
    if name == "note_tokens":
      fits = len(found) == 1 and found <= shape
    if not fits:
      raise ValueError(
        f"Expected {name} of [batch, {', '.join(map(str, shape))}], as the"
        f" network is; the data has [batch, {', '.join(map(str, found))}]. Let"
        " TASK_FEATURE_LENGTHS be the same for both."
      )
