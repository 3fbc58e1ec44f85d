"""What holds for the tests of the room."""

import jax
import pytest


@pytest.fixture(scope="package", autouse=True)
def quick_compilation():
  """Compiles without most optimizations, which here take longer than all."""
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)
