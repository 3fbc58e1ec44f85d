import itertools
import shutil

import numpy as np
import pytest

pytest.importorskip("seqio")

import seqio

from music_spectrogram_diffusion import audio, notes
from music_spectrogram_diffusion.data import seqio_source, seqio_tasks

LENGTHS = {"inputs": 512, "targets": 64, "targets_context": 64}


def source(data_dir, **settings):
  defaults = {"name": "maestro", "lengths": LENGTHS, "data_dir": data_dir}
  return seqio_source.SeqioSource(**(defaults | settings))


def take(batches, number):
  return list(itertools.islice(batches, number))


def assert_same(first, second):
  assert len(first) == len(second)
  for one, other in zip(first, second, strict=True):
    assert one.keys() == other.keys()
    for name in one:
      np.testing.assert_array_equal(one[name], other[name])


@pytest.fixture(scope="module")
def walked(prepared):
  """Twelve batches of four: more than a pass over all songs."""
  batches = source(prepared[0])(batch_size=4, seed=3)
  states, handed_out = [], []
  for _ in range(12):
    states.append(batches.get_state())
    handed_out.append(next(batches))
  return states, handed_out


@pytest.mark.usefixtures("data_dir")
def test_a_batch_is_of_the_training_contract(walked):
  batch = walked[1][0]
  ids = batch["ids"].tolist()
  assert {name: (v.shape, v.dtype.name) for name, v in batch.items()} == {
    "note_tokens": ((4, 512), "int32"),
    "context": ((4, 64, 128), "float32"),
    "context_mask": ((4, 64), "bool"),
    "targets": ((4, 64, 128), "float32"),
    "targets_mask": ((4, 64), "bool"),
    "ids": ((4,), "object"),
  }
  assert set(ids) <= {f"train{i}".encode() for i in range(5)}


def test_a_run_goes_on_with_exactly_the_batches_it_would_have_had(
  walked, data_dir
):
  states, handed_out = walked
  for step in (0, 9):
    resumed = source(data_dir)(batch_size=4, seed=3)
    next(resumed)  # It may have begun elsewhere.
    resumed.set_state(states[step])
    assert_same(take(resumed, 12 - step), handed_out[step:])
    assert len(states[step]) < 100_000


def test_the_seed_chooses_windows_and_order(walked, data_dir):
  _, handed_out = walked
  same = take(source(data_dir)(batch_size=4, seed=3), 2)
  assert_same(same, handed_out[:2])
  [other] = take(source(data_dir)(batch_size=4, seed=4), 1)
  assert (other["targets"] != handed_out[0]["targets"]).any()


def test_hosts_read_songs_of_their_own(data_dir):
  shares = [
    {
      id
      for batch in take(
        source(data_dir)(batch_size=4, host_index=host, host_count=2), 5
      )
      for id in batch["ids"]
    }
    for host in range(2)
  ]
  assert not shares[0] & shares[1]
  assert len(shares[0] | shares[1]) == 5


def test_a_state_of_other_settings_is_refused_with_what_differs(
  walked, data_dir
):
  batches = source(data_dir)(batch_size=5, seed=3)
  with pytest.raises(ValueError, match="batch_size was 4 and is 5"):
    batches.set_state(walked[0][0])


def test_evaluation_is_in_order_and_may_end(data_dir):
  batches = source(data_dir, split="validation", variant="eval", num_epochs=1)(
    batch_size=2
  )
  ids = [id.decode() for batch in batches for id in batch["ids"]]
  # Of 750 and 300 frames; what is left of a batch is left out.
  first, second = ["validation0"] * 12, ["validation1"] * 5
  assert ids in ((first + second)[:16], (second + first)[:16])


def test_models_without_context_get_an_empty_one(data_dir):
  lengths = {"inputs": 512, "targets": 64}
  batches = source(data_dir, lengths=lengths)(batch_size=2)
  [batch] = take(batches, 1)
  assert batch["context"].shape == (2, 64, 128)
  assert not batch["context_mask"].any()


def test_tokens_are_of_the_vocabulary(data_dir):
  lengths = LENGTHS | {"inputs": 1024}
  tokens = [
    take(source(data_dir, lengths=lengths, vocabulary=v)(batch_size=8), 1)[0][
      "note_tokens"
    ]
    for v in (notes.Vocabulary(), notes.Vocabulary(velocity_bins=127))
  ]
  ties = (tokens[0] == notes.Vocabulary().tie).sum(axis=1)
  assert (ties == 1).all()
  ties = (tokens[1] == notes.Vocabulary(velocity_bins=127).tie).sum(axis=1)
  assert (ties == 1).all()


def test_other_spectrograms_are_refused(data_dir):
  config = audio.SpectrogramConfig(hop_length=160)
  with pytest.raises(ValueError, match="hop_length=160"):
    source(data_dir, spectrogram=config)(batch_size=2)


def test_a_name_that_is_not_there_brings_those_that_are(data_dir):
  with pytest.raises(ValueError, match="maestro_with_context_train") as error:
    source(data_dir, name="maestr")(batch_size=2)
  assert "\n" not in str(error.value)


def test_missing_data_say_how_to_make_them(tmp_path):
  with pytest.raises(ValueError, match="spec-diff prepare slakh") as error:
    source(tmp_path, name="slakh")(batch_size=2)
  assert str(tmp_path / "slakh") in str(error.value)
  assert "\n" not in str(error.value)
  seqio.set_tfds_data_dir_override(None)


def test_a_missing_cache_says_how_to_make_it(data_dir):
  with pytest.raises(ValueError, match="--tasks=maestro_pieces"):
    source(data_dir, use_cached=True)(batch_size=2)


def test_data_too_few_for_a_batch_are_told_of(data_dir):
  few = source(data_dir, split="validation", variant="eval", num_epochs=1)
  with pytest.raises(ValueError, match="Expected 500 examples or more"):
    next(few(batch_size=500))


def test_a_damaged_file_is_one_line(data_dir, tmp_path):
  shutil.copytree(data_dir / "maestro", tmp_path / "maestro")
  for path in (tmp_path / "maestro" / "1.0.0").glob("*.tfrecord*"):
    path.write_bytes(path.read_bytes()[:-9])
  batches = source(tmp_path)(batch_size=4)
  with pytest.raises(ValueError, match="Cannot read maestro_with") as error:
    take(batches, 20)
  assert "\n" not in str(error.value)


def test_what_is_dropped_is_told_of(data_dir):
  batches = source(data_dir, lengths=LENGTHS | {"inputs": 25})(batch_size=4)
  expected = r"maestro_with_context_train: \d+ segments dropped: over 25 tokens"
  with pytest.warns(UserWarning, match=expected):
    take(batches, 2)
  assert any("over 25 tokens" in line for line in batches.problem_lines())


def test_a_mixture_resumes_too(data_dir):
  names = ["maestro_with_context_train", "maestro_with_context_eval"]
  mixture = seqio.MixtureRegistry.add(
    "two_ways", [(names[0], 3.0), (names[1], 1.0)]
  )
  try:
    batches = source(data_dir, name="two_ways")(batch_size=4, seed=1)
    take(batches, 3)
    state = batches.get_state()
    expected = take(batches, 4)
    resumed = source(data_dir, name="two_ways")(batch_size=4, seed=1)
    resumed.set_state(state)
    assert_same(take(resumed, 4), expected)
  finally:
    seqio.MixtureRegistry.remove("two_ways")
  changed = seqio_tasks.with_vocabulary(
    mixture, notes.Vocabulary(velocity_bins=32)
  )
  assert [changed.get_rate(task) for task in changed.tasks] == [1.0, 3.0]
