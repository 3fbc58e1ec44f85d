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
