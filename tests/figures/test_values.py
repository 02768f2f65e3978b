"""Numbers of any kind as plain arrays, and one number with its error."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from gentext.figures import values


class Elsewhere(torch.Tensor):
    """A tensor that, like those of a GPU, must come to the CPU before NumPy sees it."""

    def cpu(self):
        return self.as_subclass(torch.Tensor)

    def numpy(self):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_narrow_floats_are_widened_exactly(dtype):
    x = torch.tensor([0.5, -1.75, 448.0])
    found = values.numbers(x.to(dtype), "x")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, x.numpy())


def test_numbers_are_kept_as_they_are_where_numpy_has_their_kind():
    for kind in (torch.float64, torch.float32, torch.int64, torch.int32):
        x = torch.arange(3).to(kind)
        found = values.numbers(x, "x")
        np.testing.assert_array_equal(found, x.numpy())
        assert torch.from_numpy(found).dtype == kind
    assert values.numbers(np.float16([0.5]), "x").dtype == np.float32


def test_numbers_come_from_another_device_and_off_the_graph():
    x = torch.tensor([[1.0, 2.0]], requires_grad=True).as_subclass(Elsewhere)
    assert values.numbers(x, "x").tolist() == [[1, 2]]
    assert values.numbers([x[0], (x * 2)[0]], "x").tolist() == [[1, 2], [2, 4]]


@pytest.mark.parametrize("wrong", [["a"], None, {"a": 1}, [Fraction(1, 2)], (k for k in "ab")])
def test_what_is_no_number_is_named(wrong):
    with pytest.raises(ValueError, match="losses must be real numbers, got"):
        values.numbers(wrong, "losses")


def test_an_error_has_two_digits_and_its_value_as_many():
    """Against rounding in decimals, over 40 powers of ten."""
    generator = np.random.default_rng(0)
    for power in np.linspace(-10, 3, 40):
        error = 10**power * generator.uniform(1, 9.4)
        value = 100 * error * generator.uniform(1, 10)
        shown = values.measured(value, error).split(" ± ")
        place = max(0, 1 - math.floor(math.log10(error)))
        assert abs(float(shown[0]) - value) <= 0.5000001 * 10.0**-place
        assert float(shown[1]) == pytest.approx(error, rel=0.05, abs=0.5)
    assert values.measured(1.0, 1e-30) == "1.000000000000 ± 0.000000000000"
