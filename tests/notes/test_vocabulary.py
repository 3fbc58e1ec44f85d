import numpy as np
import pytest

from music_spectrogram_diffusion.notes import Vocabulary


def test_published_vocabulary_has_its_ids():
  vocabulary = Vocabulary()
  assert vocabulary.shift == range(3, 1004)
  assert vocabulary.pitch == range(1004, 1132)
  assert vocabulary.velocity == range(1132, 1134)
  assert vocabulary.tie == 1134
  assert vocabulary.program == range(1135, 1263)
  assert vocabulary.drum == range(1263, 1391)
  assert vocabulary.num_classes == 1388
  assert vocabulary.num_ids == 1491
  assert vocabulary.table_rows == 1536


def test_vocabulary_of_127_velocities_has_its_ids():
  vocabulary = Vocabulary(velocity_bins=127)
  assert vocabulary.velocity == range(1129 + 3, 1257 + 3)
  assert vocabulary.tie == 1257 + 3
  assert vocabulary.program == range(1258 + 3, 1386 + 3)
  assert vocabulary.drum == range(1386 + 3, 1514 + 3)
  assert vocabulary.num_classes == 1514
  assert vocabulary.num_ids == 1617
  assert vocabulary.table_rows == 1664


@pytest.mark.parametrize("bins", [1, 2, 32, 126, 127])
def test_velocity_bins_are_ceilings_and_0_is_only_for_off(bins):
  vocabulary = Vocabulary(velocity_bins=bins)
  velocities = np.arange(128)
  expected = np.ceil(bins * velocities / 127)
  np.testing.assert_array_equal(
    vocabulary.velocity_to_bin(velocities), expected
  )
  back = [vocabulary.bin_to_velocity(number) for number in range(bins + 1)]
  np.testing.assert_array_equal(
    vocabulary.velocity_to_bin(np.array(back)), np.arange(bins + 1)
  )


@pytest.mark.parametrize("bins", [0, 128])
def test_velocity_bins_out_of_range_are_refused(bins):
  with pytest.raises(ValueError, match=f"1 to 127 velocity bins, got {bins}"):
    Vocabulary(velocity_bins=bins)
