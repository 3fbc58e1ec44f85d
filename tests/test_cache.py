import os
import pathlib

from music_spectrogram_diffusion import cache

NAME = "music-spectrogram-diffusion"


def test_the_cache_is_where_the_user_says(monkeypatch):
  monkeypatch.setenv(cache.CACHE_VARIABLE, "/mine")
  assert cache.cache_directory() == pathlib.Path("/mine")
  monkeypatch.setenv("HOME", "/home/me")
  monkeypatch.setenv(cache.CACHE_VARIABLE, "~/mine")
  assert cache.cache_directory() == pathlib.Path("/home/me/mine")


def test_the_cache_is_else_among_the_users_caches(monkeypatch):
  monkeypatch.delenv(cache.CACHE_VARIABLE, raising=False)
  monkeypatch.setenv("HOME", "/home/me")
  monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
  assert cache.cache_directory() == pathlib.Path("/caches") / NAME
  for unset in ("", "relative"):
    monkeypatch.setenv("XDG_CACHE_HOME", unset)
    assert cache.cache_directory() == pathlib.Path("/home/me/.cache") / NAME


def test_short_compilations_are_kept_too_unless_the_user_says_so(
  monkeypatch, tmp_path
):
  directory = "JAX_COMPILATION_CACHE_DIR"
  seconds = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
  monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path))
  for variable in (directory, seconds):
    monkeypatch.setenv(variable, "set, so that it is restored")
    monkeypatch.delenv(variable)
  cache.keep_compiled_programs()
  assert os.environ[directory] == str(tmp_path / "compiled")
  assert float(os.environ[seconds]) < 0.1
  monkeypatch.setenv(seconds, "5")
  cache.keep_compiled_programs()
  assert os.environ[seconds] == "5"
