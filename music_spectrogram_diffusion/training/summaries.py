"""Where those who watch a run write: JSON lines, and TensorBoard with clu."""

from collections.abc import Mapping
import importlib.util
import json
import math
import os
from pathlib import Path
from typing import Any
import warnings

import jax
from jaxtyping import Float, UInt8
import numpy as np

from music_spectrogram_diffusion import quietly

FOLDER = "summaries"
"""In the directory of a run."""


class Summaries:
  """Writes numbers, pictures and sounds by step, on one of the hosts.

  Numbers go to `summaries/NAME.jsonl`, a line a step, always; and everything to
  TensorBoard's files in `summaries/NAME/` where clu is installed. A run that
  goes on from an earlier step replaces the lines after it.

  Args:
    directory: The run's.
    name: What is summarised, as `train`.
  """

  def __init__(self, directory: str | os.PathLike, name: str):
    self._path = Path(directory, FOLDER, f"{name}.jsonl")
    self._is_first_host = jax.process_index() == 0
    self._writer = None
    if self._is_first_host:
      self._path.parent.mkdir(parents=True, exist_ok=True)
      self._writer = _clu_writer(self._path.parent / name)

  def scalars(self, step: int, values: Mapping[str, Any]) -> None:
    """Writes numbers; those that are not finite are left out."""
    if not self._is_first_host:
      return
    found = {
      name: float(value)
      for name, value in values.items()
      if math.isfinite(value)
    }
    lines = []
    if self._path.exists():
      for line in self._path.read_text().splitlines():
        if line.endswith("}") and json.loads(line)["step"] < step:
          lines.append(line)
    lines.append(json.dumps({"step": step} | found))
    partial = self._path.with_suffix(".partial")
    partial.write_text("\n".join(lines) + "\n")
    partial.replace(self._path)
    if self._writer is not None:
      self._writer.write_scalars(step, found)
      self._writer.flush()

  def image(
    self, step: int, name: str, image: UInt8[np.ndarray, "height width 3"]
  ) -> None:
    """Writes a picture, for TensorBoard alone."""
    if self._writer is not None:
      self._writer.write_images(step, {name: image[None]})
      self._writer.flush()

  def audio(
    self,
    step: int,
    name: str,
    samples: Float[np.ndarray, " samples"],
    sample_rate: int,
  ) -> None:
    """Writes a sound, for TensorBoard alone."""
    if self._writer is not None:
      clipped = np.clip(samples, -1.0, 1.0)[None, :, None]
      self._writer.write_audios(step, {name: clipped}, sample_rate=sample_rate)
      self._writer.flush()


def _clu_writer(directory: Path) -> Any:
  """A writer of clu, to TensorBoard and the log; None where it is missing."""
  if not importlib.util.find_spec("clu"):
    return None
  try:
    quietly.import_tensorflow()  # It writes TensorBoard's files.
    from clu import metric_writers
  except ImportError as error:
    warnings.warn(
      f"No summaries for TensorBoard: {error}. Install the extra `train`.",
      stacklevel=2,
    )
    return None
  return metric_writers.create_default_writer(
    os.fspath(directory), asynchronous=False
  )
