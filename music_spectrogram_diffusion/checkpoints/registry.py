"""Published weights by name: where they come from, and where they are kept.

registry.json lists them. Files are verified by their size and SHA-256 where it
gives these; else the SHA-256 of the first download is recorded, and holds for
those after it.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Protocol, runtime_checkable

from music_spectrogram_diffusion import cache
from music_spectrogram_diffusion.checkpoints import downloads

REGISTRY = Path(__file__).with_name("registry.json")
MIRROR_VARIABLE = "SPEC_DIFF_MIRROR"
"""Address of a folder to get archives from, in place of the published one."""

_PACKAGE_MODEL = Path(__file__).parents[1] / "pretrained"


@runtime_checkable
class PublishedModel(Protocol):
  """Weights that go by a name.

  Attributes:
    about: What they are, in a line.
  """

  about: str

  def find(self) -> Path | None:
    """The directory that they are in, or None where they are not here yet."""

  def fetch(self) -> Path:
    """The same, after a download where one is needed.

    Raises:
      downloads.DownloadError: They cannot be had, or are not what they should
        be; none of them is kept.
      OSError: They cannot be written.
    """


@dataclasses.dataclass(frozen=True)
class PackageModel:
  """The model that the package carries."""

  about: str

  def find(self) -> Path | None:
    return _PACKAGE_MODEL if _PACKAGE_MODEL.is_dir() else None

  def fetch(self) -> Path:
    return _PACKAGE_MODEL


@dataclasses.dataclass(frozen=True)
class Archive:
  """A zip file, unpacked into the cache directory.

  Attributes:
    about: What is in it, in a line.
    url: Its address.
    size: Its size in bytes, if known.
    sha256: Its SHA-256 in hexadecimal, if known.
  """

  about: str
  url: str
  size: int | None = None
  sha256: str | None = None

  def find(self) -> Path | None:
    return self._directory if self._directory.is_dir() else None

  def fetch(self) -> Path:
    if not self.find():
      with downloads.lock(self._beside(".lock")):
        if not self.find():  # Nor has another process fetched it meanwhile.
          self._fetch()
    return self._directory

  def _fetch(self) -> None:
    archive, record = self._beside(".zip"), self._beside(".sha256")
    if not archive.exists():  # As after a download by hand.
      url = self.url
      if mirror := os.environ.get(MIRROR_VARIABLE):
        url = f"{mirror.rstrip('/')}/{url.rpartition('/')[2]}"
      downloads.download(url, archive)
    try:
      digest = self._verify(archive, record)
      downloads.unpack(archive, self._directory)
    except downloads.DownloadError as error:
      archive.unlink()
      raise downloads.DownloadError(f"{error} It was removed.") from error
    record.write_text(digest)
    archive.unlink()

  def _verify(self, archive: Path, record: Path) -> str:
    """The SHA-256 of an archive, if that is what it should be."""
    size = archive.stat().st_size
    if self.size not in (None, size):
      raise downloads.DownloadError(
        f"Expected {self.size} bytes in {archive}, got {size}."
      )
    with archive.open("rb") as file:
      digest = hashlib.file_digest(file, "sha256").hexdigest()
    source, expected = REGISTRY.name, self.sha256
    if expected is None and record.exists():
      source, expected = str(record), record.read_text().strip()
    if expected not in (None, digest):
      raise downloads.DownloadError(
        f"Expected SHA-256 {expected} of {archive}, as {source} says; got"
        f" {digest}."
      )
    return digest

  @property
  def _directory(self) -> Path:
    name = self.url.rpartition("/")[2].removesuffix(".zip")
    return cache.cache_directory() / "published" / name

  def _beside(self, suffix: str) -> Path:
    return self._directory.with_name(self._directory.name + suffix)


@dataclasses.dataclass(frozen=True)
class HubRepository:
  """A repository of the Hugging Face Hub, in that library's own cache.

  The library sees to tokens, offline mode, resuming, locks and verification.

  Attributes:
    about: What is in it, in a line.
    repository: Its owner and name.
    files: Paths of the files in it that are needed.
  """

  about: str
  repository: str
  files: Sequence[str]

  def find(self) -> Path | None:
    try:
      found = self._snapshot(local_files_only=True)
    except (ImportError, OSError):
      return None
    return None if self._missing(found) else found

  def fetch(self) -> Path:
    # What is here is taken as it is, so that nothing waits for the network.
    if found := self.find():
      return found
    try:
      path = self._snapshot(local_files_only=False)
    except ImportError as error:
      reason = f"{error}; pip install huggingface_hub"
    # Its HTTP library has exceptions of its own, and not always the same.
    except Exception as error:
      reason = str(error).partition("\n")[0]
    else:
      if not (missing := self._missing(path)):
        return path
      reason = f"{path} lacks {', '.join(missing)}"
    raise downloads.DownloadError(
      f"Cannot download {self.repository} from the Hugging Face Hub ({reason});"
      " download its files by hand into a folder, and give that in place of the"
      " name."
    )

  def _missing(self, path: Path) -> list[str]:
    """Files that a snapshot lacks.

    Offline, and after an interrupted download, the library may hand out one
    that is not complete.
    """
    return [name for name in self.files if not (path / name).exists()]

  def _snapshot(self, *, local_files_only: bool) -> Path:
    import huggingface_hub

    return Path(
      huggingface_hub.snapshot_download(
        self.repository,
        allow_patterns=list(self.files),
        local_files_only=local_files_only,
      )
    )


_SOURCES = {"package": PackageModel, "archive": Archive, "hub": HubRepository}


def published_models(
  path: str | os.PathLike = REGISTRY,
) -> Mapping[str, PublishedModel]:
  """The published models by their names, as a registry lists them."""
  entries = json.loads(Path(path).read_text(encoding="utf-8"))
  return {
    name: _SOURCES[entry.pop("source")](**entry)
    for name, entry in entries.items()
  }
