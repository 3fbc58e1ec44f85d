"""Downloads that resume, archives that are unpacked whole, and locks."""

from collections.abc import Callable, Iterator
import contextlib
import http.client
from pathlib import Path, PureWindowsPath
import shutil
import sys
import urllib.error
import urllib.request
import zipfile
import zlib

try:
  import fcntl
except ImportError:  # Windows, where nothing is locked.
  fcntl = None

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 30.0


class DownloadError(ValueError):
  """A published file cannot be had, or is not what it should be."""


def say(line: str) -> None:
  """Prints a line on stderr."""
  print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
  """Holds a lock file, after any other process that holds it.

  The lock ends with the process, whatever ends that; the empty file stays.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("a") as file:
    if fcntl:
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        say(f"Waiting for another process, which holds {path}.")
        fcntl.flock(file, fcntl.LOCK_EX)
    yield


@contextlib.contextmanager
def whole_directory(target: Path) -> Iterator[Path]:
  """Gives a folder to fill, which is called `target` once that has succeeded.

  Otherwise nothing is left of it; of a killed process, nothing after the next
  call. The caller holds a lock.

  Raises:
    OSError: It cannot be written.
  """
  partial = target.with_name(f"{target.name}.partial")
  shutil.rmtree(partial, ignore_errors=True)
  try:
    partial.mkdir(parents=True)
    yield partial
    partial.rename(target)
  except OSError as error:
    raise _named(error, target) from error
  finally:
    shutil.rmtree(partial, ignore_errors=True)


def download(url: str, target: Path) -> None:
  """Fetches a file, going on from what an interrupted call has left of it.

  Until it is complete, the file is called `target` with ".part" added; beside
  it, ".version" tells what the server has to hold still for the rest to fit.

  Args:
    url: Address of the file.
    target: Name of the file; its folder exists.

  Raises:
    DownloadError: The server cannot be reached, has no such file, or left off
      in the middle; what came so far is kept.
    OSError: The file cannot be written, as on a full disk; nothing is kept.
  """
  part = target.with_name(f"{target.name}.part")
  version = target.with_name(f"{target.name}.version")
  with contextlib.closing(_open(url, target, part, version)) as response:
    num_had, num_bytes = _extent(response)
    with _progress(target.name, num_had, num_bytes) as advance:
      try:
        # Not a version of what it replaces, should this end before the next.
        version.unlink(missing_ok=True)
        with part.open("ab" if num_had else "wb") as file:
          version.write_text(_version(response))
          for chunk in _chunks(response, url):
            file.write(chunk)
            advance(len(chunk))
      except OSError as error:
        part.unlink(missing_ok=True)
        version.unlink(missing_ok=True)
        raise _named(error, part) from error
  found = part.stat().st_size
  if num_bytes is not None and found != num_bytes:
    raise DownloadError(
      f"Expected {num_bytes} bytes from {url}, got {found}; run this again to"
      " go on from there."
    )
  part.rename(target)
  version.unlink()


def unpack(archive: Path, target: Path) -> None:
  """Unpacks a zip file into a new folder, whole or not at all.

  Raises:
    DownloadError: The file is damaged, or has paths that leave the folder.
    OSError: The folder cannot be written, as on a full disk.
  """
  try:
    with zipfile.ZipFile(archive) as files, whole_directory(target) as partial:
      for name in files.namelist():
        path = PureWindowsPath(name)  # Knows slashes of both kinds.
        if path.anchor or ".." in path.parts:
          raise DownloadError(
            f"Expected paths inside of the archive in {archive}, got {name!r}."
          )
      files.extractall(partial)
  # RuntimeError is what zipfile raises for archives that are encrypted.
  except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
    raise DownloadError(
      f"Expected a zip file in {archive}, got a damaged one: {error}."
    ) from error


def _named(error: OSError, path: Path) -> OSError:
  """The error, which names a path where it did not."""
  if error.filename is not None or error.errno is None:
    return error
  return OSError(error.errno, error.strerror, str(path))


def _open(
  url: str, target: Path, part: Path, version: Path
) -> http.client.HTTPResponse:
  """Asks for a file, or for the rest of it where some has come before."""
  request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
  if part.exists() and version.exists() and (known := version.read_text()):
    request.add_header("Range", f"bytes={part.stat().st_size}-")
    request.add_header("If-Range", known)
  try:
    return urllib.request.urlopen(request, timeout=_TIMEOUT_S)
  except urllib.error.HTTPError as error:
    if error.code == 416 and part.exists():  # Nothing is left to come.
      part.unlink()
      return _open(url, target, part, version)
    reason = f"HTTP {error.code} {error.reason}"
  except (OSError, http.client.HTTPException) as error:
    reason = str(getattr(error, "reason", error))
  raise DownloadError(
    f"Cannot download {url} ({reason}); download it by hand, save it as"
    f" {target}, and run this again."
  )


def _extent(response: http.client.HTTPResponse) -> tuple[int, int | None]:
  """How many bytes were there before, and how many there will be."""
  if response.status == 206:
    first, _, last = response.headers["Content-Range"].partition("/")
    start = int(first.removeprefix("bytes ").partition("-")[0])
    return start, int(last) if last.isdecimal() else None
  length = response.headers["Content-Length"]
  return 0, None if length is None else int(length)


def _version(response: http.client.HTTPResponse) -> str:
  """What the server says to tell versions of a file apart, if it does."""
  headers = response.headers
  return headers["ETag"] or headers["Last-Modified"] or ""


def _chunks(response: http.client.HTTPResponse, url: str) -> Iterator[bytes]:
  while True:
    try:
      chunk = response.read(_CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
      raise DownloadError(
        f"Lost the connection to {url} ({error}); run this again to go on from"
        " there."
      ) from error
    if not chunk:
      return
    yield chunk


@contextlib.contextmanager
def _progress(
  name: str, num_had: int, num_bytes: int | None
) -> Iterator[Callable[[int], None]]:
  """Shows on stderr how far a file is; gives what to call with new bytes."""
  import rich.console
  import rich.progress

  terminal = rich.console.Console(stderr=True)
  if not terminal.is_terminal:
    size = "" if num_bytes is None else f" ({num_bytes / 1e6:.1f} MB)"
    say(f"Downloading {name}{size}.")
  with rich.progress.Progress(
    rich.progress.TextColumn("{task.description}", markup=False),
    rich.progress.BarColumn(),
    rich.progress.DownloadColumn(),
    rich.progress.TransferSpeedColumn(),
    rich.progress.TimeRemainingColumn(compact=True),
    console=terminal,
    disable=not terminal.is_terminal,
    transient=True,
  ) as progress:
    task = progress.add_task(name, total=num_bytes, completed=num_had)
    yield lambda count: progress.update(task, advance=count)
