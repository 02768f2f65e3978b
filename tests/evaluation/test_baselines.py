"""The linear classifier of texts against problems whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch

from gentext import text
from gentext.evaluation import baselines, calibration
from gentext.evaluation.baselines import ngram_baseline

TRAIN = ["a cat sat", "cats sit", "the dog ran", "dogs run"] * 5
Y = [0, 0, 1, 1] * 5


def test_classes_that_one_word_tells_are_told() -> None:
    made = ngram_baseline(TRAIN, Y, ["one cat", "one dog"], [0, 1], unit="words", longest=1)
    assert made.validation_accuracy == 1
    assert made.predict(["that cat", "that dog"]).tolist() == [0, 1]
    assert baselines.COSTS[-1] == made.C  # the surer, the larger is the likelihood
    total = made.log_prob(["that cat", "unheard of"]).logsumexp(1)
    torch.testing.assert_close(total, torch.zeros(2).double(), rtol=0, atol=1e-12)


def test_a_text_of_nothing_known_has_the_classes_at_the_shares_of_training() -> None:
    """The penalty is on words alone, and leaves the intercept free."""
    texts, y = [f"word{k % 2}" for k in range(40)], [0] * 30 + [1] * 10
    made = ngram_baseline(texts, y, ["word0"], [0], unit="words", costs=(1e-6,))
    p = made.log_prob(["nothing of these"]).exp()[0]
    assert p.tolist() == pytest.approx([0.75, 0.25], abs=1e-3)


def test_the_cost_is_the_one_that_is_best_on_validation() -> None:
    """Words that told classes apart in training alone: the weaker they weigh, the better."""
    texts = [f"w{k} {'good' if k % 4 else 'bad'}" for k in range(40)]
    y = [int(k % 4 > 0) for k in range(40)]
    wrong = [1 - label for label in y]
    costs = (0.01, 1.0, 100.0)
    right = ngram_baseline(texts, y, texts, y, unit="words", costs=costs)
    assert right.C == 100
    assert ngram_baseline(texts, y, texts, wrong, unit="words", costs=costs).C == 0.01


def test_genres_of_poems_are_told_far_above_chance_and_probabilities_can_be_calibrated() -> None:
    corpus = text.load("genre-zh")
    y = {split: torch.tensor(labels) for split, labels in corpus.labels.items()}
    made = ngram_baseline(
        corpus.train[:1000], y["train"][:1000], corpus.validation, y["validation"], longest=1
    )
    assert (made.predict(corpus.test) == y["test"]).double().mean() > 0.8
    T = calibration.temperature_scale(made.log_prob(corpus.validation), y["validation"])
    p = made.log_prob(corpus.test)
    errors = [calibration.expected_calibration_error((p / t).softmax(1), y["test"]) for t in (1, T)]
    assert errors[1] < max(errors[0], 0.05)
    assert math.isfinite(T)


@pytest.mark.parametrize(
    ("y", "validation", "given", "message"),
    [
        ([0] * 20, [0, 0], {}, "1 classes"),
        ([0, 2] * 10, [0, 2], {}, "is of class 1"),
        ([0, 1] * 9, [0, 1], {}, r"shape \(18,\)"),
        (Y, [0, 2], {}, "label 2"),
        (Y, [0, 1], {"unit": "lines"}, "'lines'.*characters, words"),
        (Y, [0, 1], {"longest": 0}, "longest=0"),
        (Y, [0, 1], {"costs": ()}, "no costs"),
        (Y, [0, 1], {"costs": (1.0, 0.0)}, r"C=0\.0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(y, validation, given, message) -> None:
    with pytest.raises(ValueError, match=message):
        ngram_baseline(TRAIN, y, ["a cat", "a dog"], validation, **given)
