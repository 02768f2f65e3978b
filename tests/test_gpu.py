"""What holds for every experiment on a GPU: the numbers of the CPU, and no waiting in a step.

Random numbers are drawn on the CPU and moved, so that both devices see the same; the kernels of
matrix products and convolutions are those of single precision. ``GENTEXT_TEST_DEVICE=cpu`` runs
the same without a GPU, to see that the tests themselves are sound.
"""

from __future__ import annotations

import copy
import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gentext import checkpoint, recipes
from gentext.core import Bound, Density, Generates, Model, Samples
from gentext.recipes import RECIPES
from gentext.sequences.autoregressive import Autoregressive
from gentext.training.train import TrainConfig, fit

DEVICE = os.environ.get("GENTEXT_TEST_DEVICE", "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="needs a GPU"),
]
NAMES = list(RECIPES)
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
    """The model of an experiment on the CPU, without dropout, and its data."""
    torch.manual_seed(0)
    model, data, _ = recipes.build(name, "quick")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "dropout", None), float):  # of attention and of cells
            module.dropout = 0.0
    return model, data


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    """Single precision throughout."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def batch(name: str, n: int = 16) -> tuple[Tensor, ...]:
    """Some training examples; of tokens fewer, and of long rows the beginning."""
    rows = built(name)[1].train
    if rows[0].is_floating_point():
        return tuple(t[:n] for t in rows)
    return tuple(t[: n // 4, :64] for t in rows)


def on(device: str, name: str, job: Any) -> Any:
    """What ``job`` makes of a copy of the model and a batch on a device, from the same seed."""
    model = copy.deepcopy(built(name)[0]).to(device)
    x = tuple(t.to(device) for t in batch(name))
    torch.manual_seed(1)
    with DrawnOnTheCPU():
        return job(model, *x)


def close(name: str, job: Any, rtol: float, atol: float) -> None:
    """The job gives the same on both devices, and on the GPU what it gives is there."""
    here, there = (on(device, name, job) for device in ("cpu", DEVICE))
    for key, value in here.items():
        assert there[key].device.type == DEVICE, key
        torch.testing.assert_close(there[key].cpu(), value, rtol=rtol, atol=atol, msg=key)


def steps(model: Model, *x: Tensor) -> dict[str, Tensor]:
    """The losses and gradients of the first two steps of training."""
    model.train()
    made: dict[str, Tensor] = {}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for step in range(2):
        for turn in model.turns():
            optimizer.zero_grad()
            loss = model(*x, turn=turn)
            loss.backward()
            made[f"{turn} {step}"] = loss.detach()
            norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
            made[f"gradient of the {turn} {step}"] = torch.stack(norms).norm()
        optimizer.step()
    return made


def test_the_first_steps_are_those_of_the_cpu(name: str) -> None:
    close(name, steps, rtol=5e-3, atol=1e-3)


def likelihood(model: Any, *x: Tensor) -> dict[str, Tensor]:
    """What the model knows of the likelihood of some examples."""
    x = tuple(t[:4].clamp_min(0) if not t.is_floating_point() else t[:4] for t in x)
    with torch.no_grad():
        if isinstance(model, Density):
            return {"log p": model.eval().log_prob(*(x if len(x) == 2 else x[:1]))}
        return {"bound": model.eval().elbo(*x)} if isinstance(model, Bound) else {}


def test_the_likelihood_is_that_of_the_cpu(name: str) -> None:
    close(name, likelihood, rtol=2e-3, atol=5e-2)


def drawn(model: Any, *x: Tensor) -> dict[str, Tensor]:
    """A few samples."""
    model.eval()
    if isinstance(model, Generates):
        return {"tokens": model.generate(x[0][:2, :4], 8, generator=torch.Generator())}
    return {"samples": model.sample(2)} if isinstance(model, Samples) else {}


def test_samples_are_those_of_the_cpu(name: str) -> None:
    """Of continuous models nearly all values: a value at the edge of a grey level may fall off."""
    here, there = (on(device, name, drawn) for device in ("cpu", DEVICE))
    for key, value in here.items():
        assert there[key].device.type == DEVICE
        far = (there[key].cpu().float() - value.float()).abs() > 1e-2
        assert float(far.float().mean()) < 0.05, key


def test_a_generator_on_the_device_repeats_its_draws(name: str) -> None:
    model: Any = copy.deepcopy(built(name)[0]).to(DEVICE).eval()
    if not isinstance(model, Samples):
        pytest.skip("draws nothing")
    some = {"length": 9} if isinstance(model, Autoregressive) else {}
    first, again = (
        model.sample(2, generator=torch.Generator(DEVICE).manual_seed(5), **some) for _ in range(2)
    )
    assert first.device.type == DEVICE
    assert first.equal(again)


def test_half_precision_is_near(name: str) -> None:
    def rough(model: Model, *x: Tensor) -> dict[str, Tensor]:
        with torch.no_grad(), torch.autocast(DEVICE, torch.bfloat16):
            return {"loss": model.eval()(*x).float()}

    def exact(model: Model, *x: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return {"loss": model.eval()(*x)}

    a, b = (float(on(DEVICE, name, job)["loss"]) for job in (rough, exact))
    assert abs(a - b) < 0.05 * abs(b) + 1


COMPILED = ("vae_digits", "gpt_digits", "nsf_moons", "diffusion_digits", "masked_diffusion_digits")
LOSSES = """
import torch
from gentext import recipes
for name in NAMES:
    model, data, _ = recipes.build(name, "quick")
    x = tuple(t[:256].to(DEVICE) for t in data.train)
    model = model.to(DEVICE).eval()
    for f in (model, torch.compile(model, backend=BACKEND)):
        torch.manual_seed(2)
        print(float(f(*x).detach()))
"""


def test_the_compiled_loss_is_the_loss() -> None:
    """In a process of its own, where no shapes are checked at run time.

    The compiler draws other noise, so the two are alike as two draws of 256 examples are.
    """
    code = LOSSES.replace("NAMES", repr(COMPILED)).replace("DEVICE", repr(DEVICE))
    code = code.replace("BACKEND", repr("inductor" if DEVICE == "cuda" else "aot_eager"))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    losses = [float(line) for line in run.stdout.split()]
    assert len(losses) == 2 * len(COMPILED)
    for plain, compiled in zip(losses[::2], losses[1::2], strict=True):
        assert abs(compiled - plain) < 0.1 * abs(plain) + 0.1


def test_a_step_of_training_never_waits_for_the_device(name: str) -> None:
    from accelerate import Accelerator

    from gentext.training.train import Run

    model, x = copy.deepcopy(built(name)[0]), tuple(t.to(DEVICE) for t in batch(name))
    run = Run(model, TrainConfig(steps=3, ema=0.9, clip=1.0), Accelerator())
    run.advance(x)  # the optimiser makes its state
    if DEVICE == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        run.advance(x)
    finally:
        if DEVICE == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    run.look()


def test_training_moves_there_and_back(tmp_path: Path) -> None:
    model, data = copy.deepcopy(built("vae_digits")[0]), built("vae_digits")[1]
    config = TrainConfig(steps=60, lr=2e-3)
    history = fit(model, data, config, out=tmp_path, progress=False)
    assert next(model.parameters()).device.type == "cpu"  # where it was
    assert sum(history.loss[-10:]) < sum(history.loss[:10])
    again = checkpoint.load(tmp_path / "checkpoint.safetensors")
    for mine, theirs in zip(model.parameters(), again.parameters(), strict=True):
        assert mine.equal(theirs)
