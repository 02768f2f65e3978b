"""A linear classifier of texts: what a network must beat to be worth its training.

Notation: ``y`` the class of each text, 0 to classes − 1; ``C`` the inverse strength of the prior.

Source: Wang and Manning, ACL 2012 (n-grams with a linear classifier as a baseline).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gentext.core import check_count, check_labels, check_number, chosen
from gentext.core.shapes import Labels
from gentext.core.signatures import keep_contract

UNITS = {"characters": "char", "words": "word"}
COSTS = (0.1, 1.0, 10.0, 100.0, 1000.0)  # of C
MOST = 5000  # steps of the optimiser, which stops before


@dataclass(frozen=True)
class NgramBaseline:
    """p(y | text) by logistic regression on n-grams; ``C`` and the accuracy it was chosen by."""

    vectorizer: Any
    regression: Any
    C: float
    validation_accuracy: float

    def log_prob(self, texts: Sequence[str]) -> Float[Tensor, "n classes"]:
        """log p(y | text) of every class."""
        rows = self.regression.predict_log_proba(self.vectorizer.transform(texts))
        return torch.from_numpy(rows)

    def predict(self, texts: Sequence[str]) -> Labels:
        """The most probable class of each text."""
        return self.log_prob(texts).argmax(1)


def ngram_baseline(
    texts: Sequence[str],
    y: Tensor | Sequence[int],
    validation: Sequence[str],
    y_validation: Tensor | Sequence[int],
    *,
    unit: str = "characters",
    longest: int = 2,
    costs: Sequence[float] = COSTS,
) -> NgramBaseline:
    """Logistic regression on weighted n-grams, with the C that is best on validation.

    An n-gram counts 1 + log of how often it is in a text, times log of how rare it is among texts;
    each text is scaled to length 1. Of equally accurate C the one of the larger likelihood is kept.

    Arguments:
        unit: n-grams of "characters" or "words".
        longest: n runs from 1 to this.
        costs: the values of C that are tried.

    Raises ValueError where texts and labels are no pairs, or a class has no text to train on.
    """
    y = _checked(texts, y)
    y_validation = _checked(validation, y_validation, y)
    check_count("longest", longest)
    if not costs:
        raise ValueError("got no costs; give values of C, such as (1.0, 10.0)")
    for C in costs:
        check_number("C", C, above=0)
    vectorizer = _vectorizer(chosen("unit", unit, UNITS), longest)
    x, x_validation = vectorizer.fit_transform(texts), vectorizer.transform(validation)
    tried = [_fitted(x, y, C) for C in costs]
    scores = [_score(regression, x_validation, y_validation) for regression in tried]
    best = max(range(len(tried)), key=scores.__getitem__)
    return NgramBaseline(vectorizer, tried[best], costs[best], scores[best][0])


def _vectorizer(analyzer: str, longest: int) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(analyzer=analyzer, ngram_range=(1, longest), sublinear_tf=True)


def _fitted(x: Any, y: Tensor, C: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=C, max_iter=MOST).fit(x, y.numpy())


def _score(regression: Any, x: Any, y: Tensor) -> tuple[float, float]:
    """Accuracy, then the mean of log p(y | text)."""
    log_p = torch.from_numpy(regression.predict_log_proba(x))
    right = float((log_p.argmax(1) == y).double().mean())
    return right, float(log_p.gather(1, y[:, None]).mean())


def _checked(texts: Sequence[str], y: Any, trained: Tensor | None = None) -> Tensor:
    """The labels as a tensor; those of validation are of classes that were trained on."""
    y = torch.as_tensor(y).cpu()
    known = y if trained is None else trained
    classes = int(known.max()) + 1 if known.numel() else 0
    if not len(texts) or classes < (2 if trained is None else 1):
        raise ValueError(f"got {len(texts)} texts of {classes} classes; give texts of 2 or more")
    y = check_labels(y, len(texts), classes)
    missing = sorted(set(range(classes)) - set(known.tolist()))
    if missing:
        raise ValueError(f"no text to train on is of class {missing[0]}; give one of each class")
    return y


keep_contract(globals())
