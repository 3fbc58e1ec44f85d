import importlib.util
from pathlib import Path
import struct

import pytest

_PATH = Path(__file__).parents[1] / "docs/freedoom_songs.py"


@pytest.fixture(scope="module")
def freedoom_songs():
  spec = importlib.util.spec_from_file_location("freedoom_songs", _PATH)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def write_wad(path, lumps):
  """A WAD file of {name: content}."""
  body, directory = b"", b""
  for name, content in lumps.items():
    directory += struct.pack("<ii8s", 12 + len(body), len(content), name)
    body += content
  header = struct.pack("<4sii", b"IWAD", len(lumps), 12 + len(body))
  path.write_bytes(header + body + directory)


def song(number):
  return b"MThd" + bytes([number])


def test_songs_are_the_midi_files_among_the_lumps(freedoom_songs, tmp_path):
  lumps = {
    b"D_ONE": song(1),
    b"E1M1": song(2),
    b"D_TWO": b"MUS\x1a",
    b"D_3": b"",
  }
  write_wad(tmp_path / "a.wad", lumps)
  assert dict(freedoom_songs.songs_of(tmp_path / "a.wad")) == {"ONE": song(1)}


def test_every_fourth_song_is_held_out_and_one_that_comes_twice_with_it(
  freedoom_songs, tmp_path
):
  first, second = tmp_path / "a.wad", tmp_path / "b.wad"
  write_wad(first, {b"D_%d" % i: song(i) for i in range(6)})
  # The first is held out, so must its copy be.
  write_wad(second, {b"D_COPY": song(0), b"D_NEW": song(9)})
  kept = freedoom_songs.for_training([second, first])
  names = ["a-1", "a-2", "a-3", "a-5", "b-NEW"]
  assert list(kept) == [f"{name}.mid" for name in names]
  assert kept["b-NEW.mid"] == song(9)


def test_a_file_that_is_no_wad_or_cut_short_is_named(freedoom_songs, tmp_path):
  path = tmp_path / "a.wad"
  path.write_bytes(b"no")
  with pytest.raises(ValueError, match="a.wad, which has no header"):
    list(freedoom_songs.songs_of(path))
  write_wad(path, {b"D_ONE": song(1)})
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(ValueError, match="directory of 1 lumps in .*a.wad"):
    list(freedoom_songs.songs_of(path))
