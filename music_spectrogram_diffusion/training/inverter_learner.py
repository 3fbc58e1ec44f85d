"""Training an inverter: a generator alone, or against discriminators."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any, Protocol, runtime_checkable

from flax import struct
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray
import optax

from music_spectrogram_diffusion import audio, inverter
from music_spectrogram_diffusion.training import learners
from music_spectrogram_diffusion.training import step as steps

Batch = learners.Batch
Metrics = learners.Metrics
Reconstruction = Callable[..., Float[Array, ""]]

AUDIO = "audio"
LOG_MEL = "log_mel"

_MIN_FRAMES = 8
"""Fewest frames of a clip that are compared, apart from their neighbours."""


@runtime_checkable
class TrainableGenerator(inverter.Generator, Protocol):
  """A generator, and how it is trained."""

  spectrogram: audio.SpectrogramConfig

  def init(self, key: PRNGKeyArray) -> dict[str, Any]:
    """Draws parameters."""

  def training_output(
    self,
    parameters: Any,
    log_mel: Float[Array, "batch frames mel_bins"],
    samples: Float[Array, "batch samples"],
    key: PRNGKeyArray,
  ) -> tuple[Float[Array, "batch inner_samples"], Metrics]:
    """Samples of the frames between their neighbours, and further losses."""


@struct.dataclass
class InverterState:
  """Everything that a run goes on from; without discriminators, theirs is None.

  Attributes:
    step: Number of updates made.
    parameters: The generator's.
    average: Exponential moving average of them.
    optimizer: State of the generator's optimizer.
    discriminators: Parameters of the discriminators.
    discriminator_optimizer: State of their optimizer.
  """

  # Of any type: the same tree holds shapes or shardings, too.
  step: Any
  parameters: Any
  average: Any
  optimizer: Any
  discriminators: Any
  discriminator_optimizer: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class InverterLearner:
  """Trains a generator of waveforms.

  A batch has `audio` [batch, samples], a whole number of hops; or with it
  `log_mel` [batch, frames, mel_bins] of all frames but the last, where these
  are not the audio's own: what a synthesiser made for it. At both ends lie the
  neighbours that the generator sees, which are not compared.

  Attributes:
    generator: What is trained.
    optimizer: Turns its gradients into updates.
    reconstruction: Distance of real and generated samples: a function of both
      and of the `SpectrogramConfig`.
    discriminators: What it is trained against; None for reconstruction alone.
    discriminator_optimizer: Turns their gradients into updates.
    weights: How losses are added up.
    auxiliary_weight: Weight of the generator's further losses.
    ema_decay: Weight of the old average of the parameters.
  """

  generator: TrainableGenerator
  optimizer: optax.GradientTransformation
  reconstruction: Reconstruction = inverter.spectral_reconstruction_loss
  discriminators: inverter.Discriminators | None = None
  discriminator_optimizer: optax.GradientTransformation | None = None
  weights: inverter.LossWeights = inverter.LossWeights()
  auxiliary_weight: float = 1.0
  ema_decay: float = 0.999

  def __post_init__(self):
    alone = self.discriminators is None
    if alone != (self.discriminator_optimizer is None):
      raise ValueError(
        "Expected discriminators and a discriminator_optimizer, or neither."
      )

  def describe(self) -> dict[str, Any]:
    """The generator, as `inverter.to_config` writes it."""
    return inverter.to_config(self.generator)

  def initial_state(self, key: PRNGKeyArray) -> InverterState:
    """Draws all parameters, and the optimizers' states for them."""
    generator_key, discriminator_key = jax.random.split(key)
    parameters = self.generator.init(generator_key)
    judges = None
    if self.discriminators is not None:
      clip = jnp.zeros((1, self.generator.spectrogram.sample_rate))
      judges = self.discriminators.init(discriminator_key, clip)["params"]
    return self.state_of(parameters, judges)

  def state_of(
    self,
    parameters: Mapping[str, Any],
    discriminators: Mapping[str, Any] | None,
  ) -> InverterState:
    """The state before the first step, with optimizers' states of zero steps.

    Args:
      parameters: The generator's; its average starts as they are.
      discriminators: Theirs; None where the generator trains alone.
    """
    judges_optimizer = None
    if discriminators is not None:
      judges_optimizer = self.discriminator_optimizer.init(discriminators)
    return InverterState(
      step=jnp.zeros((), jnp.int32),
      parameters=parameters,
      average=jax.tree.map(jnp.copy, parameters),
      optimizer=self.optimizer.init(parameters),
      discriminators=discriminators,
      discriminator_optimizer=judges_optimizer,
    )

  def start_from(
    self, state: InverterState, parameters: Mapping[str, Any]
  ) -> InverterState:
    """Both the generator and its average start as `parameters`."""
    return state.replace(
      parameters=parameters, average=jax.tree.map(jnp.copy, parameters)
    )

  def step(
    self, state: InverterState, batch: Batch, key: PRNGKeyArray
  ) -> tuple[InverterState, Metrics]:
    """One update of the generator, and then one of the discriminators.

    Both see the same generated audio: the discriminators' update does not
    generate again.
    """
    log_mel, samples, real = self._clips(batch)
    step_key = jax.random.fold_in(key, state.step)
    (loss, (generated, metrics)), gradients = jax.value_and_grad(
      self._generator_loss, has_aux=True
    )(state.parameters, state.discriminators, log_mel, samples, real, step_key)
    metrics |= {
      "loss": loss,
      "gradient_norm": optax.tree.norm(gradients),
      "parameter_norm": optax.tree.norm(state.parameters),
    }
    parameters, optimizer = _update(
      self.optimizer, gradients, state.optimizer, state.parameters
    )
    rate = steps.ema_rate(state.step, self.ema_decay)
    average = jax.tree.map(
      lambda old, new: old + (1.0 - rate) * (new - old),
      state.average,
      parameters,
    )
    judges, judges_optimizer = (
      state.discriminators,
      state.discriminator_optimizer,
    )
    if self.discriminators is not None:
      judges_loss, gradients = jax.value_and_grad(self._discriminator_loss)(
        judges, real, jax.lax.stop_gradient(generated)
      )
      metrics |= {
        "discriminator_loss": judges_loss,
        "discriminator_gradient_norm": optax.tree.norm(gradients),
      }
      judges, judges_optimizer = _update(
        self.discriminator_optimizer, gradients, judges_optimizer, judges
      )
    state = InverterState(
      step=state.step + 1,
      parameters=parameters,
      average=average,
      optimizer=optimizer,
      discriminators=judges,
      discriminator_optimizer=judges_optimizer,
    )
    return state, metrics

  def evaluate(
    self, state: InverterState, batch: Batch, key: PRNGKeyArray
  ) -> Metrics:
    """Distances of the averaged generator's audio to the real one."""
    log_mel, samples, real = self._clips(batch)
    generated, auxiliary = self.generator.training_output(
      state.average, log_mel, samples, key
    )
    config = self.generator.spectrogram
    loss = self.reconstruction(real, generated, config)
    difference = audio.log_mel(generated, config) - audio.log_mel(real, config)
    return auxiliary | {
      "loss": loss,
      "stft_distance": inverter.stft_distance(real, generated, config).mean(),
      # The last frame reaches into zeros.
      "log_mel_distance": jnp.abs(difference[:, :-1]).mean(),
    }

  def check_batch(self, batch: Batch) -> None:
    """Finds out whether clips are long enough, and of what shape.

    Raises:
      ValueError: The audio is missing or too short, or the log-mel is not of
        its frames.
    """
    config = self.generator.spectrogram
    if AUDIO not in batch:
      raise ValueError(
        f"Expected batches with {AUDIO} [batch, samples], to train an inverter;"
        f" got {', '.join(sorted(batch))}."
      )
    shape = tuple(batch[AUDIO].shape)
    hop = config.hop_length
    num_frames = sum(self.generator.receptive_frames) + _MIN_FRAMES
    if len(shape) != 2 or shape[1] % hop or shape[1] // hop <= num_frames:
      raise ValueError(
        f"Expected {AUDIO} [batch, samples] of a multiple of {hop} samples,"
        f" more than {num_frames} times as many: {num_frames - _MIN_FRAMES} of"
        " these frames are what the generator sees around a clip. Got"
        f" {list(shape)}; raise CLIP_FRAMES."
      )
    wanted = (shape[0], shape[1] // hop - 1, config.n_mels)
    if LOG_MEL in batch and tuple(batch[LOG_MEL].shape) != wanted:
      raise ValueError(
        f"Expected {LOG_MEL} {list(wanted)} with {AUDIO} {list(shape)}: a frame"
        f" for each hop but the last; got {list(batch[LOG_MEL].shape)}."
      )

  def _clips(self, batch):
    """The log-mel to invert, the audio, and the part of it to be made."""
    config = self.generator.spectrogram
    samples = jnp.asarray(batch[AUDIO], jnp.float32)
    # The last frame reaches beyond the clip.
    log_mel = batch.get(LOG_MEL)
    if log_mel is None:
      log_mel = audio.log_mel(samples, config)[:, :-1]
    # As `inverter.check_log_mel` raises what a stream is given.
    log_mel = jnp.maximum(log_mel.astype(jnp.float32), config.mel_range[0])
    before, after = self.generator.receptive_frames
    last = log_mel.shape[1] - after
    real = samples[:, before * config.hop_length : last * config.hop_length]
    return log_mel, samples, real

  def _generator_loss(self, parameters, judges, log_mel, samples, real, key):
    generated, auxiliary = self.generator.training_output(
      parameters, log_mel, samples, key
    )
    config, weights = self.generator.spectrogram, self.weights
    distance = self.reconstruction(real, generated, config)
    loss = weights.reconstruction * distance
    for value in auxiliary.values():
      loss += self.auxiliary_weight * value
    metrics = auxiliary | {"reconstruction": distance}
    if judges is not None:
      logits, features = self._judge(judges, generated)
      _, real_features = self._judge(judges, real)
      adversarial = inverter.adversarial_loss(logits)
      matching = inverter.feature_matching_loss(real_features, features)
      loss += weights.adversarial * adversarial
      loss += weights.feature_matching * matching
      metrics |= {"adversarial": adversarial, "feature_matching": matching}
    return loss, (generated, metrics)

  def _discriminator_loss(self, judges, real, generated):
    return inverter.discriminator_loss(
      self._judge(judges, real)[0], self._judge(judges, generated)[0]
    )

  def _judge(self, judges, samples):
    return self.discriminators.apply({"params": judges}, samples)


def _update(optimizer, gradients, state, parameters):
  """Parameters and optimizer's state after an update."""
  with jax.numpy_dtype_promotion("standard"):  # Optax counts on it.
    updates, state = optimizer.update(gradients, state, parameters)
  return optax.apply_updates(parameters, updates), state
