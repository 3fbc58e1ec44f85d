import hashlib
import json
import subprocess
import sys
import types

import pytest

from music_spectrogram_diffusion import cache, checkpoints
from music_spectrogram_diffusion.checkpoints import registry

FILES = {"config.gin": b"# What was trained.", "checkpoint_7/checkpoint": b"7"}
HUB = "google/music-spectrogram-diffusion"


@pytest.fixture(autouse=True)
def cache_directory(tmp_path, monkeypatch):
  path = tmp_path / "cache"
  monkeypatch.setenv(cache.CACHE_VARIABLE, str(path))
  return path


@pytest.fixture
def data(server, zip_of, monkeypatch):
  """The published archive of the small model, on the test's own server."""
  data = zip_of(FILES)
  server.files["small_with_context.zip"] = data
  monkeypatch.setenv(registry.MIRROR_VARIABLE, server.url)
  return data


def small(**changes):
  """The small model as a registry of one has it, with other facts."""
  url = "http://127.0.0.1:1/checkpoints/small_with_context.zip"
  return registry.Archive(about="", url=url, **changes)


def names_in(folder):
  return sorted(path.name for path in folder.iterdir())


def test_the_registry_of_the_package_lists_what_was_published():
  models = checkpoints.published_models()
  assert list(models) == [
    "default",
    "base_with_context",
    "small_with_context",
    HUB,
  ]
  for name in ("base_with_context", "small_with_context"):
    assert models[name].url.endswith(f"/checkpoints/{name}.zip")


def test_a_registry_of_ones_own_is_read(tmp_path):
  path = tmp_path / "registry.json"
  entry = {"source": "archive", "about": "Mine.", "url": "http://x/mine.zip"}
  path.write_text(json.dumps({"mine": entry}))
  (model,) = checkpoints.published_models(path).values()
  assert model == registry.Archive(about="Mine.", url="http://x/mine.zip")


def test_the_embedded_model_is_always_here():
  model = checkpoints.published_models()["default"]
  assert model.find() == model.fetch()


def test_an_archive_is_downloaded_once_and_unpacked(
  data, server, cache_directory
):
  model = checkpoints.published_models()["small_with_context"]
  assert model.find() is None
  path = model.fetch()
  assert path == model.find() == model.fetch()
  for name, content in FILES.items():
    assert (path / name).read_bytes() == content
  assert len(server.ranges) == 1
  assert names_in(path.parent) == [
    "small_with_context",
    "small_with_context.lock",
    "small_with_context.sha256",
  ]
  assert path.parent.parent == cache_directory


def test_a_file_that_was_downloaded_by_hand_is_used(data, cache_directory):
  path = cache_directory / "published" / "small_with_context.zip"
  path.parent.mkdir(parents=True)
  path.write_bytes(data)
  model = checkpoints.published_models()["small_with_context"]
  assert (model.fetch() / "config.gin").exists()


def test_without_a_network_the_file_to_get_by_hand_is_named(cache_directory):
  with pytest.raises(checkpoints.DownloadError) as error:
    small().fetch()
  assert "http://127.0.0.1:1/checkpoints/small_with_context.zip" in str(
    error.value
  )
  path = cache_directory / "published" / "small_with_context.zip"
  assert f"save it as {path}" in str(error.value)


def test_known_sizes_and_hashes_are_held_to(data, cache_directory):
  right = hashlib.sha256(data).hexdigest()
  for changes, message in (
    ({"size": 7}, f"Expected 7 bytes .* got {len(data)}"),
    ({"sha256": "0" * 64}, f"Expected SHA-256 000.* got {right}"),
  ):
    with pytest.raises(checkpoints.DownloadError, match=message):
      small(**changes).fetch()
    assert names_in(cache_directory / "published") == [
      "small_with_context.lock"
    ]
  assert small(size=len(data), sha256=right).fetch().is_dir()


def test_a_later_download_is_held_to_the_first_one(
  data, server, zip_of, cache_directory
):
  path = small().fetch()
  for file in path.rglob("*"):
    if file.is_file():
      file.unlink()
  (path / "checkpoint_7").rmdir()
  path.rmdir()
  server.files["small_with_context.zip"] = zip_of({"other": b""})
  with pytest.raises(
    checkpoints.DownloadError, match=r"small_with_context\.sha256 says.*removed"
  ):
    small().fetch()
  assert not path.exists()
  server.files["small_with_context.zip"] = data
  assert small().fetch() == path


def test_an_altered_download_is_not_recorded(data, server, cache_directory):
  altered = bytearray(data)
  altered[45] ^= 255  # Within the first file.
  server.files["small_with_context.zip"] = bytes(altered)
  with pytest.raises(checkpoints.DownloadError, match="damaged.*removed"):
    small().fetch()
  assert names_in(cache_directory / "published") == ["small_with_context.lock"]
  server.files["small_with_context.zip"] = data
  assert small().fetch().is_dir()


_FETCH = """
from music_spectrogram_diffusion.checkpoints import registry
print(registry.published_models()["small_with_context"].fetch())
"""


def test_two_processes_download_once(data, server):
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", _FETCH], stdout=subprocess.PIPE, text=True
    )
    for _ in range(2)
  ]
  paths = {process.communicate(timeout=120)[0] for process in processes}
  assert len(paths) == 1 and "small_with_context" in paths.pop()
  assert len(server.ranges) == 1


class FakeHub:
  """Stands for huggingface_hub, of a version that checks no snapshot."""

  def __init__(self, snapshot, error=None):
    self.snapshot = snapshot
    self.error = error
    self.calls = []

  def snapshot_download(self, repository, *, allow_patterns, local_files_only):
    self.calls.append(local_files_only)
    assert repository == HUB
    if not local_files_only:
      if self.error:
        raise self.error
      for name in allow_patterns:
        (self.snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (self.snapshot / name).touch()
    elif not self.snapshot.exists():
      raise FileNotFoundError("no snapshot")
    return str(self.snapshot)


@pytest.fixture
def hub(tmp_path, monkeypatch):
  fake = FakeHub(tmp_path / "snapshot")
  module = types.ModuleType("huggingface_hub")
  module.snapshot_download = fake.snapshot_download
  monkeypatch.setitem(sys.modules, "huggingface_hub", module)
  return fake


def test_a_repository_of_the_hub_is_downloaded_once(hub):
  model = checkpoints.published_models()[HUB]
  assert model.find() is None
  assert model.fetch() == model.find() == model.fetch() == hub.snapshot
  assert hub.calls.count(False) == 1
  assert (hub.snapshot / "melgan" / "model.onnx").exists()


def test_a_snapshot_that_lacks_files_is_completed(hub):
  hub.snapshot.mkdir()
  model = checkpoints.published_models()[HUB]
  assert model.find() is None
  assert model.fetch() == model.find()


def test_a_snapshot_that_stays_incomplete_is_refused(hub, monkeypatch):
  hub.snapshot.mkdir()
  (hub.snapshot / "model_index.json").touch()
  # As the library does offline.
  monkeypatch.setattr(
    sys.modules["huggingface_hub"],
    "snapshot_download",
    lambda *_, **__: str(hub.snapshot),
  )
  with pytest.raises(
    checkpoints.DownloadError, match="snapshot lacks scheduler/.*model.onnx"
  ):
    checkpoints.published_models()[HUB].fetch()


def test_an_error_of_the_hub_is_one_line_that_says_what_to_do(hub):
  hub.error = RuntimeError("ConnectError: no route\nPlease check.")
  with pytest.raises(checkpoints.DownloadError) as error:
    checkpoints.published_models()[HUB].fetch()
  assert str(error.value) == (
    f"Cannot download {HUB} from the Hugging Face Hub (ConnectError: no route);"
    " download its files by hand into a folder, and give that in place of the"
    " name."
  )


def test_a_missing_package_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, "huggingface_hub", None)
  model = checkpoints.published_models()[HUB]
  assert model.find() is None
  with pytest.raises(
    checkpoints.DownloadError, match="pip install huggingface_hub"
  ):
    model.fetch()
