import dataclasses
import types

import numpy as np
import pytest

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.training import renderings

pytestmark = pytest.mark.usefixtures("without_tensorboard")


@dataclasses.dataclass(frozen=True)
class Mean:
  """An inverter that plays each frame's mean."""

  config: audio.SpectrogramConfig

  def __call__(self, log_mel, played=None):
    hop = self.config.hop_length
    return np.repeat(log_mel.mean(axis=1) / 20, hop).astype(np.float32)

  def stream(self, chunks, played=None):
    yield from map(self, chunks)


def test_segments_are_rendered_beside_the_truth(tmp_path, watched):
  run = watched.make_run(tmp_path)
  config = watched.model.spectrogram
  watcher = renderings.Renderings(
    run,
    every=7,
    num_segments=2,
    sampling={"num_steps": 3, "warp": 9},
    invert=Mean(config),
  )
  assert watcher.every == 7
  watcher(7, watched.state, {})
  watcher(14, watched.state, {})
  folder = tmp_path / "renderings"
  assert sorted(path.name for path in folder.iterdir()) == [
    "step_14.png",
    "step_14_0.wav",
    "step_14_1.wav",
    "step_7.png",
    "step_7_0.wav",
    "step_7_1.wav",
    "truth_0.wav",
    "truth_1.wav",
  ]
  (batch,) = run.eval_batches(1)
  expected = Mean(config)(np.asarray(batch["targets"][1]))
  truth = audio.read_audio(folder / "truth_1.wav", config.sample_rate)
  np.testing.assert_allclose(truth, expected, atol=1e-4)
  # The same noise each time: renderings differ as the model does.
  first, again = (
    audio.read_audio(folder / f"step_{step}_0.wav", config.sample_rate)
    for step in (7, 14)
  )
  np.testing.assert_array_equal(first, again)


def test_what_predicts_no_spectrogram_cannot_be_watched(tmp_path, watched):
  inverter = types.SimpleNamespace()
  learner = dataclasses.replace(watched.learner)
  object.__setattr__(learner, "model", inverter)
  run = watched.make_run(tmp_path, learner=learner)
  with pytest.raises(ValueError, match="predicts spectrograms.*Learner"):
    renderings.Renderings(run)


def test_the_picture_has_truth_above_and_rendering_below():
  config = audio.SpectrogramConfig()
  low, high = config.mel_range
  loud = np.full((2, 16, config.n_mels), high, np.float32)
  picture = renderings.comparison(loud, np.full_like(loud, low), config)
  height, width, _ = picture.shape
  # The brightest and the darkest colour of the map, in each half.
  column = picture[:, width // 3].mean(axis=-1)
  assert column[height // 4] > 180 > 40 > column[5 * height // 8]
