"""Facts about `evaluation.embeddings`."""

import numpy as np
import pytest

from music_spectrogram_diffusion import audio
from music_spectrogram_diffusion.evaluation import embeddings


def test_the_default_needs_nothing_but_its_name():
  embed = embeddings.find_embedding("log-mel-statistics")
  assert isinstance(embed, embeddings.Embedding)
  assert embed(np.zeros(40_000, np.float32)).shape == (2, 128)


def test_an_embedding_knows_the_rate_of_the_audio():
  config = audio.SpectrogramConfig(sample_rate=32_000, hop_length=640)
  embed = embeddings.find_embedding("log-mel-statistics", config)
  assert len(embed(np.zeros(64_000, np.float32))) == 2


@pytest.mark.parametrize("spec", ["clip", "", "=vggish", "VGGish=there"])
def test_what_is_no_embedding_is_answered_by_those_that_are(spec):
  with pytest.raises(ValueError, match="log-mel-statistics, vggish, trill, cl"):
    embeddings.find_embedding(spec)


@pytest.mark.parametrize(
  "spec, source",
  [
    ("vggish=nowhere", "https://tfhub.dev/google/vggish/1"),
    ("trill", "https://tfhub.dev/google/nonsemantic-speech-benchmark/trill/3"),
    ("clap=nowhere.onnx", "https://huggingface.co/Xenova/clap-htsat-unfused"),
    ("clap", "https://huggingface.co/Xenova/clap-htsat-unfused"),
  ],
)
def test_an_embedding_that_is_not_there_says_where_to_get_it(spec, source):
  with pytest.raises(ValueError) as error:
    embeddings.find_embedding(spec)
  assert source in str(error.value) and "\n" not in str(error.value)
