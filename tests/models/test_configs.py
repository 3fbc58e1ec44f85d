import pytest

from music_spectrogram_diffusion import models


def test_the_paper_s_sizes():
  sizes = {
    size: (n.emb_dim, n.num_heads, n.head_dim, n.mlp_dim, n.num_decoder_layers)
    for size in ("small", "base", "large")
    for n in [models.paper_network(size)]
  }
  assert sizes == {
    "small": (512, 6, 64, 1024, 8),
    "base": (768, 12, 64, 2048, 12),
    "large": (1024, 16, 64, 2816, 24),
  }


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_every_stack_of_a_paper_network_is_equally_deep(size):
  with_context = models.paper_network(size)
  layers = with_context.num_decoder_layers
  assert with_context.num_encoder_layers == layers
  assert with_context.num_context_layers == layers
  without = models.paper_network(size, context=False)
  assert (with_context.has_context, without.has_context) == (True, False)
  assert without.num_encoder_layers == layers


def test_paper_networks_have_no_option_of_the_aligned_family():
  network = models.paper_network("base")
  assert network.max_notes is None
  assert not network.relative_time and not network.scale_logits
  assert network.dropout_rate == 0.1


def test_an_unknown_size_names_the_known_ones():
  with pytest.raises(ValueError, match="tiny, small, base, large.*'huge'"):
    models.paper_network("huge")


def test_options_replace_fields():
  assert models.paper_network("tiny", dropout_rate=0.0).dropout_rate == 0.0
  assert models.aligned_network(emb_dim=256).emb_dim == 256


def test_relative_time_needs_notes_to_relate_to():
  with pytest.raises(ValueError, match="max_notes"):
    models.paper_network("tiny", relative_time=True)


def test_sampling_defaults_are_the_paper_s():
  sampling = models.SamplingConfig()
  assert (sampling.sampler, sampling.num_steps) == ("ddpm", 1000)
  assert (sampling.guidance_weight, sampling.end_time) == (2.0, 0.0)


def test_a_dtype_that_is_none_is_an_error():
  with pytest.raises(ValueError, match="float32, bfloat16; got 'half'"):
    models.paper_network("tiny", dtype="half")
