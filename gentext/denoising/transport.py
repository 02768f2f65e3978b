"""Optimal transport between two batches: which point goes where, so that the whole way is short.

Each of n points on one side is assigned to one on the other. The best assignment is found exactly,
by shortest augmenting paths: points are added one after the other, each by the cheapest chain of
others that give way, and prices keep what was found optimal. Prices from a few rounds of Sinkhorn's
algorithm to begin with leave little to do.

Notation: ``cost`` (n, n) of sending row i to column j; ``u``, ``v`` the prices of rows and columns,
cost − u − v ≥ 0 everywhere and = 0 where assigned.

Source: Jonker and Volgenant, Computing 1987; Cuturi, NeurIPS 2013 (the beginning).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from gentext.core.shapes import Batch, Labels, Scalar
from gentext.core.signatures import keep_contract
from gentext.denoising.conditions import Given

ROUNDS = 10  # of Sinkhorn's algorithm
BLUR = 0.05  # its temperature, in standard deviations of the costs

Costs = NDArray[np.float64]
Places = NDArray[np.int64]


def transport_cost(a: Tensor, b: Tensor) -> Scalar:
    """The mean of ‖a − b‖² over pairs: what it costs to carry one to the other.

    Equation: :eq:`eq-sde-reflow`
    """
    if a.shape != b.shape:
        raise ValueError(
            f"got {tuple(a.shape)} and {tuple(b.shape)}; pairs need as many examples of one shape"
        )
    return (a - b).square().flatten(1).sum(1).mean()


@torch.compiler.disable
def optimal_order(x: Batch, eps: Batch, y: Given | None = None) -> Labels:
    """The order of ``eps`` that carries it to ``x`` at the least cost, among those of equal ``y``.

    Were noise exchanged between classes or prompts, that of one would no longer be normal.
    """
    for name, z in (("x", x), ("eps", eps)):
        if z.is_complex():
            raise ValueError(f"got {name} of {z.dtype}; give real numbers")
    order = torch.arange(len(x), device=x.device)
    if x.device.type == "meta":
        return order
    a, b = (z.detach().flatten(1).double().cpu() for z in (x, eps))
    for rows in _groups(y):
        # half the squared distance without the squares, which are the same in every order
        best = assignment(-(a[rows] @ b[rows].T).numpy())
        order[rows] = order[rows][torch.from_numpy(best).to(order)]
    return order


def _groups(y: Given | None) -> list[Any]:
    """For each of the labels or prompts, which rows of a batch have it."""
    if y is None:
        return [slice(None)]
    rows = y.cpu().flatten(1) if y.dim() > 1 else y.cpu()[:, None]
    return [(rows == one).all(1) for one in rows.unique(dim=0)]


def assignment(cost: Float[np.ndarray, "rows columns"]) -> Int[np.ndarray, "rows"]:
    """The column of each row, all different, with the least sum of costs.

    Source: Jonker and Volgenant, Computing 1987.
    """
    if cost.ndim != 2 or cost.shape[0] != cost.shape[1] or not np.isfinite(cost).all():
        raise ValueError(
            f"got costs of shape {cost.shape}; an assignment needs a square table of finite ones"
        )
    cost = cost.astype(np.float64)
    v = _prices(cost)
    u = (cost - v).min(1)
    row_of, column_of = (np.full(len(cost), -1) for _ in "rc")
    for row, column in enumerate((cost - v).argmin(1)):
        if row_of[column] < 0:  # the first who wants a column has it
            row_of[column], column_of[row] = row, column
    for left in np.flatnonzero(column_of < 0):
        _augment(cost, u, v, row_of, column_of, int(left))
    return column_of


def _prices(cost: Costs) -> Costs:
    """Prices of the columns, near the best ones."""
    blur = BLUR * cost.std() + 1e-12 * np.abs(cost).max() + 1e-300
    v = np.zeros(len(cost))
    for _ in range(ROUNDS):
        u = _soft_min(cost - v, blur)
        v = _soft_min(cost.T - u, blur)
    return v


def _soft_min(z: Costs, blur: float) -> Costs:
    """−blur log Σ exp(−z/blur) over the last axis."""
    least = z.min(-1)
    return least - blur * np.log(np.exp((least[:, None] - z) / blur).sum(-1))


def _augment(cost: Costs, u: Costs, v: Costs, row_of: Places, column_of: Places, row: int) -> None:
    """Assign one more row, along the cheapest path to a free column; the prices follow."""
    distance, before = cost[row] - u[row] - v, np.full(len(cost), row)
    done = np.zeros(len(cost), dtype=bool)
    while True:
        column = int(np.where(done, np.inf, distance).argmin())
        owner = int(row_of[column])
        if owner < 0:
            break
        done[column] = True
        through = distance[column] + cost[owner] - u[owner] - v
        shorter = (through < distance) & ~done
        distance[shorter], before[shorter] = through[shorter], owner
    gain = distance[column] - distance[done]
    v[done] -= gain
    u[row_of[done]] += gain
    u[row] += distance[column]
    while owner != row:  # each on the path gives way to the one before
        owner = int(before[column])
        row_of[column], column_of[owner], column = owner, column, column_of[owner]


keep_contract(globals())
