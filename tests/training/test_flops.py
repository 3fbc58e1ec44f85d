import jax
from jax import lax
from jax import numpy as jnp
import pytest

from music_spectrogram_diffusion.training import flops

A, B = jnp.zeros((3, 4)), jnp.zeros((4, 5))
PRODUCT = 2 * 3 * 4 * 5


def test_a_product_multiplies_and_adds():
  assert flops.count(jnp.matmul, A, B) == PRODUCT


def test_batched_products_count_each():
  result = flops.count(
    lambda a, b: jnp.einsum("bqhd,bkhd->bhqk", a, b),
    jnp.zeros((2, 6, 3, 5)),
    jnp.zeros((2, 7, 3, 5)),
  )
  assert result == 2 * (2 * 3 * 6 * 7) * 5


def test_a_gradient_takes_twice_the_work_of_its_function():
  def loss(a, b):
    return jnp.sum((a @ b) ** 2)

  result = flops.count(jax.value_and_grad(loss, argnums=(0, 1)), A, B)
  assert result == 3 * PRODUCT


def test_work_inside_of_other_functions_counts():
  @jax.jit
  def function(a, b):
    return jnp.sum(jax.checkpoint(jnp.matmul)(a, b))

  assert flops.count(function, A, B) == PRODUCT


def test_a_scan_counts_as_often_as_it_repeats():
  def function(x):
    return lax.scan(lambda x, _: (x @ x, None), x, None, length=7)[0]

  assert flops.count(function, jnp.zeros((4, 4))) == 7 * 2 * 4**3


def test_of_alternatives_the_larger_counts():
  def function(a, b):
    return lax.cond(
      a[0, 0] > 0, lambda: a @ b, lambda: (a @ b) @ (b.T @ b)[:5, :5]
    )

  extra = 2 * 5 * 4 * 5 + 2 * 3 * 5 * 5
  assert flops.count(function, A, B) == PRODUCT + extra


def test_a_convolution_counts_its_taps():
  def function(x, kernel):
    return lax.conv_general_dilated(
      x, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )

  result = flops.count(function, jnp.zeros((2, 10, 4)), jnp.zeros((3, 4, 8)))
  assert result == 2 * (2 * 10 * 8) * 3 * 4


class FakeDevice:
  platform = "gpu"

  def __init__(self, kind):
    self.device_kind = kind


@pytest.mark.parametrize(
  ("kind", "expected"),
  [
    ("NVIDIA H100 80GB HBM3", 989e12),
    ("NVIDIA H100 PCIe", 756e12),
    ("NVIDIA A100-SXM4-40GB", 312e12),
    ("NVIDIA A10G", 70e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5p", 459e12),
    ("Abacus", None),
  ],
)
def test_the_peak_of_a_device_is_found_by_its_name(kind, expected):
  assert flops.device_peak(FakeDevice(kind)) == expected


def test_the_peak_of_a_cpu_is_measured():
  assert 1e8 < flops.measured_peak(size=128, repeats=2) < 1e14
