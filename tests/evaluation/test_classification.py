"""F1 against scikit-learn and hand counts."""

from __future__ import annotations

import pytest
import torch
from sklearn import metrics

from gentext.evaluation import classification


@pytest.mark.equation("eq-bert-f1")
@pytest.mark.parametrize(("classes", "seed"), [(2, 0), (4, 1), (30, 2)])
def test_f1_is_that_of_scikit_learn(classes: int, seed: int) -> None:
    """Of 30 classes some are never predicted, or not there."""
    torch.manual_seed(seed)
    weights = torch.arange(1.0, classes + 1) ** 2
    y, predicted = (weights.multinomial(200, replacement=True) for _ in range(2))
    predicted[:120] = y[:120]
    each = metrics.f1_score(y, predicted, average=None)
    assert classification.f1_of_classes(predicted, y).tolist() == pytest.approx(each, abs=1e-12)
    macro = metrics.f1_score(y, predicted, average="macro")
    assert classification.f1_macro(predicted, y) == pytest.approx(macro, abs=1e-12)
    micro = metrics.f1_score(y, predicted, average="micro")
    assert classification.f1_micro(predicted, y) == pytest.approx(micro, abs=1e-12)


@pytest.mark.equation("eq-bert-f1")
def test_micro_is_the_accuracy_and_macro_counts_rare_classes_alike() -> None:
    """Nine of ten are of class 0 and all are called so: F1 is 18/19 of it, and 0 of class 1."""
    y = torch.tensor([0] * 9 + [1])
    predicted = torch.zeros_like(y)
    assert classification.f1_of_classes(predicted, y).tolist() == [18 / 19, 0]
    assert classification.f1_macro(predicted, y) == pytest.approx(9 / 19, abs=1e-15)
    assert classification.f1_micro(predicted, y) == 0.9


@pytest.mark.parametrize(
    ("predicted", "y", "message"),
    [
        ([0, 1], [0, 1, 1], r"\(3,\)"),
        ([[0, 1]], [[0, 1]], r"\(1, 2\)"),
        ([0.2, 0.8], [0, 1], "integers"),
    ],
)
def test_what_are_no_pairs_of_classes_is_refused(predicted, y, message) -> None:
    for score in (classification.f1_macro, classification.f1_micro):
        with pytest.raises(ValueError, match=message):
            score(torch.tensor(predicted), torch.tensor(y))
    none = torch.zeros(0, dtype=torch.long)
    with pytest.raises(ValueError, match=r"shape \(0,\)"):
        classification.f1_macro(none, none)
