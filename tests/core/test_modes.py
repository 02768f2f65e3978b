"""Precision and modes: what holds inside, and that all is as it was afterwards."""

import pytest
import torch
from torch import nn

from gentext.core import at_least_single, evaluating, plain_precision


def test_autocast_is_off_inside_and_on_again_outside():
    x = torch.randn(3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with plain_precision(x):
            assert (x @ x).dtype == torch.float32
        assert (x @ x).dtype == torch.bfloat16


def test_a_device_without_autocast_needs_nothing():
    x = torch.randn(3, 3, device="meta")
    with plain_precision(x):
        assert (x @ x).dtype == torch.float32


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_half_precision_becomes_single(given, expected):
    x = torch.tensor([0.5, 1.5], dtype=given)
    assert at_least_single(x).dtype == expected
    assert at_least_single(x).tolist() == [0.5, 1.5]
    assert (at_least_single(x) is x) == (given == expected)


@pytest.mark.parametrize("error", [None, KeyError])
@pytest.mark.parametrize("training", [(), (0,), (0, 1), (1,), (0, 1, 2), (2,)])
def test_each_part_is_in_the_mode_it_had(training, error):
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2)).eval()
    parts = [model, *model]
    for i in training:
        parts[i].training = True
    before = [part.training for part in parts]
    try:
        with evaluating(model):
            assert not any(part.training for part in parts)
            if error:
                raise error
    except KeyError:
        pass
    assert [part.training for part in parts] == before
    assert sum(before) == len(training)
