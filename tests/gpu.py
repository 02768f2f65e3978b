"""What the tests of a GPU share: the device, models and batches, and the CPU's random numbers.

``GENTEXT_TEST_DEVICE=cpu`` runs the same tests without a GPU, to see that they themselves are
sound.
"""

from __future__ import annotations

import copy
import functools
import os
from types import SimpleNamespace
from typing import Any

import pytest
import small_models
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gentext import recipes
from gentext.core import Model
from gentext.recipes import RECIPES

DEVICE = os.environ.get("GENTEXT_TEST_DEVICE", "cuda")
MARKS = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="needs a GPU"),
]
TOYS = (  # families of which no recipe is
    *("MADE", "WaveNet", "IAF", "Glow", "flow of a mixture", "flow of a uniform base"),
    *("recurrent of rows", "VQ-VAE by gradients", "continuous Bernoulli VAE", "logistic PixelCNN"),
    *("diffusion Transformer", "VE score", "conditional flow matching", "Reflow"),
    *("Wasserstein GAN", "spectral GAN"),
)
NAMES = [*RECIPES, *TOYS]
NEW = {torch.randn, torch.rand, torch.randint, torch.randperm}
LIKE = {torch.randn_like: torch.randn, torch.rand_like: torch.rand}
FROM = {torch.normal, torch.bernoulli, torch.multinomial}
INTO = {Tensor.normal_, Tensor.uniform_, Tensor.exponential_, Tensor.random_}


class DrawnOnTheCPU(TorchFunctionMode):
    """Every random number comes from the CPU's generator, whatever device asks for it."""

    def __torch_function__(self, f: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Draw on the CPU and move."""
        kwargs = dict(kwargs or {})
        if f in LIKE:
            like, kwargs = args[0], {"dtype": args[0].dtype, "device": args[0].device, **kwargs}
            f, args = LIKE[f], (like.shape,)
        if f in NEW:
            device = kwargs.pop("device", None) or torch.get_default_device()
            return f(*args, **kwargs, device="cpu").to(device)
        if f in FROM:
            device = next(a.device for a in (*args, *kwargs.values()) if isinstance(a, Tensor))
            moved = [a.cpu() if isinstance(a, Tensor) else a for a in args]
            named = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in kwargs.items()}
            return f(*moved, **named).to(device)
        if f in INTO:
            return args[0].copy_(f(args[0].cpu(), *args[1:], **kwargs))
        return f(*args, **kwargs)


@functools.cache
def built(name: str) -> tuple[Model, Any]:
    """The model of a recipe or a family on the CPU, without dropout, and its data."""
    torch.manual_seed(0)
    if name in RECIPES:
        model, data, _ = recipes.build(name, "quick")
    else:
        model, rows = small_models.built(name)
        data = SimpleNamespace(train=rows)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "dropout", None), float):  # of attention and of cells
            module.dropout = 0.0
    return model, data


@functools.cache
def awake(name: str) -> Model:
    """A tiny model whose weights are moved, so that no layer gives 0."""
    return small_models.moved(small_models.built(name)[0]).eval()


def batch(name: str, n: int = 16) -> tuple[Tensor, ...]:
    """Some training examples; of tokens fewer, and of long rows the beginning."""
    rows = built(name)[1].train
    if rows[0].is_floating_point():
        return tuple(t[:n] for t in rows)
    return tuple(t[: n // 4][..., :64] for t in rows)


def on(device: str, model: Any, x: tuple[Tensor, ...], job: Any) -> Any:
    """What ``job`` makes of a copy of the model and a batch on a device, from the same seed."""
    model, x = copy.deepcopy(model).to(device), tuple(t.to(device) for t in x)
    torch.manual_seed(1)
    with DrawnOnTheCPU():
        return job(model, *x)


def close(model: Any, x: tuple[Tensor, ...], job: Any, rtol: float, atol: float) -> None:
    """The job gives the same on both devices, and on the GPU what it gives is there."""
    here, there = (on(device, model, x, job) for device in ("cpu", DEVICE))
    assert here.keys() == there.keys()
    for key, value in here.items():
        assert there[key].device.type == DEVICE, key
        torch.testing.assert_close(there[key].cpu(), value, rtol=rtol, atol=atol, msg=key)


def nearly(model: Any, x: tuple[Tensor, ...], job: Any, share: float = 0.05) -> None:
    """Nearly all values are the same: one at the edge of a grey level or a draw may fall off."""
    here, there = (on(device, model, x, job) for device in ("cpu", DEVICE))
    for key, value in here.items():
        assert there[key].device.type == DEVICE, key
        assert there[key].shape == value.shape, key
        far = (there[key].cpu().float() - value.float()).abs() > 1e-2
        assert float(far.float().mean()) <= share, key
