import os
import pathlib

import pytest
import typer.testing

from music_spectrogram_diffusion import cache
from music_spectrogram_diffusion.checkpoints import registry
from music_spectrogram_diffusion.cli import main

HUB = "google/music-spectrogram-diffusion"


@pytest.fixture(autouse=True)
def cache_directory(tmp_path, monkeypatch):
  path = tmp_path / "cache"
  monkeypatch.setenv(cache.CACHE_VARIABLE, str(path))
  # Nor what the user has of the Hub, were huggingface_hub installed.
  monkeypatch.setattr(registry.HubRepository, "find", lambda self: None)
  return path


@pytest.fixture
def small(cache_directory):
  """The directory of a model that was downloaded before."""
  path = cache_directory / "published" / "small_with_context"
  path.mkdir(parents=True)
  return path


def spec_diff(*arguments):
  result = typer.testing.CliRunner().invoke(
    main.app, ["models", *arguments], catch_exceptions=False
  )
  assert result.exit_code == 0
  return result.stdout


def test_the_list_says_what_there_is_and_what_is_here(small):
  stdout = spec_diff("list")
  rows = {line.split()[0]: line for line in stdout.splitlines() if line.strip()}
  for name in ("default", "base_with_context", "small_with_context", HUB):
    assert name in rows
  assert "not downloaded" in rows["base_with_context"]
  assert "not downloaded" not in rows["small_with_context"]


def test_path_prints_the_directory_alone(small):
  assert spec_diff("path", "small_with_context") == f"{small}\n"
  assert pathlib.Path(spec_diff("path", "default").strip()).is_dir()


def test_download_prints_the_directory_of_what_is_here_already(small):
  assert spec_diff("download", "small_with_context") == f"{small}\n"


def test_the_path_of_a_model_that_is_not_here_says_how_to_get_it():
  with pytest.raises(
    ValueError, match="`spec-diff models download base_with_context`"
  ):
    spec_diff("path", "base_with_context")


def test_an_unknown_name_is_answered_with_the_names_there_are():
  for verb in ("path", "download"):
    with pytest.raises(ValueError, match="base_with_context.*got huge"):
      spec_diff(verb, "huge")


@pytest.fixture
def jax_cache(monkeypatch):
  """Gives the directory that JAX is told, and forgets it afterwards."""
  variable = "JAX_COMPILATION_CACHE_DIR"
  for name in (variable, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
    monkeypatch.setenv(name, "set, so that it is restored")
    monkeypatch.delenv(name)
  monkeypatch.setattr(main, "app", lambda: None)

  def run():
    main.main()
    return os.environ.get(variable)

  return run


def test_compiled_programs_are_kept_in_the_cache_directory(
  jax_cache, cache_directory
):
  assert jax_cache() == str(cache_directory / "compiled")
  assert not cache_directory.exists()


def test_the_users_own_place_for_compiled_programs_stays(
  jax_cache, monkeypatch
):
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/mine")
  assert jax_cache() == "/mine"


def test_a_cache_that_cannot_be_written_is_done_without(
  jax_cache, monkeypatch, tmp_path
):
  file = tmp_path / "file"
  file.touch()
  monkeypatch.setenv(cache.CACHE_VARIABLE, str(file))
  assert jax_cache() is None
  monkeypatch.setenv(cache.CACHE_VARIABLE, "/proc/1/cache")
  monkeypatch.setattr(cache.os, "access", lambda *_: False)
  assert jax_cache() is None
