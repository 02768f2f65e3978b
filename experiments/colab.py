"""Estimates of what the chapters need at the full budget on a free GPU in the cloud, an NVIDIA T4.

    python experiments/colab.py

Nothing is measured there. One step of each training is done on the CPU and each of its operations
is counted: what it multiplies, the bytes that it reads and writes, and that the host has to start
it. The longest of the three is taken for its time. The memory is that of weights, gradients, two
moments, the average, the data, what is kept for the backward pass, and PyTorch itself. What a
chapter does besides takes as long as the quick notebook in ``tests/durations.json``, whose short
trainings so count twice. Recurrent networks are counted step by step, though a GPU has one kernel
for all steps. So these are rather above the truth. Installing the package is left out. The result
is ``experiments/colab.json`` and the table that is printed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that this file runs as a script

import gentext as gt  # noqa: E402
from gentext.training.batches import endless_batches  # noqa: E402

OPERATIONS = 8.1e12  # a second in float32, of a T4
USED = 0.3  # of these, in products of the sizes of the chapters
BYTES = 320e9 * 0.6  # a second, of its memory
HOST = 60e-6  # seconds for an operation to be started by Python and PyTorch on a slow processor
MEMORY = 16.0  # GB
CONTEXT = 0.7  # GB for CUDA, its libraries, and what the allocator keeps beyond need
FREE = ("view", "reshape", "_unsafe_view", "t", "transpose", "permute", "expand", "detach", "alias")
FREE += (
    "select",
    "slice",
    "unsqueeze",
    "squeeze",
    "split",
    "split_with_sizes",
    "unbind",
    "as_strided",
)
# The trainings whose steps the budget decides, as often as the chapter does them.
TRAININGS: dict[str, tuple[str, ...]] = {
    "autoregressive": ("recurrent_shakespeare",),
    "bert": ("bert_poems",),
    "diffusion": ("diffusion_mlp_digits",),
    "flow": ("nsf_moons",),
    "flow_matching": ("flow_matching_checkerboard",),
    "glow": ("nsf_digits",),
    "gpt": ("gpt_shakespeare",),
    "score": ("score_moons",),
    "sequences": ("pixelcnn_digits",),
    "transformer": ("seq2seq_en_zh",),
    "vae": ("vae_digits", "vae_fashion"),
    "vqvae": ("vqvae_mnist",) * 3,
}

# Steps of the trainings whose number is fixed, by the recipe whose model is nearest to theirs.
FIXED: dict[str, dict[str, int]] = {
    "autoencoder": {"autoencoder_digits": 13_000},
    "finetuning": {"contrastive_digits": 1050, "bert_poems": 100},
    "flow": {"realnvp_gaussians": 1600},
    "flow_matching": {"flow_matching_checkerboard": 900},
    "gan": {"gan_gaussians": 4400},
    "glow": {"nsf_digits": 1200},
    "gpt": {"gpt_shakespeare": 300},
    "language_tasks": {"bert_bilingual": 30, "bert_poems": 150},
    "latent_diffusion": {"latent_diffusion_fashion": 40},
    "masked_diffusion": {"masked_diffusion_poems": 15},
    "pretraining": {"contrastive_digits": 401},
    "sequences": {"pixelcnn_digits": 1400},
    "vae": {"vae_digits": 5300},
}


class Counted(TorchDispatchMode):
    """Sums up operations, bytes and starts of what is done inside, and the seconds of a T4."""

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.bytes, self.starts, self.seconds = 0, 0, 0, 0.0

    def __torch_dispatch__(self, f: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = f(*args, **(kwargs or {}))
        if f._schema.name.split("::")[-1] not in FREE:
            count = flop_registry.get(f._overloadpacket)
            operations = count(*args, **(kwargs or {}), out_val=out) if count else 0
            moved = sum(t.numel() * t.element_size() for t in _tensors((args, kwargs, out)))
            self.operations, self.bytes = self.operations + operations, self.bytes + moved
            self.starts += 1
            self.seconds += max(HOST, operations / (USED * OPERATIONS), moved / BYTES)
        return out


def _tensors(value: Any) -> Iterable[Tensor]:
    """All tensors in what an operation was given or gave."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)


def step(model: gt.Model, batch: tuple[Tensor, ...]) -> tuple[Counted, int]:
    """One step of training, counted, without the optimiser; the most bytes kept for a gradient."""
    counted, most = Counted(), 0
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    model.train()
    for turn in model.turns():
        kept: dict[int, int] = {}

        def keep(t: Tensor, kept: dict[int, int] = kept) -> Tensor:
            storage = t.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return t

        with counted:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
                loss = model(*batch, turn=turn)
            loss.backward()
        most = max(most, sum(kept.values()))
    return counted, most


def estimate(recipe: str) -> dict[str, Any]:
    """Seconds and GB of the full training of a recipe."""
    torch.manual_seed(0)
    model, data, config = gt.recipes.build(recipe, "full")
    batch = next(endless_batches(data.train, config.batch_size, torch.device("cpu")))
    step(model, batch)  # what begins with the first batch begins here
    model.zero_grad()
    counted, kept = step(model, batch)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    copies = 4 + (config.ema is not None)  # the weights, gradients, two moments, an average
    rows = sum(t.numel() * t.element_size() for t in data.train)
    optimiser = max(10 * HOST, 4 * copies * trained / BYTES)  # a few fused starts
    each = counted.seconds + optimiser
    return {
        "steps": config.steps,
        "GFLOP a step": round(counted.operations / 1e9, 3),
        "operations started a step": counted.starts,
        "ms a step": round(1000 * each, 1),
        "seconds": round(config.steps * each),
        "GB": round((4 * copies * trained + rows + 2 * kept) / 1e9 + CONTEXT, 2),
    }


def chapters() -> dict[str, Any]:
    """Seconds and GB of every chapter, and of the trainings in it."""
    durations = json.loads((ROOT / "tests" / "durations.json").read_text("utf-8"))
    made: dict[str, Any] = {}
    known: dict[str, dict[str, Any]] = {}
    for path in sorted((ROOT / "notebooks" / "en").glob("*.ipynb")):
        named, fixed = TRAININGS.get(path.stem, ()), FIXED.get(path.stem, {})
        for recipe in {*named, *fixed} - known.keys():
            known[recipe] = estimate(recipe)
            print(recipe, known[recipe], flush=True)
        training = sum(known[recipe]["seconds"] for recipe in named)
        training += round(sum(known[r]["ms a step"] * n / 1000 for r, n in fixed.items()))
        rest = round(durations.get(f"notebooks/{path.stem}", 0.0) / 2)  # of both languages
        made[path.stem] = {
            "seconds": training + rest,
            "of which training": training,
            "GB": max(known[recipe]["GB"] for recipe in (*named, *fixed)),
            "trainings": {recipe: known[recipe] for recipe in named},
        }
    return made


def table(made: dict[str, Any]) -> str:
    """The chapters as Markdown."""
    lines = ["| chapter | minutes | of which training | GB |", "| --- | ---: | ---: | ---: |"]
    for name, row in made.items():
        minutes, training = (f"{row[key] / 60:.1f}" for key in ("seconds", "of which training"))
        lines.append(f"| {name} | {minutes} | {training} | {row['GB']:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Write the estimates and print the table."""
    made = chapters()
    assumed = {
        "what": "an estimate from operations and bytes; nothing was measured on this device",
        "device": "NVIDIA T4, 16 GB",
        "float32 operations a second": OPERATIONS,
        "share of them used": USED,
        "bytes a second": BYTES,
        "seconds to start an operation": HOST,
        "GB of CUDA and PyTorch": CONTEXT,
    }
    text = json.dumps({"assumed": assumed, "chapters": made}, indent=1)
    (ROOT / "experiments" / "colab.json").write_text(text + "\n", "utf-8")
    print(table(made))


if __name__ == "__main__":
    main()
