"""The parts of ``gpu.py``: what a row of each does, in a process of its own where it may be cut."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._plain_gpt import PlainGPT
from benchmarks._plain_unet import PlainUNet
from gentext.denoising.unet import UNet
from gentext.sequences.gpt import GPT

ROOT = Path(__file__).resolve().parents[1]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NOTEBOOK, MODEL = 300, 480  # seconds at most for one chapter, and for one model to be trained
# What readers see most, with more steps and larger batches than two cores allow; ``model`` are
# arguments of the model that differ from the recipe's.
WEIGHTS: dict[str, dict[str, Any]] = {
    "diffusion_fashion": {"full_data": True, "steps": 16_000, "batch_size": 256},
    "latent_diffusion_emoji": {"steps": 14_000},
    "latent_diffusion_fashion": {"full_data": True, "steps": 20_000, "batch_size": 256},
    "gpt_shakespeare": {"steps": 10_000, "batch_size": 32, "model": {"dropout": 0.2}},
    "gpt_poems": {"steps": 10_000, "model": {"dropout": 0.2}},
    "conditional_gan_fashion": {"full_data": True, "steps": 16_000},
}
Step = Callable[[], object]


@dataclass(frozen=True)
class Place:
    """Where the results go, whether all is tiny, and when it must end."""

    folder: Path
    tiny: bool
    end: float

    def left(self) -> float:
        """Seconds that are left."""
        return self.end - time.monotonic()


@dataclass(frozen=True)
class Job:
    """A row of a part; ``alone`` if nothing else may use the device meanwhile."""

    part: str
    name: str
    run: Callable[[Place], dict[str, Any]]
    alone: bool = False


# --- speed ---------------------------------------------------------------------------------------


def seconds(step: Step, rounds: int) -> float:
    """The median time of a step, on the device's own clock where it has one."""
    times = []
    for _ in range(rounds + 3):
        start = time.perf_counter()
        step()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times[3:])[rounds // 2]


@functools.cache
def matrix_rate(dtype: torch.dtype, size: int) -> float:
    """Operations per second in a product of two square matrices."""
    a, b = (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))
    return 2 * size**3 / seconds(lambda: a @ b, 10)


def training(model: nn.Module, loss: Callable[[], Tensor], half: bool) -> Step:
    """A step of training: forward, backward, a fused AdamW; in bfloat16 if ``half``."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=half):
            value = loss()
        value.backward()
        optimizer.step()

    return step


def operations(step: Step) -> int:
    """Those of all products and convolutions of a step."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def gpt(tiny: bool, plain: bool) -> tuple[nn.Module, Callable[[], Tensor]]:
    """A GPT of the size of GPT-2, or a plain one of the same maths, and its loss on a batch."""
    width, layers, n = (64, 2, 2) if tiny else (768, 12, 16)
    own = GPT(vocab_size=5000, context=256, layers=layers, heads=width // 64, width=width)
    model = (PlainGPT(own) if plain else own).to(DEVICE)
    tokens = torch.randint(5000, (n, 256), device=DEVICE)
    read = F.pad(tokens[:, :-1], (1, 0), value=own.bos)
    return model, (lambda: model(read, tokens)) if plain else (lambda: model(tokens))


def unet(tiny: bool, plain: bool) -> tuple[nn.Module, Callable[[], Tensor]]:
    """A U-Net of colour images, or a plain one of the same maths, and its loss on a batch."""
    channels, images = (8, 2) if tiny else (128, 256)
    own = UNet(shape=(3, 32, 32), channels=channels)
    model = (PlainUNet(own) if plain else own).to(DEVICE)
    x, eps = (torch.randn(images, 3, 32, 32, device=DEVICE) for _ in range(2))
    t = torch.randint(1000, (images,), device=DEVICE)
    return model, lambda: F.mse_loss(model(x, t), eps)


def timed(make: Callable[..., Any], plain: bool, place: Place) -> dict[str, Any]:
    """Milliseconds of a training step, and its share of the rate of matrix products."""
    size, rounds = (256, 3) if place.tiny else (8192, 20)
    model, loss = make(place.tiny, plain)
    row: dict[str, Any] = {"parameters": sum(p.numel() for p in model.parameters())}
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for name, half in {"float32": False, "bfloat16": True}.items():
        step = training(model, loss, half)
        count, took = operations(step), seconds(step, rounds)
        rate = matrix_rate(torch.bfloat16 if half else torch.float32, size)
        row |= {f"{name} ms": round(1000 * took, 2), f"{name} share": round(count / took / rate, 3)}
        row[f"{name} matrices TFLOP/s"] = round(rate / 1e12, 2)
    if DEVICE == "cuda":
        row["peak GiB"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        torch.cuda.empty_cache()
    return row


def speed(tiny: bool) -> list[Job]:
    """Training steps, ours and plain ones."""
    kinds: dict[str, tuple[Any, bool]] = {"GPT": (gpt, False), "plain GPT": (gpt, True)}
    kinds |= {"U-Net": (unet, False), "plain U-Net": (unet, True)}
    return [
        Job("speed", name, functools.partial(timed, make, plain), alone=True)
        for name, (make, plain) in kinds.items()
    ]


# --- programs ------------------------------------------------------------------------------------


def run(command: list[str], log: Path, limit: float, **variables: str) -> str:
    """Run a program, all of whose processes end after ``limit`` seconds; how it ended."""
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **variables},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"stopped after {limit:.0f} s"
    if code == 0:
        return "ok"
    last = log.read_text("utf-8", "replace").strip().splitlines()[-1:]
    return f"failed with {code}: {''.join(last)[:200]}"


def tests(tiny: bool) -> list[Job]:
    """The tests that need a GPU."""

    def tested(place: Place) -> dict[str, Any]:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        # Shapes are checked where beartype is, and other versions of PyTorch warn of other things.
        command += ["-o", "addopts=", "-o", "filterwarnings=default"]
        command += ["tests/test_gpu_drawing.py", "-k", "bits"] if tiny else []
        command += [] if tiny else ["tests/test_gpu.py", "tests/test_gpu_drawing.py"]
        if not tiny and importlib.util.find_spec("xdist"):
            command += ["-n", "6"]
        log = place.folder / "logs" / "tests.log"
        ended = run(command, log, place.left(), GENTEXT_TEST_DEVICE=DEVICE)
        text = log.read_text("utf-8", "replace")
        names = re.findall(r"^(?:FAILED|ERROR) \S+::(.+?)(?: - .*)?$", text, re.M)
        counts = dict(re.findall(r"(\d+) (\w+)", text.strip().splitlines()[-1] if text else ""))
        told = {kind: int(number) for number, kind in counts.items() if kind in COUNTED}
        return {"ended": ended, **told, "names": names[:20]}

    return [Job("tests", "GPU", tested, alone=True)]


COUNTED = ("passed", "failed", "error", "errors", "skipped")


# --- weights -------------------------------------------------------------------------------------


def train(name: str, place: Place) -> dict[str, Any]:
    """Train one recipe for as many steps as the time allows; what its card says."""
    settings: dict[str, Any] = {"half": True, "measured": False, **WEIGHTS[name]}
    limit = min(MODEL, place.left() - 5)
    if place.tiny:
        settings |= {"steps": 12, "batch_size": 2, "full_data": False}
    else:
        settings |= {"within": 0.75 * limit, "full_data": whole(settings.get("full_data", False))}
    folder = place.folder / "weights"
    code = (
        "import pathlib; from experiments import zoo; "
        f"zoo.make({name!r}, folder=pathlib.Path({str(folder)!r}), **{settings!r})"
    )
    ended = run([sys.executable, "-c", code], place.folder / "logs" / f"{name}.log", limit)
    if ended != "ok":
        return {"ended": ended}
    card = json.loads((folder / f"{name}.json").read_text("utf-8"))
    return {
        "steps": card["config"]["steps"],
        "last loss": card["loss"],
        "data": card["data"]["source"],
        "MiB": round((folder / f"{name}.safetensors").stat().st_size / 2**20, 2),
    }


def whole(wanted: bool) -> bool:
    """Whether to train on the whole Fashion-MNIST: where it is at hand."""
    from gentext.data import files

    there = files.own_folder("fashion-mnist") or files.kept_folder("fashion-mnist")
    return wanted and there is not None


def weights(tiny: bool) -> list[Job]:
    """Weights of recipes at budgets that no CPU allows, with their cards."""
    names = ["gpt_shakespeare"] if tiny else list(WEIGHTS)
    return [Job("weights", name, functools.partial(train, name)) for name in names]


# --- notebooks -----------------------------------------------------------------------------------

PROGRAM = """
import json, resource, sys, time
import torch
import matplotlib.pyplot as plt
path, most = sys.argv[1], int(sys.argv[2])
cells = [c for c in json.load(open(path, encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
space = {"__name__": "__main__", "display": lambda *x: None}
for cell in [c for c in cells if c["id"] != "colab"][:most]:
    start, code = time.perf_counter(), "".join(cell["source"])
    try:
        exec(compile(code, cell["id"], "exec"), space)
    except BaseException as error:
        said = str(error).split("\\n")[0][:80]
        print("FAILED", cell["id"], type(error).__name__, said, flush=True)
    plt.close("all")
    print("CELL", cell["id"], round(time.perf_counter() - start, 1), flush=True)
    if torch.cuda.is_available():
        print("PEAK", round(torch.cuda.max_memory_allocated() / 2**30, 2), flush=True)
    print("HOST", round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2), flush=True)
"""


def read(path: Path, place: Place) -> dict[str, Any]:
    """The code of one chapter: its slowest cell, those that failed, and what it needs."""
    log = place.folder / "logs" / f"notebook-{path.stem}.log"
    budget = {"GENTEXT_BUDGET": "quick" if place.tiny else "full", "GENTEXT_STATIC": "1"}
    limit = min(NOTEBOOK, place.left() - 5)
    command = [sys.executable, "-c", PROGRAM, str(path), "2" if place.tiny else "10000"]
    row: dict[str, Any] = {"ended": run(command, log, limit, **budget)}
    text = log.read_text("utf-8", "replace")
    cells = {name: float(took) for name, took in re.findall(r"^CELL (\S+) ([\d.]+)$", text, re.M)}
    slowest = max(cells, key=cells.__getitem__, default=None)
    row["cells"] = len(cells)
    row["slowest"] = f"{slowest} {cells[slowest]} s" if slowest else None
    for key, mark in {"peak GiB": "PEAK", "host GiB": "HOST"}.items():
        found = re.findall(rf"^{mark} ([\d.]+)$", text, re.M)
        row[key] = max(map(float, found)) if found else None
    row["failed cells"] = re.findall(r"^FAILED (.+)$", text, re.M)
    return row


def notebooks(tiny: bool) -> list[Job]:
    """The code of each chapter at the full budget, the longest first."""
    paths = sorted((ROOT / "notebooks" / "en").glob("*.ipynb"), key=expected, reverse=True)
    paths = [path for path in paths if path.stem == "score"] if tiny else paths
    return [Job("notebooks", path.stem, functools.partial(read, path)) for path in paths]


def expected(path: Path) -> float:
    """Seconds that a chapter is estimated to train."""
    file = ROOT / "experiments" / "colab.json"
    chapters = json.loads(file.read_text("utf-8"))["chapters"] if file.is_file() else {}
    return float(chapters.get(path.stem, {}).get("seconds", 0.0))


PARTS: dict[str, Callable[[bool], list[Job]]] = {
    "speed": speed,
    "tests": tests,
    "weights": weights,
    "notebooks": notebooks,
}
