import errno
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from music_spectrogram_diffusion.checkpoints import downloads

BODY = np.random.default_rng(0).bytes(3_000_000)


def names_in(folder):
  return sorted(path.name for path in folder.iterdir())


def test_a_download_is_the_file_and_nothing_else(server, tmp_path, capsys):
  server.files["weights.zip"] = BODY
  downloads.download(f"{server.url}/weights.zip", tmp_path / "weights.zip")
  assert (tmp_path / "weights.zip").read_bytes() == BODY
  assert names_in(tmp_path) == ["weights.zip"]
  captured = capsys.readouterr()
  assert captured.err == "Downloading weights.zip (3.0 MB).\n"
  assert captured.out == ""


def test_an_interrupted_download_goes_on_from_where_it_was(server, tmp_path):
  server.files["file"] = BODY
  server.break_after = 2_000_000
  url, target = f"{server.url}/file", tmp_path / "file"
  with pytest.raises(downloads.DownloadError, match="3000000.*2000000.*again"):
    downloads.download(url, target)
  assert not target.exists()
  server.break_after = None
  downloads.download(url, target)
  assert target.read_bytes() == BODY
  assert server.ranges == [None, "bytes=2000000-"]
  assert names_in(tmp_path) == ["file"]


def test_a_file_that_changed_meanwhile_is_fetched_from_its_start(
  server, tmp_path
):
  server.files["file"] = BODY
  server.break_after = 2_000_000
  url, target = f"{server.url}/file", tmp_path / "file"
  with pytest.raises(downloads.DownloadError):
    downloads.download(url, target)
  server.break_after = None
  server.files["file"] = BODY[::-1]
  downloads.download(url, target)
  assert target.read_bytes() == BODY[::-1]


def test_a_download_that_ended_before_its_renaming_is_fetched_again(
  server, tmp_path
):
  server.files["file"] = BODY
  server.break_after = 2_000_000
  url, target = f"{server.url}/file", tmp_path / "file"
  with pytest.raises(downloads.DownloadError):
    downloads.download(url, target)
  (tmp_path / "file.part").write_bytes(BODY)
  server.break_after = None
  downloads.download(url, target)
  assert target.read_bytes() == BODY


def test_a_missing_file_says_what_to_download_by_hand_and_where_to(
  server, tmp_path
):
  url, target = f"{server.url}/file", tmp_path / "file"
  with pytest.raises(downloads.DownloadError) as error:
    downloads.download(url, target)
  assert str(error.value) == (
    f"Cannot download {url} (HTTP 404 Not Found); download it by hand, save it"
    f" as {target}, and run this again."
  )
  assert names_in(tmp_path) == []


@pytest.mark.parametrize(
  "url", ["http://127.0.0.1:1/file", "http://missing.invalid/file"]
)
def test_without_a_network_the_message_is_the_same(url, tmp_path):
  with pytest.raises(downloads.DownloadError, match="by hand, save it as"):
    downloads.download(url, tmp_path / "file")


@pytest.mark.skipif(
  not os.path.exists("/dev/full"), reason="this system has no /dev/full"
)
def test_on_a_full_disk_nothing_is_left(server, tmp_path):
  server.files["file"] = BODY
  (tmp_path / "file.part").symlink_to("/dev/full")
  with pytest.raises(OSError) as error:
    downloads.download(f"{server.url}/file", tmp_path / "file")
  assert error.value.errno == errno.ENOSPC
  assert error.value.filename == str(tmp_path / "file.part")
  assert names_in(tmp_path) == []


def test_a_zip_file_is_unpacked(zip_of, tmp_path):
  archive = tmp_path / "a.zip"
  archive.write_bytes(zip_of({"a/b/c": b"1", "d": b"2"}))
  downloads.unpack(archive, tmp_path / "a")
  assert (tmp_path / "a" / "a" / "b" / "c").read_bytes() == b"1"
  assert (tmp_path / "a" / "d").read_bytes() == b"2"


@pytest.mark.parametrize(
  "name",
  [
    "../evil",
    "a/../../evil",
    "/evil",
    "..\\evil",
    "C:\\evil",
    "\\\\host\\evil",
  ],
)
def test_paths_that_leave_the_target_are_refused(name, zip_of, tmp_path):
  archive = tmp_path / "a.zip"
  archive.write_bytes(zip_of({"good": b"1", name: b"2"}))
  with pytest.raises(downloads.DownloadError, match="evil"):
    downloads.unpack(archive, tmp_path / "a")
  assert names_in(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("spoilt", ["truncated", "altered", "no zip", "empty"])
def test_a_damaged_zip_file_leaves_nothing(spoilt, zip_of, tmp_path):
  data = bytearray(zip_of({"file": BODY[:100_000]}))
  if spoilt == "truncated":
    data = data[:50_000]
  elif spoilt == "altered":
    data[50_000] ^= 255
  else:
    data = b"no zip" if spoilt == "no zip" else b""
  archive = tmp_path / "a.zip"
  archive.write_bytes(data)
  with pytest.raises(downloads.DownloadError, match="a.zip"):
    downloads.unpack(archive, tmp_path / "a")
  assert names_in(tmp_path) == ["a.zip"]


def test_a_disk_that_fills_while_unpacking_leaves_nothing(
  zip_of, tmp_path, monkeypatch
):
  def fill(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

  archive = tmp_path / "a.zip"
  archive.write_bytes(zip_of({"file": b"1"}))
  monkeypatch.setattr(zipfile.shutil, "copyfileobj", fill)
  with pytest.raises(OSError) as error:
    downloads.unpack(archive, tmp_path / "a")
  assert error.value.filename == str(tmp_path / "a")
  assert names_in(tmp_path) == ["a.zip"]


def test_what_a_killed_process_left_is_replaced(tmp_path):
  (tmp_path / "a.partial").mkdir()
  (tmp_path / "a.partial" / "old").touch()
  with downloads.whole_directory(tmp_path / "a") as partial:
    (partial / "new").touch()
  assert names_in(tmp_path) == ["a"]
  assert names_in(tmp_path / "a") == ["new"]


_SECOND_PROCESS = """
import pathlib, sys
from music_spectrogram_diffusion.checkpoints import downloads
with downloads.lock(pathlib.Path(sys.argv[1])):
  print("has it", flush=True)
"""


def test_a_second_process_says_that_it_waits_and_waits(tmp_path):
  path = tmp_path / "folder" / "lock"
  with downloads.lock(path):
    process = subprocess.Popen(
      [sys.executable, "-c", _SECOND_PROCESS, str(path)],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    line = process.stderr.readline()
    assert line == f"Waiting for another process, which holds {path}.\n"
    assert process.poll() is None
  stdout, _ = process.communicate(timeout=60)
  assert stdout == "has it\n" and process.returncode == 0
