"""What every test runs under: checked signatures, CPU, strict promotion."""

import importlib.metadata
import os

# Before JAX is imported, and inherited by tests that start processes.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
# Most optimizations take longer than all that they would speed up.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
# What takes time in tests is the compiler, and half of that its emitters. A
# release that does not know the flag would abort.
if importlib.metadata.version("jaxlib").startswith("0.10."):
  os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_cpu_use_fusion_emitters=false"]
  )
# Commands that tests start leave the caches of the user alone.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"

import hypothesis
import jax
from jax.experimental.compilation_cache import compilation_cache
import jaxtyping
import pytest

jaxtyping.install_import_hook(
  "music_spectrogram_diffusion", "beartype.beartype"
)

# How long an example takes depends on what else the machine does, and on what
# is compiled for it.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def pytest_collection_modifyitems(items):
  """Begins with what takes longest, so that no worker is alone at the end."""
  items.sort(key=lambda item: item.path.parent.name not in ("training", "cli"))


@pytest.fixture(scope="module")
def kept_programs(tmp_path_factory):
  """Compiles a program once, whatever makes it anew."""
  settings = {
    "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("programs")),
    "jax_enable_compilation_cache": True,
  }
  before = {name: jax.config.values[name] for name in settings}
  for name, value in settings.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()  # Else it stays as it was at first.
  yield
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()
