"""What is to be evaluated, in words; workers on other machines read it, too."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import hashlib
import os
from pathlib import Path
from typing import Any

import music_spectrogram_diffusion
from music_spectrogram_diffusion import checkpoints, inference
from music_spectrogram_diffusion.evaluation import (
  embeddings,
  evaluate,
  log_mel_statistics,
  measures,
  results,
  songs,
  systems,
  transcribers,
)

DEFAULT_EMBEDDINGS = (log_mel_statistics.NAME,)
# What the row of the model in the package is called, as if by its path.
_EMBEDDED = ("embedded", "default")


@dataclasses.dataclass(frozen=True)
class Plan:
  """An evaluation.

  Attributes:
    tasks: Folders, tasks, mixtures or datasets; see `songs.find_songs`.
    models: As for `Synthesizer.from_pretrained`; None for the package's own.
    split: Of tasks.
    embeddings: As for `embeddings.find_embedding`.
    transcriber: As for `transcribers.find_transcriber`; None for no F1.
    inverter: What plays spectrograms in place of the models' own.
    follow_notes: As of `Synthesizer.from_pretrained`.
    settings: For `Synthesizer.stream`, without the seed.
    seed: Of all renderings.
    max_songs: How many songs of each dataset count; None for all.
    keep_audio: Whether renderings are kept.
    data_dir: Where `spec-diff prepare` wrote.
    module: Module that registers tasks.
  """

  tasks: tuple[str, ...]
  models: tuple[str | None, ...] = (None,)
  split: str = "test"
  embeddings: tuple[str, ...] = DEFAULT_EMBEDDINGS
  transcriber: str | None = None
  inverter: str | None = None
  follow_notes: bool | None = None
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  seed: int = 0
  max_songs: int | None = None
  keep_audio: bool = False
  data_dir: str | None = None
  module: str = "music_spectrogram_diffusion.tasks"

  def sources(self) -> list[songs.SongSource]:
    """The songs.

    Raises:
      ValueError: There are none of such a name.
    """
    found: dict[str, songs.SongSource] = {}
    for task in self.tasks:
      for source in songs.find_songs(
        task, split=self.split, data_dir=self.data_dir, module=self.module
      ):
        if source.name in found:
          raise ValueError(
            f"Expected datasets of different names, got {source.name} twice."
          )
        found[source.name] = source
    sources = list(found.values())
    if self.max_songs is None:
      return sources
    return [songs.FirstSongs(source, self.max_songs) for source in sources]

  def model_names(self) -> dict[str, str | None]:
    """Models by the names of their rows: as short as can be told apart.

    Files are called so, too: no name has a slash.

    Raises:
      ValueError: A model is named twice.
    """
    names: dict[str, str | None] = {}
    seen = set()
    for model in self.models:
      parts = _EMBEDDED
      if model is not None:
        parts = Path(os.path.abspath(model)).parts
      if parts in seen:
        raise ValueError(
          f"Expected different models, got {model or parts[-1]} twice."
        )
      seen.add(parts)
      ends = ("-".join(parts[-n:]) for n in range(1, len(parts) + 1))
      names[next(end for end in ends if end not in names)] = model
    return names

  def facts(self, found: Sequence[measures.Measure]) -> dict[str, Any]:
    """All that results depend on, to tell runs apart; loads no model.

    Args:
      found: What `find_measures` found.
    """
    hashes = {
      name: _digest(checkpoints.find_model(model))
      for name, model in self.model_names().items()
    }
    plain = dataclasses.asdict(self)
    for name in ("models", "data_dir", "module"):
      del plain[name]
    return plain | {
      "models": hashes,
      "measures": [measure.name for measure in found],
      "version": music_spectrogram_diffusion.__version__,
    }

  def evaluator(
    self, found: Sequence[measures.Measure] | None = None
  ) -> evaluate.Evaluator:
    """Loads the models.

    Args:
      found: What `find_measures` found; looked for if not given.

    Raises:
      ValueError: A model is not there, or does not have a setting.
    """
    if found is None:
      found, _ = self.find_measures()
    load = functools.partial(
      inference.Synthesizer.from_pretrained,
      inverter=self.inverter,
      follow_notes=self.follow_notes,
    )
    synthesizers = {n: load(model) for n, model in self.model_names().items()}
    for synthesizer in synthesizers.values():
      # Else each song would fail, and be kept as one that did.
      synthesizer.check_settings(**self.settings)
    rows = systems.systems_of_models(synthesizers, self.settings, self.seed)
    return evaluate.Evaluator(tuple(rows), tuple(found), self.keep_audio)

  def find_measures(self) -> tuple[list[measures.Measure], list[str]]:
    """The measures that there are, and lines on those that there are not.

    Raises:
      ValueError: Two have one name, and so would be taken for each other.
    """
    found: list[measures.Measure] = []
    missing = []
    for spec in self.embeddings:
      try:
        embedding = embeddings.find_embedding(spec)
        found.append(measures.EmbeddingMeasure(embedding))
      except (ValueError, OSError) as error:
        missing.append(f"without the embedding {spec}: {error}")
    found.append(measures.SpectralMeasure())
    if self.transcriber is not None:
      try:
        transcriber = transcribers.find_transcriber(self.transcriber)
        found.append(measures.TranscriptionMeasure(transcriber))
      except (ValueError, OSError) as error:
        missing.append(f"without transcription F1: {error}")
    names = [measure.name for measure in found]
    for name in names:
      if names.count(name) > 1:
        raise ValueError(
          f"Expected measures of different names, got {name} twice; rename a"
          " file or folder."
        )
    return found, missing


def _digest(directory: Path) -> str:
  """SHA-256 of a model's files: weights, settings and inverter."""
  total = hashlib.sha256()
  for path in sorted(path for path in directory.rglob("*") if path.is_file()):
    with path.open("rb") as file:
      found = hashlib.file_digest(file, "sha256").hexdigest()
    total.update(f"{path.relative_to(directory)} {found}\n".encode())
  return total.hexdigest()


def run(
  plan: Plan,
  sources: Sequence[songs.SongSource],
  found: Sequence[measures.Measure],
  store: results.ResultStore,
  *,
  runner: str | None = None,
  options: Sequence[str] = (),
) -> Iterator[results.SongResult]:
  """Evaluates what is missing in a store.

  Args:
    plan: What is evaluated.
    sources: What `Plan.sources` gave.
    found: What `Plan.find_measures` found.
    store: Gets the results.
    runner: Name of a Beam runner; None for a plain loop.
    options: Flags for Beam.

  Yields:
    Results as they come; nothing where Beam runs.

  Raises:
    ValueError: Songs or models cannot be had.
  """
  if runner is None:
    yield from evaluate.evaluate(sources, plan.evaluator(found), store)
    return
  try:
    from music_spectrogram_diffusion.evaluation import beam
  except ModuleNotFoundError as error:
    raise ValueError(
      f"--beam_runner needs {error.name}:"
      " `pip install 'music-spectrogram-diffusion[data]'`."
    ) from error
  beam.evaluate_with_beam(
    sources, plan.evaluator, store, runner=runner, options=options
  )
