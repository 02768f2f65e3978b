"""Training steps of flow matching by `fit` beside a bare loop on the same network, with AdamW.

Both have its fused form, and draw data, times and noise afresh at each step; the bare loop draws
its times independently of each other. The time of `fit` is that of the whole call, with the order
of the data and the looks at the losses. Then the search for the best pairs of a batch beside
SciPy's.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from benchmarks import alternate, table
from gentext.denoising.flow_matching import FlowMatching
from gentext.denoising.transport import assignment
from gentext.denoising.unet import TimeMLP, UNet
from gentext.training.config import TrainConfig
from gentext.training.train import fit

EXAMPLES, ROUNDS = 20_000, 15
JOBS: dict[str, tuple[type[nn.Module], Sequence[int], dict[str, Any], int, int]] = {
    "perceptron, points of the plane": (TimeMLP, (2,), {"hidden": 128, "layers": 3}, 256, 300),
    "U-Net, images of 8x8": (UNet, (1, 8, 8), {"channels": 24, "multipliers": (1, 2)}, 64, 30),
}


def bare_loop(net: nn.Module, x: Tensor, steps: int, batch: int) -> None:
    """``steps`` of them, without anything around."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    for _ in range(steps):
        x_0 = x[torch.randint(len(x), (batch,))]
        eps, t = torch.randn_like(x_0), torch.rand(batch)
        s = t.view(-1, *(1 for _ in x.shape[1:]))
        optimizer.zero_grad()
        mse_loss(net((1 - s) * x_0 + s * eps, 1000 * t), eps - x_0).backward()
        optimizer.step()


def training() -> None:
    """A table for each network."""
    for name, (network, shape, options, batch, steps) in JOBS.items():
        torch.manual_seed(0)
        x = torch.randn(EXAMPLES, *shape)
        nets = [network(shape=shape, **options) for _ in range(2)]
        model = FlowMatching(shape=shape, net=nets[1])
        config = TrainConfig(steps=steps, batch_size=batch)
        contenders: dict[str, Callable[[], object]] = {
            "bare loop": lambda n=nets[0], x=x, s=steps, b=batch: bare_loop(n, x, s, b),
            "fit": lambda m=model, x=x, c=config: fit(m, (x,), c, progress=False),
        }
        print(f"\n{name}, {steps} steps of {batch}")
        for kind, clock in {"wall clock": time.perf_counter, "CPU": time.process_time}.items():
            print(f"{kind}\n{table(alternate(contenders, ROUNDS, clock), 'bare loop')}", flush=True)


def pairing() -> None:
    """A table for each size of a batch."""
    for n, d in ((128, 2), (256, 2), (128, 64)):
        torch.manual_seed(0)
        x, eps = torch.randn(2, n, d, dtype=torch.float64)
        cost = -((2 * x + 3 * x.sign()) @ eps.T).numpy()
        contenders: dict[str, Callable[[], object]] = {"ours": lambda c=cost: assignment(c)}
        if importlib.util.find_spec("scipy"):
            from scipy.optimize import linear_sum_assignment

            contenders["scipy"] = lambda c=cost: linear_sum_assignment(c)
        print(f"\nthe best pairs of {n} points in {d} dimensions")
        print(table(alternate(contenders, ROUNDS), "ours"), flush=True)


def main() -> None:
    """Print the tables."""
    training()
    pairing()


if __name__ == "__main__":
    main()
