"""Whether a classifier is as sure of its classes as it is right, and how to make it so.

Notation: ``l`` logits, ``p`` probabilities of the classes, ``y`` the class of each example, ``T`` a
temperature: p_T = softmax(l/T).

Source: Guo et al., ICML 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from gentext.core import at_least_single, check_count, check_finite, check_labels, chosen
from gentext.core.shapes import Labels
from gentext.core.signatures import keep_contract

ClassLogits = Float[Tensor, "n classes"]
Probabilities = Float[Tensor, "n classes"]
PerBin = Float[Tensor, "bins"]

HALVINGS = 60  # of an interval of 1/T, whose ends differ by a factor of 2
OFF = 0.01  # that probabilities in half precision may sum beside 1


class Reliability(NamedTuple):
    """For each bin with an example: mean confidence, share that is right, number of examples."""

    confidence: PerBin
    accuracy: PerBin
    counts: Tensor


def cross_entropy_gradient(logits: ClassLogits, y: Labels) -> ClassLogits:
    """p − e_y, the gradient of −log p(y) in the logits of each example; e_y is 1 at y, else 0.

    Equation: :eq:`eq-bert-cegrad`
    """
    _check_logits(logits)
    y = check_labels(y, len(logits), logits.shape[1])
    p = at_least_single(logits).softmax(1)
    return p - one_hot(y, logits.shape[1]).to(p)


def temperature_scale(logits: ClassLogits, y: Labels) -> float:
    """The temperature T that makes the classes of validation data most likely under softmax(l/T).

    There the mean of E_{p_T}[l] is that of l_y; before, it is smaller, as it rises with 1/T.

    Raises ValueError where no temperature is best: the logits are right of every example (the best
    T is 0), or of none more than by chance (it is infinite).

    Equation: :eq:`eq-bert-tempscale`
    """
    _check_logits(logits)
    y = check_labels(y, len(logits), logits.shape[1]).cpu()
    centred = logits.detach().cpu().double()
    centred = centred - centred.mean(1, keepdim=True)
    unit = float(centred.abs().max()) or 1.0
    scaled = centred / unit
    l_y = scaled.gather(1, y[:, None]).mean()

    def excess(inverse: float) -> float:
        """The mean of E_{p_T}[l] − l_y at 1/T."""
        p = (inverse * scaled).softmax(1)
        return float((p * scaled).sum(1).mean() - l_y)

    _check_best(float(l_y), float(scaled.amax(1).mean()))
    return unit / _root(excess)


def _root(rising: Callable[[float], float]) -> float:
    """The number above 0 at which a rising function is 0."""
    low = high = 1.0
    while rising(low) > 0:
        low, high = low / 2, low
    while rising(high) < 0:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2


def _check_best(l_y: float, most: float) -> None:
    """Raise ValueError unless the mean logit of the label is above 0 and below the largest."""
    if l_y <= 1e-12:
        raise ValueError(
            "the logits of the labels y are not above the mean of all logits, so the best "
            "temperature is infinite; give a classifier that is better than chance"
        )
    if most - l_y <= 1e-12:
        raise ValueError(
            "the classifier is right of every example, so the best temperature is 0; give more "
            "validation data"
        )


def expected_calibration_error(
    p: Probabilities, y: Labels, *, bins: int = 15, equal: str = "width"
) -> float:
    """abs(accuracy − confidence), the mean over bins of confidence, weighted by their examples.

    Arguments:
        equal: "width" or "mass", as for ``reliability``.

    Equation: :eq:`eq-bert-tempscale`
    """
    confidence, accuracy, counts = reliability(p, y, bins=bins, equal=equal)
    return float((counts * (accuracy - confidence).abs()).sum() / counts.sum())


def reliability(
    p: Probabilities, y: Labels, *, bins: int = 15, equal: str = "width"
) -> Reliability:
    """Confidence, the largest probability, against accuracy, in bins: what a diagram shows.

    A bin contains its upper edge, not its lower one. Bins without an example are left out.

    Arguments:
        bins: how many at most.
        equal: "width", parts of [0, 1] of one length, or "mass", of nearly equal numbers of
            examples; examples of one confidence stay together.

    Raises ValueError where ``p`` are no probabilities, and for labels of other classes.
    """
    check_count("bins", bins)
    edges = chosen("kind of bins", equal, EDGES)
    _check_probabilities(p)
    y = check_labels(y, len(p), p.shape[1])
    confidence, predicted = at_least_single(p.detach()).max(1)
    place = torch.bucketize(confidence, edges(confidence, bins))
    counts = place.bincount(minlength=bins)
    sure = place.bincount(confidence, bins)
    right = place.bincount((predicted == y).to(confidence), bins)
    held = counts > 0
    sure, right, counts = sure[held], right[held], counts[held]
    return Reliability(sure / counts, right / counts, counts)


def _of_width(confidence: Tensor, bins: int) -> Tensor:
    return torch.arange(1, bins).to(confidence) / bins


def _of_mass(confidence: Tensor, bins: int) -> Tensor:
    places = -(-torch.arange(1, bins, device=confidence.device) * len(confidence) // bins) - 1
    return confidence.sort().values[places]


EDGES: dict[str, Callable[[Tensor, int], Tensor]] = {"width": _of_width, "mass": _of_mass}


def _check_logits(logits: Tensor) -> None:
    """Raise ValueError unless there are finite logits of two classes at least."""
    if logits.ndim != 2 or not len(logits) or logits.shape[1] < 2:
        raise ValueError(f"got logits of shape {tuple(logits.shape)}; give (n, classes), 2 or more")
    check_finite(logits, "logits", "give numbers", ValueError)


def _check_probabilities(p: Tensor) -> None:
    """Raise ValueError unless each row is a distribution over two classes at least."""
    if p.ndim != 2 or not len(p) or p.shape[1] < 2:
        raise ValueError(f"got p of shape {tuple(p.shape)}; give (n, classes), 2 classes or more")
    totals = at_least_single(p).sum(1)
    if not ((p >= 0).all() and ((totals - 1).abs() < OFF).all()):
        raise ValueError("p must be probabilities, each row summing to 1; give logits.softmax(1)")


keep_contract(globals())
