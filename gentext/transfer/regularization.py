"""Dropout as a penalty: what noise on the inputs adds, on average, to the loss of a linear model.

Notation: ``x`` (n, d) inputs, ``y`` (n,) targets, ``w`` (d,) weights; each input is set to 0 with
probability q = ``rate``, and divided by 1 − q where it is not, independently of all others.

Source: Srivastava et al., JMLR 2014 (section 9.1); Wager et al., NeurIPS 2013.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from gentext.core import at_least_single, check_dropout
from gentext.core.shapes import Scalar
from gentext.core.signatures import keep_contract


def dropout_penalty(x: Float[Tensor, "n d"], w: Float[Tensor, "d"], rate: float) -> Scalar:
    """q/(1 − q) Σ_j w_j² Σ_i x_ij², in the units of y², which dropout adds to ‖y − x w‖².

    It is a ridge whose strength differs from weight to weight: large where inputs are large. For
    standardised inputs it is n q/(1 − q) ‖w‖², a ridge like any other.

    Equation: :eq:`eq-pre-dropout`
    """
    check_dropout(rate)
    squares = at_least_single(x).square().sum(0)
    return rate / (1 - rate) * (at_least_single(w).square() * squares).sum()


keep_contract(globals())
