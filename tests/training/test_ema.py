"""The moving average against the weighted sum that it stands for."""

import math

import pytest
import torch
from models_to_train import QUIET, Line, Seldom, regression, seeded

from gentext.training.config import TrainConfig
from gentext.training.ema import Average
from gentext.training.train import fit


def test_ema_is_the_weighted_sum_of_the_weights_on_the_way():
    way = []
    config = TrainConfig(steps=30, lr=0.1, ema=0.9)
    model = seeded(Line).double()
    way.append(model.map.weight.detach().clone())
    fit(
        model,
        regression(),
        config,
        observers=[lambda step, m: way.append(m.map.weight.detach().clone())],
        **QUIET,
    )
    decays = [min(0.9, (1 + t) / (10 + t)) for t in range(1, 31)]
    coefficients = [math.prod(decays)] + [
        (1 - decays[t]) * math.prod(decays[t + 1 :]) for t in range(30)
    ]
    assert sum(coefficients) == pytest.approx(1)
    expected = sum(c * w for c, w in zip(coefficients, way, strict=True))
    torch.testing.assert_close(model.map.weight.detach(), expected)


def test_only_what_a_model_says_is_averaged():
    x = torch.ones(8, 1, dtype=torch.float64)
    last, mean = Seldom(), Seldom()
    fit(last, (x,), TrainConfig(steps=9, lr=0.05), **QUIET)
    fit(mean, (x,), TrainConfig(steps=9, lr=0.05, ema=0.9), **QUIET)
    assert float(mean.a.detach()) == float(last.a.detach())
    assert float(mean.b.detach()) != float(last.b.detach())


def test_the_average_moves_towards_the_weights_by_its_decay():
    model = seeded(Line).double()
    average, before = Average(model, 0.99), model.map.weight.detach().clone()
    with torch.no_grad():
        model.map.weight.fill_(3.0)
    for step in (1, 2000):  # young: the decay is (1 + 1)/(10 + 1); old: it is what was asked for
        average.update(step)
    share = (2 / 11) * 0.99
    expected = share * before + (1 - share) * 3.0
    torch.testing.assert_close(average.by_name()["map.weight"], expected)
    torch.testing.assert_close(model.map.weight.detach(), torch.full((1, 3), 3.0).double())


def test_weights_and_average_change_places_and_back():
    model = seeded(Line).double()
    average = Average(model, 0.5)
    with torch.no_grad():
        model.map.bias.fill_(3.0)
    average.update(100)
    last = [p.detach().clone() for p in model.parameters()]
    averages = [t.clone() for t in average.weights]
    average.copy_to_model()
    for p, a in zip(model.parameters(), averages, strict=True):
        assert torch.equal(p, a)
    other = Average(model, 0.5)  # as a resumed training has it: the model holds the average
    other.weights = [torch.zeros_like(t) for t in other.weights]
    other.copy_from_model(last)
    for p, t, a, w in zip(model.parameters(), last, averages, other.weights, strict=True):
        assert torch.equal(p, t)
        assert torch.equal(w, a)
