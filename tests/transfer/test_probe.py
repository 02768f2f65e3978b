"""The linear probe against its own optimum by another method, and on data that are known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracles import F64, minimize
from torch import Tensor
from torch.nn.functional import cross_entropy

import gentext as gt
from gentext.core import Classifies
from gentext.transfer.probe import LinearProbe


def clouds(n: int, classes: int, d: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Normal clouds that overlap, of means that do not depend on the seed."""
    means = 2 * torch.randn(classes, d, dtype=F64, generator=torch.Generator().manual_seed(9))
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    x = means[y] + 1.5 * torch.randn(n, d, dtype=F64, generator=generator)
    return 3 * x + torch.tensor([0.0, 100.0, -5.0, 1.0]), y


@pytest.mark.parametrize("classes", [2, 3])
def test_it_is_the_minimum_of_the_penalised_likelihood(classes: int) -> None:
    """Also of two classes, of which the library knows one row of weights alone."""
    x, y = clouds(60, classes)
    probe = LinearProbe.fit(x, y, (x, y), classes=classes, penalties=[0.7])
    z = (x - x.mean(0)) / x.std(0, correction=0)
    W, b = torch.zeros(classes, 4, dtype=F64), torch.zeros(classes, dtype=F64)
    W.requires_grad_(), b.requires_grad_()

    def loss() -> Tensor:
        return cross_entropy(z @ W.T + b, y, reduction="sum") + 0.7 / 2 * W.square().sum()

    minimize(loss, [W, b])
    torch.testing.assert_close(probe.weight, W.detach(), rtol=0, atol=1e-4)
    log_p = (z @ W.T + b).log_softmax(1)[range(60), y].detach()
    torch.testing.assert_close(probe.log_prob(x, y), log_p, rtol=0, atol=1e-4)
    assert isinstance(probe, Classifies)
    assert float(probe.accuracy(x, y)) == float((probe.predict(x) == y).float().mean())


def test_the_penalty_is_the_best_of_all_on_validation_data() -> None:
    (x, y), other = clouds(12, 3), clouds(300, 3, seed=1)
    penalties = (1e-3, 0.1, 1.0, 10.0, 1e3)
    means = {
        penalty: float(
            LinearProbe.fit(x, y, other, classes=3, penalties=[penalty]).log_prob(*other).mean()
        )
        for penalty in penalties
    }
    best = max(means, key=lambda penalty: means[penalty])
    assert penalties[0] < best < penalties[-1]
    assert LinearProbe.fit(x, y, other, classes=3, penalties=penalties).penalty == best


def test_features_are_standardised_by_the_training_rows_alone() -> None:
    """Units do not matter, and a feature that never varied there says nothing."""
    (x, y), (x_new, y_new) = clouds(40, 3), clouds(30, 3, seed=2)
    constant = torch.full((40, 1), 7.0, dtype=F64)
    varied = torch.randn(30, 1, dtype=F64) + 7.0
    probes = [
        LinearProbe.fit(x * unit, y, (x_new * unit, y_new), classes=3) for unit in (1.0, 1000.0)
    ]
    made = [p.log_prob(x_new * u, y_new) for p, u in zip(probes, (1.0, 1000.0), strict=True)]
    torch.testing.assert_close(made[0], made[1], rtol=1e-6, atol=1e-6)
    wider = LinearProbe.fit(
        torch.cat([x, constant], 1), y, (torch.cat([x_new, varied], 1), y_new), classes=3
    )
    torch.testing.assert_close(
        wider.log_prob(torch.cat([x_new, varied], 1), y_new), made[0], rtol=1e-4, atol=1e-4
    )


def test_raw_pixels_of_digits_are_a_strong_baseline() -> None:
    """Ten labels a class give about 89 % right."""
    data = gt.data.load("digits")
    (x, y), (x_v, y_v), (x_t, y_t) = data.train, data.validation, data.test
    rows = torch.cat([(y == k).nonzero()[:10, 0] for k in range(10)])
    probe = LinearProbe.fit(x[rows], y[rows], (x_v, y_v), classes=10)
    assert 0.85 < float(probe.accuracy(x_t, y_t)) < 0.95


def test_it_moves_and_is_saved_like_a_module() -> None:
    x, y = clouds(30, 3)
    probe = LinearProbe.fit(x.float(), y, (x.float(), y), classes=3, penalties=[1.0])
    assert probe.logits(x.float()).dtype == torch.float32
    twin = LinearProbe(probe.mean * 0, probe.std, probe.weight * 0, probe.bias, 1.0)
    twin.load_state_dict(probe.state_dict())
    assert twin.logits(x.float()).equal(probe.logits(x.float()))
    assert probe.bfloat16().logits(x.float()).dtype == torch.float32


X, Y = clouds(12, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"y": Y.clamp(max=1)}, "no example of class 2"),
        ({"y": Y + 1}, "label 3"),
        ({"y": Y.double()}, "float64"),
        ({"y": Y[:4]}, r"\(4,\)"),
        ({"x": X[:, 0]}, r"features \(12,\)"),
        ({"x": X / 0}, "NaN or infinite"),
        ({"validation": (X[:, :2], Y)}, "2 features"),
        ({"validation": (X, Y - 1)}, "label -1"),
        ({"penalties": []}, "no penalties"),
        ({"penalties": [0.0]}, "penalty must be above 0"),
        ({"classes": 1}, "classes"),
    ],
)
def test_what_cannot_be_fitted_is_refused(given: dict[str, Any], message: str) -> None:
    usual: dict[str, Any] = {"x": X, "y": Y, "validation": (X, Y), "classes": 3}
    with pytest.raises(ValueError, match=message):
        LinearProbe.fit(**usual | given)
