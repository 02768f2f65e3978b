"""Networks that the chapters share: perceptrons, convolutional encoders and decoders.

Each takes and gives plain tensors; what the numbers mean is the model's business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gentext.shapes import Batch, Context, Flat, PerExample

NETWORKS = ("linear", "mlp", "conv")


def mlp(inputs: int, outputs: int, hidden: Sequence[int] = (256, 256)) -> nn.Sequential:
    """A perceptron ``inputs`` -> ``hidden`` ... -> ``outputs`` with SiLU between its layers."""
    sizes = (inputs, *hidden, outputs)
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


class Encoder(nn.Module):
    """Maps examples of ``shape``, beside an optional vector ``context``, to ``outputs`` numbers.

    ``net`` is "linear", "mlp" (two layers of ``hidden`` units) or "conv" (two strided
    convolutions of ``hidden``/8 and ``hidden``/4 channels; needs shape (c, h, w), h and w
    divisible by 4).
    """

    def __init__(
        self, shape: Sequence[int], outputs: int, *, hidden: int, net: str, context: int = 0
    ) -> None:
        super().__init__()
        check_network(net, shape, hidden)
        values = math.prod(shape)
        if net == "linear":
            self.features: nn.Module = nn.Flatten()
            self.head: nn.Module = nn.Linear(values + context, outputs)
        elif net == "mlp":
            self.features = nn.Sequential(nn.Flatten(), nn.Linear(values, hidden), nn.SiLU())
            self.head = mlp(hidden + context, outputs, (hidden,))
        else:
            self.features = convolutions(shape[0], hidden)
            size = hidden // 4 * (shape[1] // 4) * (shape[2] // 4)
            self.head = nn.Linear(size + context, outputs)

    def forward(self, x: Batch, context: Flat | None = None) -> Float[Tensor, "n out"]:
        """Numbers of shape (n, outputs)."""
        h = self.features(x)
        return self.head(h if context is None else torch.cat([h, context], dim=1))


class Decoder(nn.Module):
    """Maps ``inputs`` numbers to ``per_value`` numbers for each value of an example of ``shape``.

    The mirror image of :class:`Encoder`, with the same choices of ``net``.
    """

    def __init__(
        self, inputs: int, shape: Sequence[int], *, hidden: int, net: str, per_value: int = 1
    ) -> None:
        super().__init__()
        check_network(net, shape, hidden)
        self.shape = (per_value, *shape)
        values = math.prod(self.shape)
        if net == "linear":
            self.network: nn.Module = nn.Linear(inputs, values)
        elif net == "mlp":
            self.network = mlp(inputs, values, (hidden, hidden))
        else:
            self.network = transposed_convolutions(inputs, shape, hidden, per_value)

    def forward(self, z: Flat) -> Float[Tensor, "n per_value *event"]:
        """Numbers of shape (n, per_value, *shape)."""
        return self.network(z).reshape(-1, *self.shape)


def convolutions(channels: int, hidden: int) -> nn.Sequential:
    """Two convolutions of stride 2 with SiLU; gives flat features."""
    few, many = hidden // 8, hidden // 4
    return nn.Sequential(
        nn.Conv2d(channels, few, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(few, many, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Flatten(),
    )


def transposed_convolutions(
    inputs: int, shape: Sequence[int], hidden: int, per_value: int
) -> nn.Sequential:
    """A linear layer to a quarter of the resolution and two transposed convolutions."""
    few, many = hidden // 8, hidden // 4
    height, width = shape[1] // 4, shape[2] // 4
    return nn.Sequential(
        nn.Linear(inputs, many * height * width),
        nn.SiLU(),
        nn.Unflatten(1, (many, height, width)),
        nn.ConvTranspose2d(many, few, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.ConvTranspose2d(few, per_value * shape[0], 4, stride=2, padding=1),
    )


def check_network(net: str, shape: Sequence[int], hidden: int) -> None:
    """Raise ValueError unless ``net`` is known and fits examples of ``shape``."""
    if net not in NETWORKS:
        raise ValueError(f"unknown net {net!r}: choose one of {', '.join(NETWORKS)}")
    if net == "conv" and (len(shape) != 3 or shape[1] % 4 or shape[2] % 4):
        raise ValueError(
            f"net='conv' needs images (c, h, w) with h and w divisible by 4, but got shape "
            f"{tuple(shape)}: use net='mlp'"
        )
    if net == "conv" and hidden < 8:
        raise ValueError(f"net='conv' needs hidden >= 8, of which it takes eighths; got {hidden}")


class MaskedLinear(nn.Linear):
    """A linear layer of which ``mask`` (outputs, inputs) leaves only some weights."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The product with the masked weights."""
        return nn.functional.linear(x, self.mask * self.weight, self.bias)


def made_masks(features: int, hidden: Sequence[int], outputs: int) -> list[Tensor]:
    """The masks by which ``outputs`` numbers for feature d depend on features before d only.

    Unit k has number m_k = 1 + (k mod (features − 1)), and input d the number d = 1, 2, ...: a unit
    takes from those of smaller or equal number, an output only from smaller ones (Germain et al.
    2015).

    Equation: :eq:`eq-ar-made`
    """
    order = torch.arange(1, features + 1)
    numbers = [order, *(1 + torch.arange(size) % max(1, features - 1) for size in hidden)]
    masks = [(after[:, None] >= before).float() for before, after in pairwise(numbers)]
    last = order.repeat_interleave(outputs)
    return [*masks, (last[:, None] > numbers[-1]).float()]


class MaskedMLP(nn.Module):
    """A perceptron whose ``outputs`` numbers for each feature see only the features before it.

    All of them see the ``context`` numbers, which are given beside the features.
    """

    def __init__(
        self, features: int, hidden: Sequence[int], *, outputs: int, context: int = 0
    ) -> None:
        super().__init__()
        self.features, self.outputs = features, outputs
        first, *others = made_masks(features, hidden, outputs)
        layers: list[nn.Module] = []
        for mask in (torch.cat([first, torch.ones(len(first), context)], 1), *others):
            layers += [MaskedLinear(mask), nn.SiLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Flat, context: Context | None = None) -> Float[Tensor, "n d out"]:
        """Numbers of shape (n, features, outputs)."""
        x = x if context is None else torch.cat([x, context], 1)
        return self.layers(x).unflatten(-1, (self.features, self.outputs))

    def read(self, n: int, context: Context | None = None) -> Reader:
        """Reads ``n`` rows one feature after the other, with the work of one pass in all."""
        return Reader(self, n, context)


class Reader:
    """A ``MaskedMLP`` that is given one feature after the other.

    A hidden unit of number m can be computed once feature m is known, and never changes again. So
    the units are put in the order of their numbers, and each feature adds a few of them.
    """

    def __init__(self, net: MaskedMLP, n: int, context: Context | None) -> None:
        layers = [layer for layer in net.layers if isinstance(layer, MaskedLinear)]
        features, self.outputs, self.d = net.features, net.outputs, 0
        columns = torch.arange(features)  # of the layer's inputs, in order
        self.weights, self.biases, self.ends = [], [], []
        for layer in layers[:-1]:
            numbers = torch.arange(layer.out_features) % max(1, features - 1)
            rows = numbers.argsort(stable=True)
            weight = layer.mask * layer.weight
            bias = layer.bias[rows, None]
            if layer is layers[0] and context is not None:
                bias = bias + weight[rows, features:] @ context.t()
            self.weights.append(weight[rows][:, columns])
            self.biases.append(bias)
            self.ends.append(numbers.bincount(minlength=features).cumsum(0).tolist())
            columns = rows
        last = layers[-1]
        self.weights.append((last.mask * last.weight)[:, columns])
        self.biases.append(last.bias[:, None])
        # What is known at each layer: one tensor to write into, or parts for gradients.
        sizes = (features, *(len(weight) for weight in self.weights[:-1]))
        self.known = [last.weight.new_empty(size, n) for size in sizes]
        self.parts: list[list[Tensor]] | None = (
            [[] for _ in sizes] if torch.is_grad_enabled() else None
        )

    def _product(self, k: int, rows: slice, seen: int) -> Tensor:
        """The ``rows`` of layer k of the ``seen`` first inputs, which are known."""
        parts = self.parts and self.parts[k]
        known = torch.cat(parts) if parts and seen else self.known[k][:seen]
        return torch.addmm(self.biases[k][rows], self.weights[k][rows, :seen], known)

    def _keep(self, k: int, rows: slice, values: Tensor) -> None:
        if self.parts is None:
            self.known[k][rows] = values
        else:
            self.parts[k].append(values)

    def parameters(self) -> Float[Tensor, "out n"]:
        """The numbers for the next feature, which all features read so far determine."""
        rows = slice(self.d * self.outputs, (self.d + 1) * self.outputs)
        return self._product(-1, rows, self.ends[-1][self.d - 1] if self.d else 0)

    def add(self, x: PerExample) -> None:
        """Read the next feature (n,)."""
        seen = self.d + 1
        self._keep(0, slice(self.d, seen), x[None])
        for k, ends in enumerate(self.ends):
            rows = slice(ends[self.d - 1] if self.d else 0, ends[self.d])
            self._keep(k + 1, rows, nn.functional.silu(self._product(k, rows, seen)))
            seen = ends[self.d]
        self.d += 1
