"""Training steps of a DCGAN by `fit` beside a plain loop on the same networks, with fused AdamW.

Images of 28x28, without penalties and with R1 and R2. The plain loop is what one writes from the
papers: two optimisers, samples detached in the critic's turn, the critic's weights left as they are
in the generator's. The time of `fit` is that of the whole call.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from benchmarks import alternate, table
from gentext.adversarial.gan import ImageGAN
from gentext.training.config import TrainConfig
from gentext.training.train import fit

STEPS, BATCH, LATENT, ROUNDS = 20, 64, 64, 11


def game(penalties: dict[str, float]) -> ImageGAN:
    """The networks of the book's recipe."""
    networks: dict[str, Any] = {"generator": "dcgan", "critic": "dcgan", "channels": 32}
    torch.manual_seed(0)
    return ImageGAN(shape=(1, 28, 28), latent=LATENT, penalties=penalties, **networks)


def plain_loop(gan: ImageGAN, x: Tensor, weight: float) -> None:
    """``STEPS`` steps of the relativistic game, with ``weight`` of R1 and R2."""
    make, judge = gan.generator, gan.critic
    optimizers = [
        torch.optim.AdamW(net.parameters(), lr=2e-3, betas=(0.0, 0.99), fused=True)
        for net in (judge, make)
    ]
    for _ in range(STEPS):
        real = 2 * x[torch.randint(len(x), (BATCH,))] - 1
        fake = make(torch.randn(BATCH, LATENT)).detach()
        optimizers[0].zero_grad()
        if weight:
            real.requires_grad_()
            fake.requires_grad_()
        a, b = judge(real), judge(fake)
        loss = softplus(b - a).mean()
        if weight:
            for values, images in ((a, real), (b, fake)):
                (slope,) = torch.autograd.grad(values.sum(), images, create_graph=True)
                loss = loss + weight / 2 * slope.square().sum((1, 2, 3)).mean()
        loss.backward()
        optimizers[0].step()

        optimizers[1].zero_grad()
        fake = make(torch.randn(BATCH, LATENT))
        softplus(judge(real.detach()) - judge(fake)).mean().backward()
        optimizers[1].step()


def main() -> None:
    """A table with penalties and one without."""
    x = torch.rand(4000, 1, 28, 28)
    config = TrainConfig(steps=STEPS, batch_size=BATCH, lr=2e-3, betas=(0.0, 0.99))
    for name, penalties in {"no penalty": {}, "R1 and R2": {"r1": 3.0, "r2": 3.0}}.items():
        ours, theirs = game(penalties), game(penalties)
        weight = penalties.get("r1", 0.0)
        contenders: dict[str, Callable[[], object]] = {
            "plain loop": lambda g=theirs, w=weight: plain_loop(g, x, w),
            "fit": lambda g=ours: fit(g, (x,), config, progress=False),
        }
        print(f"\n{name}, {STEPS} steps of {BATCH}")
        for kind, clock in {"wall clock": time.perf_counter, "CPU": time.process_time}.items():
            shown = table(alternate(contenders, ROUNDS, clock), "plain loop")
            print(f"{kind}\n{shown}", flush=True)


if __name__ == "__main__":
    main()
