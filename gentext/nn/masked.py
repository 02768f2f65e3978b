"""Masked perceptrons: their numbers for a feature depend only on the features before it.

Notation: ``x`` (n, d) examples of D features, numbered in their order; m_k the number of a hidden
unit, up to which it sees the features; h the values of a layer's units.

Source: Germain et al., MADE, ICML 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gentext.core import as_weights, check_count, check_counts
from gentext.core.shapes import Context, Flat, PerExample
from gentext.core.signatures import keep_contract
from gentext.nn.nets import stacked


class MaskedLinear(nn.Linear):
    """A linear layer of which ``mask`` (outputs, inputs) leaves only some weights."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        if mask.ndim != 2 or not mask.numel():
            raise ValueError(
                f"got a mask of shape {tuple(mask.shape)}; give (outputs, inputs), 1 at least"
            )
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The product with the masked weights."""
        return nn.functional.linear(x, self.mask * self.weight, self.bias)


def to_columns(net: nn.Sequential, x: Flat) -> Float[Tensor, "out n"]:
    """The numbers of a perceptron for examples, as columns instead of rows.

    So the numbers for one value lie together for all examples, and what follows runs along memory.
    """
    *hidden, end = net
    last: Any = end  # linear, if maybe with low-rank updates: it has a weight and a bias
    for layer in hidden:
        if isinstance(layer, nn.SiLU):  # in place where no gradient needs what was there
            x = nn.functional.silu(x, inplace=not torch.is_grad_enabled())
        else:
            x = layer(x)
    weight = last.mask * last.weight if isinstance(last, MaskedLinear) else last.weight
    return torch.addmm(last.bias[:, None], weight, x.t())


def unit_numbers(size: int, features: int) -> Int[Tensor, "units"]:
    """The numbers m_k = 1 + (k mod (features − 1)) of the ``size`` units of a hidden layer."""
    return 1 + torch.arange(size) % max(1, features - 1)


def made_masks(features: int, hidden: Sequence[int], outputs: int) -> list[Tensor]:
    """The masks by which ``outputs`` numbers for feature d depend on features before d only.

    Input d has the number d = 1, 2, ...: a unit takes from those of smaller or equal number, an
    output only from smaller ones. The first outputs of all features come first, then the second
    ones, and so on.

    Equation: :eq:`eq-ar-made`
    """
    order = torch.arange(1, features + 1)
    numbers = [order, *(unit_numbers(size, features) for size in hidden)]
    masks = [(after[:, None] >= before).float() for before, after in pairwise(numbers)]
    return [*masks, (order.repeat(outputs)[:, None] > numbers[-1]).float()]


class MaskedMLP(nn.Module):
    """A perceptron whose ``outputs`` numbers for each feature see only the features before it.

    With ``reverse`` the last feature comes first. The numbers for all features but the first see
    the ``context`` numbers as well, which are given beside the features.
    """

    def __init__(
        self,
        features: int,
        hidden: Sequence[int],
        *,
        outputs: int,
        context: int = 0,
        reverse: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not hidden:
            raise ValueError("got hidden=(); give the size of at least one layer")
        for size in hidden:
            check_count("hidden", size)
        check_counts(features=features, outputs=outputs)
        self.features, self.outputs = features, outputs
        self.order = [features - 1 - d if reverse else d for d in range(features)]
        first, *others, last = made_masks(features, hidden, outputs)
        last = last.unflatten(0, (outputs, features))[:, self.order].flatten(0, 1)
        first = torch.cat([first[:, self.order], torch.ones(len(first), context)], 1)
        self.layers = stacked([MaskedLinear(mask) for mask in (first, *others, last)], dropout)
        # For ``Reader``, here so that they move to the device once: the order of the features, that
        # of the hidden units by their numbers, and how many units are known after each feature.
        self.inputs: Tensor
        self.register_buffer("inputs", torch.tensor(self.order), persistent=False)
        self.ends: list[list[int]] = []
        for k, units in enumerate(hidden):
            numbers = unit_numbers(units, features)
            self.register_buffer(f"rows{k}", numbers.argsort(stable=True), persistent=False)
            self.ends.append((numbers - 1).bincount(minlength=features).cumsum(0).tolist())

    def columns(self, x: Flat, context: Context | None = None) -> Float[Tensor, "out d n"]:
        """Numbers of shape (outputs, features, n), a row for all examples."""
        x = as_weights(x if context is None else torch.cat([x, context], 1), self)
        return to_columns(self.layers, x).unflatten(0, (self.outputs, self.features))

    def forward(self, x: Flat, context: Context | None = None) -> Float[Tensor, "n d out"]:
        """Numbers of shape (n, features, outputs)."""
        return self.columns(x, context).permute(2, 1, 0)

    def read(self, n: int, context: Context | None = None) -> Reader:
        """Reads ``n`` rows one feature after the other, with the work of one pass in all."""
        return Reader(self, n, context)


class Reader:
    """A ``MaskedMLP`` that is given one feature after the other; it drops none of them out.

    A hidden unit of number m can be computed once feature m is known, and never changes again. So
    the units are put in the order of their numbers, and each feature adds a few of them.
    """

    def __init__(self, net: MaskedMLP, n: int, context: Context | None) -> None:
        *hidden, last = [layer for layer in net.layers if isinstance(layer, MaskedLinear)]
        self.d = 0  # how many features are read
        self.layers: list[tuple[Sequence[Tensor], Sequence[Tensor]]] = []  # weights, biases
        self.ends = net.ends  # how many units of a layer are known after each feature
        known = net.inputs  # the inputs of a layer in the order in which they are known
        for k, layer in enumerate(hidden):
            rows = net.get_buffer(f"rows{k}")
            self._cut(layer, rows, known, net.ends[k], None if k else context)
            known = rows
        shape, order = (net.outputs, net.features, -1), net.inputs
        weights = (last.mask * last.weight)[:, known].view(shape)[:, order]
        self.weights, self.biases = weights.unbind(1), last.bias.view(shape)[:, order].unbind(1)
        # What is known at each layer: one tensor to write into, or parts for gradients.
        sizes = [net.features, *(ends[-1] for ends in self.ends)]
        self.known = [last.weight.new_empty(size, n) for size in sizes]
        self.parts: list[list[Tensor]] | None = (
            [[] for _ in sizes] if torch.is_grad_enabled() else None
        )

    def _cut(
        self,
        layer: MaskedLinear,
        rows: Tensor,
        known: Tensor,
        ends: list[int],
        context: Context | None,
    ) -> None:
        """Cut a hidden layer, in the order ``rows``, into the units that each feature adds."""
        weight, bias = layer.mask * layer.weight, layer.bias[rows, None]
        if context is not None:
            bias = bias + weight[rows, len(known) :] @ context.to(bias.dtype).t()
        sizes = [end - start for start, end in pairwise([0, *ends])]
        self.layers.append((weight[rows][:, known].split(sizes), bias.split(sizes)))

    def parameters(self) -> Float[Tensor, "out n"]:
        """The numbers for the next feature, which all features read so far determine."""
        seen = self.ends[-1][self.d - 1] if self.d else 0
        known = self._known(-1, seen)
        return torch.addmm(self.biases[self.d], self.weights[self.d][:, :seen], known)

    def add(self, x: PerExample) -> None:
        """Read the next feature (n,)."""
        if self.parts is None:
            self.known[0][self.d] = x
        else:
            self.parts[0].append(x[None].to(self.known[0].dtype))
        seen = self.d + 1
        for k, (weights, biases) in enumerate(self.layers):
            start, end = self.ends[k][self.d - 1] if self.d else 0, self.ends[k][self.d]
            weight, known = weights[self.d][:, :seen], self._known(k, seen)
            if self.parts is None:
                rows = self.known[k + 1][start:end]
                nn.functional.silu(torch.addmm(biases[self.d], weight, known, out=rows), True)
            else:
                h = torch.addmm(biases[self.d], weight, known)
                self.parts[k + 1].append(nn.functional.silu(h))
            seen = end
        self.d += 1

    def _known(self, k: int, seen: int) -> Tensor:
        """The ``seen`` first inputs of layer k."""
        if self.parts is not None and seen:
            return torch.cat(self.parts[k])
        return self.known[k][:seen]


keep_contract(globals())
