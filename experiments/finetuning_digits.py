"""A reader of one source's digits fine-tuned to another's: what it learns, and what it forgets.

``python experiments/finetuning_digits.py`` trains a small convolutional network on the digits of
UCI, 1,257 with labels, and fine-tunes it to digits of MNIST, cut out and made 8 × 8 as well, of
which 1, 5 or 20 a class have labels. It writes by labels a class, seed and way the accuracy on
500 digits of MNIST (``new``) and on the 360 test digits of UCI (``old``). All networks make 150
updates of 50 digits, or fewer where they are ``stopped``, with the same head of ten classes; of
two learning rates the one with the lower loss on validation labels counts, as many of these as
there are to learn from. L2-SP pulls all that learns, the head as well. ``pixels`` are the tuned
linear model of the labelled digits alone, and of these with all those of UCI.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from recorded import record
from torch import Tensor

import gentext as gt

LABELS = (1, 5, 20)  # a class, of ten
RATES = (1e-3, 3e-3)
STEPS, BATCH = 150, 50
RANK = ALPHA = 4
STOPS = (5, 10, 20, 40, 80)  # of full fine-tuning, with five labels a class
PULLS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
Set = tuple[Tensor, ...]


def of_mnist() -> tuple[Set, Set, Set]:
    """Digits of MNIST, 8 × 8: to learn from, to choose by, to test."""
    data = gt.data.load("mnist")
    cut = [
        (F.interpolate(x[..., 4:24, 4:24], 8, mode="area"), y) for x, y in (data.train, data.test)
    ]
    (x, y), test = cut
    return (x[::2], y[::2]), (x[1::2], y[1::2]), test


def drawn(part: Set, each: int, seed: int) -> Set:
    """``each`` examples of every class, at random."""
    x, y = part
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    kept = torch.cat([order[y[order] == k][:each] for k in range(10)])
    return x[kept], y[kept]


def fit(
    model: Any, few: Set, lr: float, steps: int, pull: float = 0.0, old: Set | None = None
) -> None:
    """Plain steps of AdamW; with ``old``, as many old digits in each batch as new ones."""
    learns = [p for p in model.parameters() if p.requires_grad]
    start = torch.cat([p.detach().flatten() for p in learns])
    optimizer = torch.optim.AdamW(learns, lr=lr, weight_decay=0)
    for _ in range(steps):
        parts = [few] if old is None else [few, old]
        taken = [torch.randperm(len(y))[:BATCH] for _, y in parts]
        x, y = (torch.cat([p[k][i] for p, i in zip(parts, taken, strict=True)]) for k in (0, 1))
        loss = F.cross_entropy(model.logits(x), y)
        if pull:
            loss = loss + gt.finetuning.l2_sp(torch.cat([p.flatten() for p in learns]), start, pull)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def reader(seed: int) -> gt.Classifier:
    """A network that has not learnt yet."""
    torch.manual_seed(seed)
    return gt.Classifier(shape=(1, 8, 8), classes=10)


def prepared(way: str, trained: gt.Classifier, seed: int) -> Any:
    """The network that a way starts from, with what may learn."""
    if way.startswith("scratch"):
        return reader(100 + seed)
    model = copy.deepcopy(trained)
    if way == "head":
        gt.freeze(model.features)
    elif way == "LoRA":
        gt.add_lora(model.features, ["8"], rank=RANK, alpha=ALPHA)
    return model


def tuned(way: str, trained: gt.Classifier, sets: dict[str, Set], seed: int, steps: int) -> Any:
    """Accuracies of one way, for the better of two rates."""
    best, kept = math.inf, {}
    for lr in RATES:
        model = prepared(way, trained, seed)
        torch.manual_seed(seed)
        pull = float(way.split()[1]) if way.startswith("L2-SP") else 0.0
        fit(model, sets["few"], lr, steps, pull, sets["old"] if "both" in way else None)
        with torch.no_grad():
            loss = float(F.cross_entropy(model.logits(sets["held"][0]), sets["held"][1]))
        if loss < best:
            best, kept = loss, measured(model, sets) | {"lr": lr}
    return kept


def measured(model: Any, sets: dict[str, Set]) -> dict[str, float]:
    """Accuracy on the digits of both sources."""
    return {name: round(float(model.accuracy(*sets[f"test {name}"])), 4) for name in ("new", "old")}


def run(seed: int, steps: int) -> dict[str, Any]:
    """All ways by labels a class."""
    digits, (train, validation, test) = gt.data.load("digits"), of_mnist()
    sets = {"old": digits.train, "test old": digits.test, "test new": test}
    trained = reader(seed)
    fit(trained, sets["old"], 2e-3, 2 * steps)
    found: dict[str, Any] = {"as it is": measured(trained, sets)}
    ways = ["head", "full", "LoRA", "full, both", "scratch", "scratch, both"]
    for each in LABELS:
        few, held = drawn(train, each, seed), drawn(validation, each, seed)
        here = sets | {"few": few, "held": held}
        both = tuple(torch.cat(parts) for parts in zip(few, sets["old"], strict=True))
        rows: dict[str, Any] = {
            name: measured(gt.LinearProbe.fit(*given, held, classes=10), sets)
            for name, given in (("pixels", few), ("pixels, both", both))
        }
        pulls = [f"L2-SP {pull}" for pull in (PULLS if each == 5 else (0.01,))]
        for way in ways + pulls:
            rows[way] = tuned(way, trained, here, seed, steps)
        for stop in STOPS if each == 5 else ():
            rows[f"stopped {stop}"] = tuned("full", trained, here, seed, min(stop, steps))
        found[str(each)] = rows
    return found


if __name__ == "__main__":
    record(__doc__, "finetuning_digits", run, steps=STEPS)
