"""A file server on the loopback interface, with the faults of real ones."""

import hashlib
import http.server
import io
import threading
import zipfile

import pytest


class FileServer(http.server.ThreadingHTTPServer):
  """Serves `files`: bytes by name.

  Attributes:
    files: What is served; a change of a file changes its ETag.
    break_after: Bytes of a body after which a connection is closed, or None.
    ranges: The Range header of each request, None where it had none.
  """

  def __init__(self):
    super().__init__(("127.0.0.1", 0), _Handler)
    self.files = {}
    self.break_after = None
    self.ranges = []

  @property
  def url(self):
    return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
  def do_GET(self):
    body = self.server.files.get(self.path.lstrip("/"))
    wanted = self.headers["Range"]
    self.server.ranges.append(wanted)
    if body is None:
      self.send_error(404)
      return
    tag = f'"{hashlib.sha256(body).hexdigest()}"'
    start = 0
    if wanted and self.headers["If-Range"] == tag:
      start = int(wanted.removeprefix("bytes=").removesuffix("-"))
      if start >= len(body):
        self.send_error(416)
        return
      self.send_response(206)
      self.send_header(
        "Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}"
      )
    else:
      self.send_response(200)
    self.send_header("ETag", tag)
    self.send_header("Content-Length", str(len(body) - start))
    self.end_headers()
    self.wfile.write(body[start:][: self.server.break_after])

  def log_message(self, *_):
    pass


@pytest.fixture
def server():
  with FileServer() as server:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()


@pytest.fixture
def zip_of():
  """Makes a zip file of bytes by name."""

  def make(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
      for name, data in files.items():
        archive.writestr(name, data)
    return buffer.getvalue()

  return make
