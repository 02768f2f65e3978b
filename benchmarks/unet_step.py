"""`UNet` beside those of diffusers and denoising-diffusion-pytorch at equal numbers of parameters.

`plain` has the same maths and weights, in PyTorch's own modules.

`training` is a step on 16 colour images of 32 x 32, forward, backward and a fused AdamW; `drawing`
are ten evaluations for 16 images, as a sampler of ten steps makes them. The peers have three
resolutions, as ours has, and attention on the lowest (denoising-diffusion-pytorch has linear
attention on the others besides). Where other programs take part of the processor, the CPU time of
one thread is the clock to trust. Peers that are not installed are left out:
`pip install diffusers denoising-diffusion-pytorch`.
"""

from __future__ import annotations

import importlib.util
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import alternate, table
from benchmarks._plain_unet import PlainUNet
from gentext.denoising.unet import UNet

SHAPE, BATCH, ROUNDS, DRAWS = (3, 32, 32), 16, 9, 10

Contender = tuple[nn.Module, Callable[[Tensor, Tensor], Tensor]]


def gentext() -> Contender:
    """Ours."""
    model = UNet(shape=SHAPE)
    return model, model


def plain() -> Contender:
    """One of the same maths, as tutorials write it."""
    model = PlainUNet(UNet(shape=SHAPE))
    return model, model


def diffusers() -> Contender:
    """The UNet2DModel of diffusers with one block (on the way up two) on each resolution."""
    from diffusers import UNet2DModel

    model: Any = UNet2DModel(
        sample_size=SHAPE[1],
        in_channels=SHAPE[0],
        out_channels=SHAPE[0],
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
    )
    return model, lambda x, t: model(x, t).sample


def denoising_diffusion_pytorch() -> Contender:
    """The Unet of denoising-diffusion-pytorch, whose widths grow as its authors have them."""
    if not importlib.util.find_spec("torchvision"):  # imported there, but not by the network
        stand_in: Any = types.ModuleType("torchvision")
        stand_in.transforms = stand_in.utils = None
        sys.modules["torchvision"] = stand_in
    from denoising_diffusion_pytorch import Unet

    model = Unet(dim=20, dim_mults=(1, 2, 4), channels=SHAPE[0])
    return model, model


LIBRARIES = {
    make.__name__: make for make in (gentext, plain, diffusers, denoising_diffusion_pytorch)
}


def batch(n: int) -> tuple[Tensor, Tensor]:
    """Noise and times."""
    return torch.randn(n, *SHAPE), torch.randint(1000, (n,))


def training(contender: Contender) -> Callable[[], object]:
    """A step on one batch."""
    model, f = contender
    (x, t), (eps, _) = batch(BATCH), batch(BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def run() -> None:
        optimizer.zero_grad()
        F.mse_loss(f(x, t), eps).backward()
        optimizer.step()

    return run


def drawing(contender: Contender) -> Callable[[], object]:
    """``DRAWS`` evaluations, each of what the last one gave."""
    start, t = batch(BATCH)

    def run() -> None:
        x = start
        with torch.no_grad():
            for _ in range(DRAWS):
                x = x - 0.1 * contender[1](x, t)

    return run


def flops(contender: Contender) -> int:
    """Operations of one evaluation for one image, two for a multiplication and an addition."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        contender[1](*batch(1))
    return counter.get_total_flops()


def main() -> None:
    """Print the sizes, and a table for each job and clock."""
    torch.manual_seed(0)
    contenders = {
        name: make()
        for name, make in LIBRARIES.items()
        if name in ("gentext", "plain") or importlib.util.find_spec(name)
    }
    for name, contender in contenders.items():
        size = sum(p.numel() for p in contender[0].parameters())
        print(f"{name:32}{size:10,} parameters{flops(contender) / 1e6:8.0f} MFLOP an image")
    most = torch.get_num_threads()
    for job in (training, drawing):
        runs = {name[:23]: job(contender) for name, contender in contenders.items()}
        for threads, clock in ((most, time.perf_counter), (1, time.process_time)):
            torch.set_num_threads(threads)
            print(f"\n{job.__name__}, {threads} threads, {clock.__name__}")
            print(table(alternate(runs, ROUNDS, clock), "gentext"), flush=True)


if __name__ == "__main__":
    main()
