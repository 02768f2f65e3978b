"""How well classes are predicted, when they are not equally common: the F1 score.

Notation: of a class, ``TP`` examples that are in it and put there, ``FP`` that are put there but
not in it, ``FN`` that are in it but put elsewhere.

Source: van Rijsbergen, Information Retrieval, 1979.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from gentext.core import whole_numbers
from gentext.core.shapes import Labels
from gentext.core.signatures import keep_contract


def f1_of_classes(predicted: Labels, y: Labels) -> Float[Tensor, "classes"]:
    """F1 = 2TP/(2TP + FP + FN) of each class that is predicted or there, in their order.

    Raises ValueError unless there is one prediction for each label, and one at least.

    Equation: :eq:`eq-bert-f1`
    """
    predicted, y = _paired(predicted, y)
    classes = torch.cat([predicted, y]).unique()[:, None]
    TP = ((predicted == classes) & (y == classes)).sum(1)
    FP_and_TP, FN_and_TP = (predicted == classes).sum(1), (y == classes).sum(1)
    return 2 * TP.double() / (FP_and_TP + FN_and_TP)


def f1_macro(predicted: Labels, y: Labels) -> float:
    """The mean of F1 over the classes, each counting the same however rare it is.

    Equation: :eq:`eq-bert-f1`
    """
    return float(f1_of_classes(predicted, y).mean())


def f1_micro(predicted: Labels, y: Labels) -> float:
    """F1 of TP, FP and FN summed over the classes, which is the accuracy.

    Each wrong prediction is one FP, of the class that was named, and one FN, of the true one.

    Equation: :eq:`eq-bert-f1`
    """
    predicted, y = _paired(predicted, y)
    TP = int((predicted == y).sum())
    FP = FN = len(y) - TP
    return 2 * TP / (2 * TP + FP + FN)


def _paired(predicted: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both as whole numbers in main memory."""
    predicted, y = whole_numbers(predicted, "predictions"), whole_numbers(y, "labels")
    if predicted.shape != y.shape or y.ndim != 1 or not len(y):
        raise ValueError(
            f"got predictions of shape {tuple(predicted.shape)} for labels of shape "
            f"{tuple(y.shape)}; give one for each, (n,)"
        )
    return predicted.cpu(), y.cpu()


keep_contract(globals())
