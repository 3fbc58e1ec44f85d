from pathlib import Path

import pytest

from music_spectrogram_diffusion.evaluation import plan


def test_models_are_named_as_shortly_as_can_be_told_apart():
  models = (None, "a/small", "/b/small", "/c/b/small", "base", "base/..")
  names = plan.Plan(("t",), models=models).model_names()
  # No name is a path: renderings and pictures are called so, too.
  assert names == {
    "default": None,
    "small": "a/small",
    "b-small": "/b/small",
    "c-b-small": "/c/b/small",
    "base": "base",
    Path.cwd().name: "base/..",
  }


def test_a_model_or_a_dataset_that_is_named_twice_is_an_error(tmp_path):
  for models in (("./m", "m"), (None, None)):
    with pytest.raises(ValueError, match="different models, got .* twice"):
      plan.Plan(("t",), models=models).model_names()
  for name in ("a.mid", "a.wav"):
    (tmp_path / name).touch()
  with pytest.raises(ValueError, match=f"got {tmp_path.name} twice"):
    plan.Plan((str(tmp_path),) * 2).sources()


def test_what_is_missing_is_told_how_to_get_and_the_rest_is_there():
  wanted = plan.Plan(
    ("t",),
    embeddings=("log-mel-statistics", "vggish=/nowhere", "nonsense"),
    transcriber="midi=/nowhere",
  )
  found, missing = wanted.find_measures()
  assert [measure.name for measure in found] == [
    "log-mel-statistics",
    "spectra",
  ]
  assert [line.partition(":")[0] for line in missing] == [
    "without the embedding vggish=/nowhere",
    "without the embedding nonsense",
    "without transcription F1",
  ]
  assert all("/nowhere" in line for line in (missing[0], missing[2]))


def test_measures_of_one_name_are_an_error():
  twice = plan.Plan(("t",), embeddings=("log-mel-statistics",) * 2)
  with pytest.raises(ValueError, match="different names, got log-mel-stat.*"):
    twice.find_measures()


def test_a_setting_that_no_model_has_is_told_before_the_first_song():
  wrong = plan.Plan(("t",), settings={"sampler": "nonsense"})
  with pytest.raises(ValueError, match="nonsense"):
    wrong.evaluator([])


@pytest.mark.parametrize(
  "change",
  [{"seed": 1}, {"settings": {"steps": 3}}, {"split": "train"}],
)
def test_plans_that_differ_have_other_facts(change):
  def facts(**changes):
    wanted = plan.Plan(("t",), **changes)
    return wanted.facts(wanted.find_measures()[0])

  assert facts() == facts()
  assert facts() != facts(**change)
  # Where data are makes no difference to what they are.
  assert facts() == facts(data_dir="elsewhere")


def test_the_facts_change_with_any_file_of_a_model(tmp_path):
  (tmp_path / "config.json").write_text("1")
  before = plan._digest(tmp_path)
  assert plan._digest(tmp_path) == before
  (tmp_path / "inverter.safetensors").write_text("2")
  assert plan._digest(tmp_path) != before
