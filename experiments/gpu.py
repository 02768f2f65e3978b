"""What is done where a GPU is at hand: see ``gpu.sh``. Parts: speed, tests, weights, notebooks.

``--tiny`` does everything with a few steps, on whatever device there is, to see that it works.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that this file runs as a script

from benchmarks._plain_gpt import PlainGPT  # noqa: E402
from gentext.denoising.unet import UNet  # noqa: E402
from gentext.sequences.gpt import GPT  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MINUTES = 5  # for one notebook, or for one model to be trained
# Recipes that readers see most, with more steps and larger batches than two cores allow.
WEIGHTS: dict[str, dict[str, Any]] = {
    "diffusion_fashion": {"full_data": True, "steps": 16_000, "batch_size": 256},
    "latent_diffusion_fashion": {"full_data": True, "steps": 20_000, "batch_size": 256},
    "conditional_gan_fashion": {"full_data": True, "steps": 16_000},
    "gpt_shakespeare": {"steps": 10_000, "batch_size": 32},
    "gpt_poems": {"steps": 10_000},
    "latent_diffusion_emoji": {"steps": 14_000},
}
Step = Callable[[], object]


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


def contenders(tiny: bool) -> Iterator[tuple[str, nn.Module, Callable[[], Tensor]]]:
    """Networks with a loss on one batch: ours, and plain ones of the same maths."""
    width, layers, n = (64, 2, 2) if tiny else (768, 12, 16)
    gpt = GPT(vocab_size=5000, context=256, layers=layers, heads=width // 64, width=width)
    gpt, plain = gpt.to(DEVICE), PlainGPT(gpt).to(DEVICE)
    tokens = torch.randint(5000, (n, 256), device=DEVICE)
    read = F.pad(tokens[:, :-1], (1, 0), value=gpt.bos)
    yield "GPT", gpt, lambda: gpt.loss(tokens)
    yield "plain GPT", plain, lambda: plain(read, tokens)
    channels, images = (8, 2) if tiny else (128, 256)
    unet = UNet(shape=(3, 32, 32), channels=channels).to(DEVICE)
    x, eps = (torch.randn(images, 3, 32, 32, device=DEVICE) for _ in range(2))
    t = torch.randint(1000, (images,), device=DEVICE)
    yield "U-Net", unet, lambda: F.mse_loss(unet(x, t), eps)


def speed(folder: Path, tiny: bool) -> dict[str, Any]:
    """Training steps as shares of the rate at which the device multiplies matrices."""
    size, rounds = (256, 3) if tiny else (8192, 20)
    rates = {half: matrix_rate(torch.bfloat16 if half else torch.float32, size) for half in (0, 1)}
    rows = []
    for name, model, loss in contenders(tiny):
        for half in (0, 1):
            step = training(model, loss, bool(half))
            count, took = operations(step), seconds(step, rounds)
            precision = "bfloat16" if half else "float32"
            row = {"network": name, "precision": precision, "ms": round(1000 * took, 2)}
            rows.append({**row, "share of the matrix rate": round(count / took / rates[half], 3)})
    teras = {("bfloat16" if half else "float32"): rate / 1e12 for half, rate in rates.items()}
    return {"matrix rate, TFLOP/s": {k: round(v, 1) for k, v in teras.items()}, "rows": rows}


def tests(folder: Path, tiny: bool) -> dict[str, Any]:
    """The tests that need a GPU."""
    some = ["-k", "vae_digits or gpt_digits"] if tiny else []
    parallel = ["-n", "6"] if DEVICE == "cuda" else []
    command = [sys.executable, "-m", "pytest", "tests/test_gpu.py", "-q", "-p", "no:cacheprovider"]
    command += ["-o", "addopts="]  # shapes are checked where beartype is
    environment = {**os.environ, "GENTEXT_TEST_DEVICE": DEVICE}
    with (folder / "tests.log").open("w") as log:
        done = subprocess.run(
            [*command, *some, *parallel],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
            check=False,
        )
    lines = (folder / "tests.log").read_text().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"code": done.returncode, "summary": lines[-1] if lines else "", "failed": failed}


def train(name: str, folder: Path, tiny: bool) -> dict[str, Any]:
    """Train one recipe in a process of its own; its card, or why there is none."""
    settings = {"full_data": False} | WEIGHTS[name] | ({"steps": 12} if tiny else {})
    settings |= {"full_data": settings["full_data"] and not tiny, "half": True, "measured": False}
    code = (
        "import pathlib; from experiments import zoo; "
        f"zoo.make({name!r}, folder=pathlib.Path({str(folder / 'weights')!r}), **{settings!r})"
    )
    return {"name": name, **run(code, folder / f"{name}.log", 2 * MINUTES)}


def run(code: str, log: Path, minutes: float, **variables: str) -> dict[str, Any]:
    """Run a program and say how it ended and how long it took."""
    start = time.perf_counter()
    with log.open("w") as file:
        try:
            done = subprocess.run(
                [sys.executable, "-c", code],
                cwd=ROOT,
                env={**os.environ, **variables},
                stdout=file,
                stderr=file,
                timeout=60 * minutes,
                check=False,
            )
            ended = "ok" if done.returncode == 0 else f"code {done.returncode}"
        except subprocess.TimeoutExpired:
            ended = f"stopped after {minutes} minutes"
    took = round(time.perf_counter() - start)
    last = log.read_text().strip().splitlines()[-1:] if ended != "ok" else []
    return {"ended": ended, "seconds": took, "last line": "".join(last)[:200]}


def weights(folder: Path, tiny: bool) -> dict[str, Any]:
    """Weights of recipes at budgets that no CPU allows, with their cards."""
    (folder / "weights").mkdir(exist_ok=True)
    names = list(WEIGHTS)[-2:] if tiny else list(WEIGHTS)
    with ThreadPoolExecutor(1 if tiny else len(names)) as pool:
        rows = list(pool.map(lambda name: train(name, folder, tiny), names))
    return {"rows": rows}


PROGRAM = """
import json, sys, time, types
import matplotlib; matplotlib.use("Agg")
import torch
cells = [c for c in json.load(open(sys.argv[1] if len(sys.argv) > 1 else PATH))["cells"]]
space = {"__name__": "__main__", "display": lambda *x: None}
for cell in cells:
    if cell["cell_type"] == "code" and cell["id"] != "colab":
        start, code = time.perf_counter(), "".join(cell["source"])
        try:
            exec(compile(code, cell["id"], "exec"), space)
        except BaseException as error:
            sys.exit(f"cell {cell['id']}: {type(error).__name__}: {error}")
        finally:
            print(cell["id"], round(time.perf_counter() - start, 1), flush=True)
        import matplotlib.pyplot as plt; plt.close("all")
if torch.cuda.is_available():
    print("peak GiB", round(torch.cuda.max_memory_allocated() / 2**30, 2))
"""


def notebooks(folder: Path, tiny: bool) -> dict[str, Any]:
    """The code of each notebook at the full budget."""
    paths = sorted((ROOT / "notebooks" / "en").glob("*.ipynb"))
    paths = [path for path in paths if path.stem in ("autoencoder", "flow")] if tiny else paths
    budget = {"GENTEXT_BUDGET": "quick" if tiny else "full", "GENTEXT_STATIC": "1"}

    def timed(path: Path) -> dict[str, Any]:
        log = folder / f"notebook-{path.stem}.log"
        done = run(PROGRAM.replace("PATH", repr(str(path))), log, MINUTES, **budget)
        peak = re.findall(r"peak GiB ([\d.]+)", log.read_text())
        return {"notebook": path.stem, **done, "peak GiB": float(peak[0]) if peak else None}

    with ThreadPoolExecutor(1 if tiny else 8) as pool:
        return {"rows": list(pool.map(timed, paths))}


PARTS = {"speed": speed, "tests": tests, "weights": weights, "notebooks": notebooks}


def report(folder: Path) -> str:
    """All results as Markdown."""
    out = [f"# {torch.cuda.get_device_name() if DEVICE == 'cuda' else 'no GPU'}\n"]
    for part in PARTS:
        if not (file := folder / f"{part}.json").is_file():
            continue
        result = json.loads(file.read_text())
        rows = result.pop("rows", [])
        out.append(f"## {part}\n\n" + "\n".join(f"- {k}: {v}" for k, v in result.items()) + "\n")
        if rows:
            keys = list(dict.fromkeys(key for row in rows for key in row))
            lines = [
                keys,
                ["---"] * len(keys),
                *([str(row.get(k, "")) for k in keys] for row in rows),
            ]
            out.append("\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")
    return "\n".join(out)


def main() -> None:
    """Do the parts that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "runs" / "gpu")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--tiny", action="store_true", help="a few steps of everything")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for part in options.parts or PARTS:
        file = options.folder / f"{part}.json"
        if not file.is_file():
            start = time.perf_counter()
            result = PARTS[part](options.folder, options.tiny)
            result["took, seconds"] = round(time.perf_counter() - start)
            file.write_text(json.dumps(result, indent=1))
            print(part, json.dumps(result)[:2000], flush=True)
        (options.folder / "report.md").write_text(report(options.folder))


if __name__ == "__main__":
    main()
