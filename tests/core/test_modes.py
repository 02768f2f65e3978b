"""Precision and modes: what holds inside, and that all is as it was afterwards."""

import pytest
import torch
from torch import nn

from gentext.core import Precise, at_least_single, evaluating, in_evaluation, plain_precision


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


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.dropout = nn.Dropout(0.5)

    @in_evaluation
    def value(self, x, *, scale=1.0):
        """What is known of x."""
        return scale * self.dropout(self.weight * x)


@pytest.mark.parametrize("training", [True, False])
def test_a_method_in_evaluation_has_no_dropout_but_gradients(training):
    model = Noisy().train(training)
    y = model.value(torch.ones(3), scale=2.0)
    assert y.tolist() == [2, 2, 2]
    assert model.dropout.training == training
    y.sum().backward()
    assert model.weight.grad.tolist() == [2, 2, 2]
    assert Noisy.value.__doc__ == "What is known of x."


def test_recurrent_layers_stay_in_the_mode_that_has_gradients():
    """cuDNN refuses them in evaluation mode; without dropout inside there is no difference."""
    plain, noisy = nn.GRU(2, 2), nn.GRU(2, 2, num_layers=2, dropout=0.5)
    model = nn.ModuleList([plain, noisy]).train()
    with evaluating(model):
        assert (plain.training, noisy.training) == (True, False)
    with torch.no_grad(), evaluating(model):
        assert (plain.training, noisy.training) == (False, False)
    assert (plain.training, noisy.training) == (True, True)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int16, torch.int64])
def test_what_is_precise_leaves_other_numbers_as_they_are(dtype):
    module = Precise()
    module.register_buffer("mask", torch.ones(2, dtype=dtype))
    module.register_buffer("level", torch.tensor([0.1, 1 / 3]))
    level = module.level.clone()
    for cast in (module.bfloat16, module.half, module.float, module.cpu):
        assert cast().mask.dtype == dtype
        assert module.level.equal(level)
