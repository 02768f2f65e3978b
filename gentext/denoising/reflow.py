"""Rectified flow: a flow trained on its own pairs of noise and data, whose paths are straighter.

The paths of a flow do not cross, so the lines between their ends cross less than those of pairs
drawn at random. A second flow that learns from these lines needs fewer steps.

Notation: as in ``flow_matching``; ``pairs`` (x_0, ε) of the two ends of paths.

Source: Liu et al., ICLR 2023.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gentext.core import Model
from gentext.core.shapes import Batch, Scalar
from gentext.core.signatures import keep_contract
from gentext.denoising.conditions import Given
from gentext.denoising.flow_matching import FlowMatching


class Reflow(Model):
    """The training of ``flow`` on pairs (x_0, ε) or (x_0, ε, y): ``fit(Reflow(flow=...), pairs)``.

    It has no weights of its own; what is trained is the flow.

    Source: Liu et al., ICLR 2023.
    """

    def __init__(self, *, flow: FlowMatching) -> None:
        super().__init__()
        self.flow = flow

    def check(self, x_0: Tensor, eps: Tensor, *labels: Tensor) -> None:
        """Raise ValueError for data, noise or labels that do not fit."""
        self.flow.check(x_0, *labels)
        if eps.shape != x_0.shape:
            raise ValueError(
                f"got {tuple(eps.shape)} beside data of {tuple(x_0.shape)}: give noise of the same "
                "shape to pair with them"
            )

    def loss(self, x_0: Batch, eps: Batch, y: Given | None = None) -> Scalar:
        """The loss of the flow on the lines between the pairs.

        Equation: :eq:`eq-sde-cfm`
        """
        return self.flow.loss(x_0, y, eps=eps)


def reflow_pairs(
    model: FlowMatching,
    n: int,
    y: Given | None = None,
    *,
    steps: int = 50,
    method: str = "heun",
    generator: torch.Generator | None = None,
) -> tuple[Batch, Batch]:
    """``n`` pairs (x_0, ε) of noise and what the model makes of it, to train another flow on.

    Both have the distributions they had, and no convex cost of carrying one to the other is higher
    than by the pairs that ``model`` was trained on. They are not the best pairs in general.

    Equation: :eq:`eq-sde-reflow`

    Source: Liu et al., ICLR 2023.
    """
    eps, *_, x_0 = model.trajectory(n, y, steps=steps, method=method, generator=generator)
    return x_0, eps


@torch.no_grad()
def straightness(
    model: FlowMatching,
    n: int,
    y: Given | None = None,
    *,
    steps: int = 50,
    generator: torch.Generator | None = None,
) -> Scalar:
    """∫ E‖(x_1 − x_0) − u(x_t, t)‖² dt over ``n`` paths: 0 where all are straight.

    Then a single step of Euler's method draws what many do.

    Source: Liu et al., ICLR 2023.
    """
    points = torch.stack(list(model.trajectory(n, y, steps=steps, generator=generator)))
    pieces = (points[1:] - points[:-1]) * steps  # the mean of −u over each step
    whole = points[-1] - points[0]
    return (pieces - whole).square().flatten(2).sum(2).mean()


keep_contract(globals())
