"""Experiments with classifiers, in whose features samples are compared."""

from __future__ import annotations

import pytest

from gentext import recipes, zoo


@pytest.mark.parametrize(
    "name",
    ["classifier_digits", "classifier_fashion", "classifier_mnist", "noisy_classifier_fashion"],
)
def test_a_classifier_knows_the_classes_of_its_data(name: str) -> None:
    model, dataset, _ = recipes.build(name, "quick")
    assert model.classes == len(dataset.classes) == 10
    assert model.shape == dataset.shape
    x, y = dataset.test
    assert int(y.max()) == 9
    trained = zoo.load(name)
    assert trained.arguments == model.arguments
    if name.startswith("classifier"):
        assert float(trained.accuracy(x[:300], y[:300])) > 0.8 > float(model.accuracy(x, y))
