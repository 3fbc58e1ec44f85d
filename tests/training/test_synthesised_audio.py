"""Audio beside what a synthesiser makes of it."""

import jax
import numpy as np

from music_spectrogram_diffusion import audio, data, models, notes
from music_spectrogram_diffusion.training import synthesised_audio

CONFIG = audio.SpectrogramConfig(n_mels=8)
MODEL = models.DiffusionModel(
  network=models.paper_network("tiny", segment_frames=16, max_tokens=64),
  spectrogram=CONFIG,
  sampling=models.SamplingConfig(sampler="ddim", num_steps=1),
)
PIECE = notes.Notes.from_columns([0.0], [2.0], [60], [90])


class Windows:
  """An endless source of windows of one piece, as `data.LiveWindows` is one."""

  def __init__(self):
    self.number = 0

  def __next__(self):
    cutter = data.AudioWindowCutter(
      vocabulary=MODEL.vocabulary,
      config=CONFIG,
      max_tokens=64,
      segment_frames=16,
    )
    time = np.arange(3 * 16000) / 16000
    samples = np.float32(np.sin(2 * np.pi * 262 * time))
    rng = np.random.default_rng(self.number)
    [window, *_] = cutter.cut_piece(rng, PIECE, samples, 1)
    self.number += 1
    return {name: value[None] for name, value in window.items()}

  def get_state(self):
    return b"%d" % self.number

  def set_state(self, state):
    self.number = int(state)

  def close(self):
    pass


def batches():
  parameters = MODEL.init(jax.random.key(0))
  return synthesised_audio.SynthesisedBatches(Windows(), MODEL, parameters)


def test_audio_of_a_window_is_that_of_its_targets():
  batch = next(Windows())
  assert batch["audio"].shape == (1, 17 * 320)
  own = audio.log_mel(batch["audio"], CONFIG)[:, :16]
  valid = batch["targets_mask"]
  np.testing.assert_allclose(own[valid], batch["targets"][valid], atol=1e-4)


def test_the_model_says_the_log_mel_of_as_many_frames():
  batch = next(batches())
  assert batch["audio"].shape == (1, 17 * 320)
  assert batch["log_mel"].shape == (1, 16, 8)
  own = audio.log_mel(batch["audio"], CONFIG)[:, :16]
  assert np.abs(batch["log_mel"] - own).mean() > 0.1  # Nothing was learned.


def test_a_run_that_goes_on_gets_the_same_batches():
  whole = batches()
  expected = [next(whole) for _ in range(3)]
  first = batches()
  next(first)
  again = batches()
  again.set_state(first.get_state())
  for batch in expected[1:]:
    found = next(again)
    for name, values in batch.items():
      np.testing.assert_array_equal(found[name], values)
