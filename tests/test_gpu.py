"""What holds for every experiment on a GPU: the numbers of the CPU, and no waiting in a step.

Random numbers are drawn on the CPU and moved, so that both devices see the same; the kernels of
matrix products and convolutions are those of single precision. What is drawn with options, and
what is measured, is in ``test_gpu_drawing.py``.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import small_models
import torch
from gpu import DEVICE, MARKS, NAMES, batch, built, close, nearly, on
from torch import Tensor

from gentext import checkpoint
from gentext.core import Bound, Density, Generates, Model, Samples
from gentext.sequences.autoregressive import Autoregressive
from gentext.training.ema import Average
from gentext.training.train import TrainConfig, fit

pytestmark = MARKS


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
    close(built(name)[0], batch(name), steps, rtol=5e-3, atol=1e-3)


def likelihood(model: Any, *x: Tensor) -> dict[str, Tensor]:
    """What the model knows of the likelihood of some examples."""
    x = tuple(t[:4].clamp_min(0) if not t.is_floating_point() else t[:4] for t in x)
    with torch.no_grad():
        if isinstance(model, Density):
            return {"log p": model.eval().log_prob(*(x if len(x) == 2 else x[:1]))}
        return {"bound": model.eval().elbo(*x)} if isinstance(model, Bound) else {}


def test_the_likelihood_is_that_of_the_cpu(name: str) -> None:
    close(built(name)[0], batch(name), likelihood, rtol=2e-3, atol=5e-2)


def drawn(model: Any, *x: Tensor) -> dict[str, Tensor]:
    """A few samples."""
    model.eval()
    if isinstance(model, Generates):
        return {"tokens": model.generate(x[0][:2, :4], 4, generator=torch.Generator())}
    return {"samples": model.sample(2)} if isinstance(model, Samples) else {}


def test_samples_are_those_of_the_cpu(name: str) -> None:
    nearly(built(name)[0], batch(name), drawn)


def test_a_generator_on_the_device_repeats_its_draws(name: str) -> None:
    model: Any = copy.deepcopy(built(name)[0]).to(DEVICE).eval()
    if not isinstance(model, Samples):
        pytest.skip("draws nothing")
    some = {"length": 8} if isinstance(model, Autoregressive) else {}
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

    a, b = (float(on(DEVICE, built(name)[0], batch(name), job)["loss"]) for job in (rough, exact))
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


PART = """
import sys
import small_models, torch
from gentext.training.train import TrainConfig, fit
device, steps, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
model, x = small_models.built("autoencoder")
config = TrainConfig(steps=steps, lr=1e-2, ema=0.9, batch_size=4, save_every=1000)
history = fit(model.to(device), x, config, out=out, resume=True, progress=False)
print(*history.loss)
"""


def part(device: str, steps: int, out: Path) -> list[float]:
    """The losses of a training up to ``steps``, where there is such a device and no other."""
    hidden = {} if device == "cuda" else {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", PART, device, str(steps), str(out)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **hidden, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stderr
    return [float(loss) for loss in done.stdout.split()]


def test_a_training_goes_on_on_the_other_device_and_back(tmp_path: Path) -> None:
    """The model has no noise, so that the losses are those of one training on the CPU."""
    torch.manual_seed(0)
    whole = part("cpu", 30, tmp_path / "whole")
    for device, steps in (("cpu", 10), (DEVICE, 20), ("cpu", 30)):
        losses = part(device, steps, tmp_path / "parts")
        assert len(losses) == steps
    assert losses == pytest.approx(whole, rel=5e-3)
    one, other = (
        checkpoint.load(tmp_path / f / "checkpoint.safetensors") for f in ("whole", "parts")
    )
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-2, atol=1e-3)


def test_a_checkpoint_saved_on_the_device_is_read_on_the_cpu(name: str, tmp_path: Path) -> None:
    model = copy.deepcopy(built(name)[0]).to(DEVICE)
    checkpoint.save(tmp_path / "model.safetensors", model)
    given = {"model": copy.deepcopy(built(name)[0])} if name == "Reflow" else {}  # no public class
    again = checkpoint.load(tmp_path / "model.safetensors", **given)
    for key, value in again.state_dict().items():
        assert value.device.type == "cpu"
        assert value.equal(model.state_dict()[key].cpu()), key


def test_the_moving_average_is_that_of_the_cpu() -> None:
    def averaged(model: Model, *x: Tensor) -> dict[str, Tensor]:
        average = Average(model, 0.9)
        for step in range(1, 4):
            with torch.no_grad():
                for p in model.parameters():
                    p.mul_(1.1)
            average.update(step)
        average.copy_to_model()
        return dict(model.state_dict())

    close(*small_models.built("GPT"), averaged, rtol=1e-5, atol=1e-6)
