"""A diffusion model: network, objective of training, and prediction."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int, PRNGKeyArray
import numpy as np

from music_spectrogram_diffusion import audio, diffusion, notes
from music_spectrogram_diffusion.models import (
  network,
  objectives,
  precision,
  sampling_network,
)
from music_spectrogram_diffusion.models.configs import (
  NetworkConfig,
  SamplingConfig,
)

Parameters = dict[str, Any]
Batch = dict[str, Array | np.ndarray]

SAMPLERS: dict[str, Callable] = {
  "ddpm": diffusion.samplers.ddpm_step,
  "ddim": diffusion.samplers.ddim_step,
  "dpm": diffusion.samplers.dpm_solver_step,
  "sde-dpm": diffusion.samplers.sde_dpm_solver_step,
}

SPACINGS: dict[str, diffusion.spacings.Spacing] = {
  "time": diffusion.spacings.uniform_time,
  "logsnr": diffusion.spacings.uniform_logsnr,
  "karras": diffusion.spacings.karras,
}


class _Step(NamedTuple):
  """What tells the programs of denoising steps apart.

  Attributes:
    guided: Whether a prediction without condition is needed.
    exact: Whether products are in full float32 whatever the network's dtype.
  """

  guided: bool
  exact: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionModel:
  """Note tokens and context in, a log-mel spectrogram out.

  Parameters are a nested dict, apart from the model, as in Flax.

  Attributes:
    network: Size and options of the network.
    vocabulary: What note tokens mean.
    spectrogram: Features that are generated.
    schedule: Noise level over time.
    parameterization: What the network's output means.
    sampling: How it is sampled by default.
  """

  network: NetworkConfig
  vocabulary: notes.Vocabulary = notes.Vocabulary()
  spectrogram: audio.SpectrogramConfig = audio.SpectrogramConfig()
  schedule: diffusion.schedules.Schedule = diffusion.schedules.CosineSchedule()
  parameterization: diffusion.parameterization.Parameterization = (
    diffusion.parameterization.Eps()
  )
  sampling: SamplingConfig = SamplingConfig()

  @property
  def sampling_settings(self) -> dict[str, Any]:
    """Settings of `sampling_plan`, with their defaults.

    `predict` takes all but the overlap, which concerns whole songs.
    """
    return dataclasses.asdict(self.sampling)

  @functools.cached_property
  def module(self) -> network.Network:
    """The Flax module that parameters belong to."""
    return network.Network(
      self.network, self.vocabulary, self.parameterization.num_outputs
    )

  def init(self, key: PRNGKeyArray) -> Parameters:
    """Draws parameters; wrap it in `jax.eval_shape` for their shapes alone."""
    return network.draw_parameters(self.module, key, self.spectrogram.n_mels)

  def encode(
    self,
    parameters: Parameters,
    note_tokens: Int[Array, "batch tokens"],
    context: Float[Array, "batch frames mel_bins"],
    context_mask: Bool[Array, "batch frames"],
    **options: Any,
  ) -> network.Conditioning:
    """Encodes notes and a log-mel context: see `Network.encode`."""
    scaled = audio.scale_log_mel(context, self.spectrogram, clip=True)
    return self.module.apply(
      {"params": parameters},
      note_tokens,
      scaled,
      context_mask,
      method="encode",
      **options,
    )

  def output(
    self,
    parameters: Parameters,
    z_t: Float[Array, "batch frames mel_bins"],
    time: Float[Array, " batch"],
    conditioning: network.Conditioning,
    **options: Any,
  ) -> Float[Array, "batch frames outputs"]:
    """What the network says of `z_t`, to be read by the parameterization."""
    inputs = self.parameterization.network_input(
      z_t, self.schedule.logsnr(time)
    )
    return self.module.apply(
      {"params": parameters},
      inputs,
      time,
      conditioning,
      method="decode",
      **options,
    )

  def denoise(
    self,
    parameters: Parameters,
    z_t: Float[Array, "batch frames mel_bins"],
    time: Float[Array, " batch"],
    conditioning: network.Conditioning,
    guidance_weight: float = 1.0,
  ) -> Float[Array, "batch frames mel_bins"]:
    """Predicts the clean spectrogram, on the model's scale.

    Guidance combines predictions of x0, which at a given `z_t` is the same as
    combining those of eps. With a weight of 1 the unconditional one is not
    computed.
    """
    if guidance_weight == 1.0:
      output = self.output(parameters, z_t, time, conditioning)
    else:
      both = conditioning.concatenate(conditioning.unconditional())
      output = self.output(
        parameters, jnp.tile(z_t, (2, 1, 1)), jnp.tile(time, 2), both
      )
    return self._guided(output, z_t, time, guidance_weight)

  def _guided(self, output, z_t, time, guidance_weight):
    """x0 of outputs: with condition, then without if they are twice as many."""
    logsnr = self.schedule.logsnr(time)
    conditional, *unconditional = (
      self.parameterization.predict(part, z_t, logsnr)[0]
      for part in jnp.split(output, len(output) // len(z_t))
    )
    if not unconditional:
      return conditional
    return diffusion.guidance.guided(
      conditional, *unconditional, guidance_weight
    )

  def sampling_plan(
    self, **given: Any
  ) -> tuple[SamplingConfig, Float32[np.ndarray, " levels"]]:
    """How one would sample: settings, and the grid of noise times.

    Args:
      **given: Fields of `SamplingConfig`; the model's own where None.

    Raises:
      ValueError: There is no such sampler, or a setting is out of range.
    """
    settings = dataclasses.replace(
      self.sampling, **{k: v for k, v in given.items() if v is not None}
    )
    for kind, name, known in (
      ("sampler", settings.sampler, SAMPLERS),
      ("spacing", settings.spacing, SPACINGS),
    ):
      if name not in known:
        raise ValueError(
          f"Expected a {kind} of {', '.join(known)}; got {name!r}."
        )
    most = self.network.segment_frames // 2
    if settings.overlap_frames > most:
      raise ValueError(
        f"Expected an overlap of 0 to {most} frames, half a segment; got"
        f" {settings.overlap_frames}."
      )
    times = SPACINGS[settings.spacing](
      self.schedule, settings.num_steps, settings.end_time
    )
    return settings, times

  def predict(
    self,
    parameters: Parameters,
    note_tokens: Int[Array | np.ndarray, "batch tokens"],
    context: Float[Array | np.ndarray, "batch frames mel_bins"],
    context_mask: Bool[Array | np.ndarray, "batch frames"],
    key: diffusion.samplers.Keys,
    *,
    num_steps: int | None = None,
    sampler: str | None = None,
    guidance_weight: float | None = None,
    end_time: float | None = None,
    spacing: str | None = None,
    guidance_interval: tuple[float, float] | None = None,
  ) -> Float[Array, "batch frames mel_bins"]:
    """Generates the spectrograms of a batch of segments.

    Args:
      parameters: The model's.
      note_tokens: Tokens of each segment, padded with 0.
      context: Log-mel spectrogram before each segment, valid frames first.
      context_mask: Which frames of it are valid.
      key: Seeds the noise; one key for all, or one for each segment, whose
        result does not depend then on its neighbours.
      num_steps: As in `SamplingConfig`, and its value where None; so are the
        following.
      sampler: Likewise.
      guidance_weight: Likewise.
      end_time: Likewise.
      spacing: Likewise.
      guidance_interval: Likewise.

    Returns:
      Log-mel spectrograms.

    Raises:
      ValueError: There is no such sampler, or a setting is out of range.
    """
    settings, times = self.sampling_plan(
      num_steps=num_steps,
      sampler=sampler,
      guidance_weight=guidance_weight,
      end_time=end_time,
      spacing=spacing,
      guidance_interval=guidance_interval,
    )
    weights = diffusion.guidance.weights_at(
      times[:-1], settings.guidance_weight, settings.guidance_interval
    )
    exact = precision.needs_float32(
      times[:-1],
      dtype=self.network.dtype,
      schedule=self.schedule,
      parameterization=self.parameterization,
      n_mels=self.spectrogram.n_mels,
    )
    steps = [
      _Step(guided=weight != 1.0, exact=bool(is_exact))
      for weight, is_exact in zip(weights, exact, strict=True)
    ]
    return self._sample(
      parameters,
      note_tokens,
      context,
      context_mask,
      key,
      times,
      np.asarray(weights, np.float32),
      sampler=settings.sampler,
      steps=tuple(steps),
    )

  @functools.partial(jax.jit, static_argnames=("self", "sampler", "steps"))
  def _sample(
    self,
    parameters,
    note_tokens,
    context,
    context_mask,
    key,
    times,
    weights,
    *,
    sampler,
    steps,
  ):
    """`predict`, whose plan is made: one program for all weights and times."""
    full = dataclasses.replace(self.network, dtype="float32")
    # Encoded once, so that low precision would gain nothing.
    conditioning = dataclasses.replace(self, network=full).encode(
      parameters, note_tokens, context, context_mask
    )
    decoder = parameters["decoder"]

    @functools.cache  # Steps of one kind share a function, and a loop.
    def denoise(step):
      config = full if step.exact else self.network
      given = jax.config.jax_default_matmul_precision
      rounding = "float32" if step.exact else given
      with jax.default_matmul_precision(rounding):
        prepared = sampling_network.prepare(config, decoder, conditioning)

      def denoise(z_t, time, row):
        films, weight = row
        inputs = self.parameterization.network_input(
          z_t, self.schedule.logsnr(time)
        )
        with jax.default_matmul_precision(rounding):
          output = sampling_network.decode(
            config, prepared, inputs, films, guided=step.guided
          )
        return self._guided(output, z_t, time, weight)

      return denoise

    scaled = diffusion.samplers.sample(
      [denoise(step) for step in steps],
      key,
      context.shape,
      schedule=self.schedule,
      times=times,
      step=SAMPLERS[sampler],
      per_step=(
        sampling_network.films(self.network, decoder, times[:-1]),
        weights,
      ),
    )
    return audio.unscale_log_mel(scaled, self.spectrogram)

  def loss(
    self,
    parameters: Parameters,
    batch: Batch,
    key: PRNGKeyArray,
    *,
    objective: objectives.Objective = objectives.PAPER,
    train: bool = True,
  ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Loss of a batch of the training contract, and what to watch.

    Args:
      parameters: The model's.
      batch: `note_tokens`, `context`, `context_mask`, `targets` and
        `targets_mask`; spectrograms are log-mel.
      key: Draws times, noise and what is dropped.
      objective: What is minimised.
      train: Whether dropout, of activations and of conditions, is on.

    Returns:
      The loss; and at low, medium and high noise the `loss` and `x0_error`, the
      mean distance |x0_hat - x0| on the model's scale. NaN where no valid frame
      has such a level.
    """
    keys = dict(
      zip(
        ("time", "noise", "condition", "context", "encode", "decode"),
        jax.random.split(key, 6),
        strict=True,
      )
    )
    note_tokens, context_mask = batch["note_tokens"], batch["context_mask"]
    if train:
      note_tokens, context_mask = objective.drop(
        note_tokens,
        context_mask,
        condition_key=keys["condition"],
        context_key=keys["context"],
      )
    conditioning = self.encode(
      parameters,
      note_tokens,
      batch["context"],
      context_mask,
      deterministic=not train,
      rngs={"dropout": keys["encode"]},
    ).repeat(objective.noise_draws)
    x0 = jnp.repeat(
      audio.scale_log_mel(batch["targets"], self.spectrogram, clip=True),
      objective.noise_draws,
      axis=0,
    )
    mask = jnp.repeat(batch["targets_mask"], objective.noise_draws, axis=0)
    time = objective.times(keys["time"], x0.shape[0])
    eps = jax.random.normal(keys["noise"], x0.shape)
    z_t, logsnr = diffusion.losses.noised(x0, time, eps, self.schedule)
    output = self.output(
      parameters,
      z_t,
      time,
      conditioning,
      deterministic=not train,
      rngs={"dropout": keys["decode"]},
    )
    values = objective.loss(self.parameterization, output, x0, eps, z_t, logsnr)
    x0_hat, _ = self.parameterization.predict(output, z_t, logsnr)
    error = jnp.abs(jnp.clip(x0_hat, -1.0, 1.0) - x0)
    metrics = {
      f"{kind}/{level}": mean
      for kind, distance in (("loss", values), ("x0_error", error))
      for level, mean in objectives.by_noise_level(distance, mask, time).items()
    }
    return diffusion.losses.masked_mean(values, mask), metrics
