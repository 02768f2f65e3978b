"""Flows beside those of zuko, nflows and normflows of equal architecture.

All have the same layers with networks of the same sizes, in 64 and in 2 dimensions, with batches of
512; only the affine layers of normflows have two networks, one for the scales and one for the
shifts, and the masked networks of nflows and normflows no activation after their first layer.
`density` is the log-density of a batch and its gradient in the parameters; `draws` are 512
samples. Peers that are not installed are left out: `pip install zuko nflows normflows`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from benchmarks import alternate, table
from gentext.flows.bases import NormalBase
from gentext.flows.flow import MAF, Flow
from gentext.flows.transforms import Coupling
from gentext.flows.univariate import Affine, Spline
from gentext.nn.nets import mlp

BATCH, ROUNDS = 512, 15
HIDDEN, BINS, BOUND = (128, 128), 8, 5.0
LAYERS = {"spline": 4, "affine": 8, "autoregressive": 4}

Contender = tuple[nn.Module, Callable[[Tensor], Tensor], Callable[[int], Tensor]]


def gentext(kind: str, features: int) -> Contender:
    """Ours."""
    if kind == "autoregressive":
        flow: Flow = MAF(features=features, transforms=LAYERS[kind], hidden=HIDDEN)
    else:
        layers = [
            Coupling(
                features,
                univariate=Spline(BINS, BOUND) if kind == "spline" else Affine(),
                odd=bool(k % 2),
                hidden=HIDDEN,
            )
            for k in range(LAYERS[kind])
        ]
        flow = Flow(base=NormalBase(features), transforms=layers)
    return flow, flow.log_prob, flow.sample


def zuko(kind: str, features: int) -> Contender:
    """Zuko's couplings and masked autoregressive flow."""
    import zuko as library
    from zuko.flows.coupling import GeneralCouplingTransform

    options: dict[str, Any] = {"hidden_features": HIDDEN, "activation": nn.SiLU}
    if kind == "autoregressive":
        flow: Any = library.flows.MAF(features, transforms=LAYERS[kind], **options)
    else:
        if kind == "spline":
            options["univariate"] = library.transforms.MonotonicRQSTransform
            options["shapes"] = [(BINS,), (BINS,), (BINS - 1,)]
        layers = [
            GeneralCouplingTransform(features, mask=torch.arange(features) % 2 == k % 2, **options)
            for k in range(LAYERS[kind])
        ]
        base = library.lazy.UnconditionalDistribution(
            library.distributions.DiagNormal,
            torch.zeros(features),
            torch.ones(features),
            buffer=True,
        )
        flow = library.lazy.Flow(layers, base)
    return flow, lambda x: flow().log_prob(x), lambda n: flow().sample((n,))


class Net(nn.Module):
    """Our perceptron where a library also gives it a context."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.net = mlp(inputs, outputs, HIDDEN)

    def forward(self, x: Tensor, context: Any = None) -> Tensor:
        """The network of x."""
        return self.net(x)


def nflows(kind: str, features: int) -> Contender:
    """Those of nflows."""
    from nflows import transforms
    from nflows.distributions import StandardNormal
    from nflows.flows import Flow

    layers: list[Any] = []
    for k in range(LAYERS[kind]):
        mask = torch.arange(features) % 2 == k % 2
        if kind == "spline":
            layers.append(
                transforms.PiecewiseRationalQuadraticCouplingTransform(
                    mask.int(), Net, num_bins=BINS, tails="linear", tail_bound=BOUND
                )
            )
        elif kind == "affine":
            layers.append(transforms.AffineCouplingTransform(mask.int(), Net))
        else:
            layers += [
                transforms.MaskedAffineAutoregressiveTransform(
                    features, HIDDEN[0], num_blocks=1, use_residual_blocks=False, activation=silu
                ),
                transforms.ReversePermutation(features),
            ]
    flow = Flow(transforms.CompositeTransform(layers), StandardNormal([features]))
    return flow, flow.log_prob, flow.sample


def normflows(kind: str, features: int) -> Contender:
    """Those of normflows."""
    import normflows as library
    from normflows.flows.neural_spline.coupling import PiecewiseRationalQuadraticCoupling

    class Spline(library.flows.Flow):
        def __init__(self, k: int) -> None:
            super().__init__()
            self.layer = PiecewiseRationalQuadraticCoupling(
                (torch.arange(features) % 2 == k % 2).int(),
                Net,
                num_bins=BINS,
                tails="linear",
                tail_bound=BOUND,
            )

        def forward(self, z: Tensor) -> Any:
            return self.layer.inverse(z)

        def inverse(self, x: Tensor) -> Any:
            return self.layer(x)

    def affine(k: int) -> Any:
        mask = (torch.arange(features) % 2 == k % 2).float()
        return library.flows.MaskedAffineFlow(
            mask, mlp(features, features, HIDDEN), mlp(features, features, HIDDEN)
        )

    class Autoregressive(library.flows.Flow):  # theirs draws at once: turned round
        def __init__(self, _: int) -> None:
            super().__init__()
            self.layer = library.flows.MaskedAffineAutoregressive(
                features, HIDDEN[0], num_blocks=1, use_residual_blocks=False, activation=silu
            )

        def forward(self, z: Tensor) -> Any:
            return self.layer.inverse(z)

        def inverse(self, x: Tensor) -> Any:
            return self.layer(x)

    make = {"spline": Spline, "affine": affine, "autoregressive": Autoregressive}[kind]
    layers = [make(k) for k in range(LAYERS[kind])]
    base = library.distributions.DiagGaussian(features, trainable=False)
    flow = library.NormalizingFlow(base, layers)
    return flow, flow.log_prob, lambda n: flow.sample(n)[0]


LIBRARIES = {"gentext": gentext, "zuko": zuko, "nflows": nflows, "normflows": normflows}


def density(contender: Contender, x: Tensor) -> Callable[[], object]:
    """The mean log-density of x and its gradient."""
    model, log_prob, _ = contender

    def run() -> None:
        for parameter in model.parameters():
            parameter.grad = None
        log_prob(x).mean().backward()

    return run


def draws(contender: Contender, n: int) -> Callable[[], object]:
    """``n`` samples."""

    def run() -> None:
        with torch.no_grad():
            contender[2](n)

    return run


def main() -> None:
    """Print a table for each kind of flow, dimension and job."""
    there = {
        name: make
        for name, make in LIBRARIES.items()
        if name == "gentext" or importlib.util.find_spec(name)
    }
    print(f"{torch.get_num_threads()} threads, batches of {BATCH}")
    for kind in LAYERS:
        for features in (64, 2):
            torch.manual_seed(0)
            x = torch.randn(BATCH, features)
            flows = {name: make(kind, features) for name, make in there.items()}
            for job in ("density", "draws"):
                tasks = {
                    name: density(flow, x) if job == "density" else draws(flow, BATCH)
                    for name, flow in flows.items()
                }
                seconds = alternate(tasks, ROUNDS)
                others = {k: min(v) for k, v in seconds.items() if k != "gentext"}
                print(f"\n{kind}, {features} dimensions, {job}\n{table(seconds, 'gentext')}")
                for name in sorted(others, key=others.__getitem__)[:1]:
                    best = others[name] / min(seconds["gentext"])
                    print(f"least time of {name}, the fastest other, by ours: {best:.2f}")


if __name__ == "__main__":
    main()
