"""Watches a run by pictures and sounds: what the model makes of segments."""

from collections.abc import Mapping
import os
from pathlib import Path
from typing import Any

import jax
from jaxtyping import Float, UInt8
import numpy as np

from music_spectrogram_diffusion import audio, inverter
from music_spectrogram_diffusion.training import metrics as metrics_
from music_spectrogram_diffusion.training import summaries
from music_spectrogram_diffusion.training.run import Run

FOLDER = "renderings"
"""In the directory of a run."""


class Renderings:
  """Renders a few segments that are not trained on, beside the truth.

  `renderings/step_N.png` has their spectrograms, and `step_N_I.wav` what each
  sounds like; `truth_I.wav` is what the inverter makes of the true spectrogram.
  TensorBoard gets the same.

  Args:
    run: The run, of a model of the room `models`.
    every: Steps from one rendering to the next.
    num_segments: How many, from the first batch for evaluation.
    sampling: Settings of the model's `predict` in place of its own, whose 1000
      steps may take long; those that it does not have are left out.
    invert: Makes samples of a log-mel spectrogram; Griffin-Lim by default.
    seed: Seeds the noise; the same each time.
  """

  def __init__(
    self,
    run: Run,
    *,
    every: int = 10_000,
    num_segments: int = 3,
    sampling: Mapping[str, Any] | None = None,
    invert: inverter.Inverter | None = None,
    seed: int = 0,
  ):
    model = getattr(run.learner, "model", None)
    if not hasattr(model, "predict"):
      raise ValueError(
        "Expected a learner with a model that predicts spectrograms, to render"
        f" segments; got {type(run.learner).__name__}."
      )
    self.every = every
    self._run, self._model, self._num_segments = run, model, num_segments
    self._sampling = {
      name: value
      for name, value in (sampling or {}).items()
      if name in model.sampling_settings.keys() - {"overlap_frames"}
    }
    self._invert = invert or inverter.GriffinLim(model.spectrogram)
    self._key = jax.random.key(seed)
    self._log = summaries.Summaries(run.directory, FOLDER)
    self._predict = None

  def __call__(self, step: int, state: Any, metrics: Mapping[str, float]):
    """See `reporting.Watcher`."""
    del metrics
    batch = next(self._run.eval_batches(1), None)
    if batch is None:
      return
    if self._predict is None:
      self._predict = metrics_.jit_evaluation(
        self._render, self._run.partitioner, state
      )
    truth, rendered = map(np.asarray, self._predict(state, batch, self._key))
    if jax.process_index():
      return
    folder = Path(self._run.directory, FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    config = self._model.spectrogram
    picture = comparison(truth, rendered, config)
    _write_png(folder / f"step_{step}.png", picture)
    self._log.image(step, "spectrograms", picture)
    for i, (true, made) in enumerate(zip(truth, rendered, strict=True)):
      for name, frames, file in (
        ("truth", true, folder / f"truth_{i}.wav"),
        ("rendering", made, folder / f"step_{step}_{i}.wav"),
      ):
        samples = self._invert(frames)
        with audio.AudioWriter(
          file, config.sample_rate, overwrite=True
        ) as writer:
          writer.write(samples)
        self._log.audio(step, f"{name}_{i}", samples, config.sample_rate)

  def _render(self, state, batch, key):
    """The first segments' true and rendered log-mels; traced."""
    few = {name: value[: self._num_segments] for name, value in batch.items()}
    parameters = state.parameters if state.average is None else state.average
    rendered = self._model.predict(
      parameters,
      few["note_tokens"],
      few["context"],
      few["context_mask"],
      key,
      **self._sampling,
    )
    return few["targets"], rendered


def comparison(
  truth: Float[np.ndarray, "segments frames mel_bins"],
  rendered: Float[np.ndarray, "segments frames mel_bins"],
  config: audio.SpectrogramConfig,
) -> UInt8[np.ndarray, "height width 3"]:
  """A picture of log-mel spectrograms: the true ones above the rendered ones.

  Args:
    truth: What was to be rendered.
    rendered: What was.
    config: Their range, frame rate and so on.
  """
  from matplotlib import figure as mpl_figure
  from matplotlib.backends import backend_agg

  count = len(truth)
  figure = mpl_figure.Figure(
    figsize=(3.2 * count + 0.8, 5.0), dpi=100, layout="constrained"
  )
  canvas = backend_agg.FigureCanvasAgg(figure)
  axes = figure.subplots(2, count, squeeze=False, sharex=True, sharey=True)
  low, high = config.mel_range
  duration_s = truth.shape[1] * config.hop_length / config.sample_rate
  for row, (name, frames) in enumerate(
    (("truth", truth), ("rendered", rendered))
  ):
    for column in range(count):
      axes[row, column].imshow(
        frames[column].T,
        origin="lower",
        aspect="auto",
        vmin=low,
        vmax=high,
        cmap="magma",
        interpolation="nearest",
        extent=(0.0, duration_s, 0, config.n_mels),
      )
    axes[row, 0].set_ylabel(f"{name}, mel bin")
  for axis in axes[1]:
    axis.set_xlabel("time / s")
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _write_png(path: str | os.PathLike, picture: UInt8[np.ndarray, "h w 3"]):
  from matplotlib import image

  image.imsave(path, picture)
