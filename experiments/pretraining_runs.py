"""What views make features forget, and what normalisation and dropout do, on the 8x8 digits.

``python experiments/pretraining_runs.py`` writes two tables as JSON. ``views``: contrastive
features trained with all views, with each kind of view left out, and of pixels and of an untrained
network; for each the accuracy of a tuned probe with ten labels a class, and the share of the
variance of a turn and of a brightness that a ridge regression reads off from them, and from what
the head makes of them (``z``). ``layers``: the
accuracy of a network trained from scratch, with and without each normalisation and dropout. Every
number is of one seed; labels, weights and views are drawn anew for each.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sklearn.linear_model import RidgeCV
from torch import nn

import gentext as gt
from experiments import transfer_runs as runs

KINDS = {"shift", "scale", "turn", "brightness", "noise", "erase"}
ASKED: dict[str, float] = {"turn": 0.4, "brightness": 0.3}  # radians, share; up to either side
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda channels: nn.Identity(),
    "group": lambda channels: nn.GroupNorm(8, channels),
    "batch": nn.BatchNorm2d,
}
DROPOUT = (0.0, 0.5)
EACH = (10, 50)
STEPS = 1000  # of the training with views


def contrastive(left_out: str, seed: int, share: float, data: gt.Dataset) -> Any:
    """An encoder that was trained with all views but one."""
    torch.manual_seed(seed)
    views = {name: size for name, size in runs.VIEWS.items() if name != left_out}
    model = gt.Contrastive(shape=runs.SHAPE, features=runs.WIDTH, channels=32, views=views)
    options = runs.SIGNALS["contrastive"][2]
    config = gt.TrainConfig(steps=math.ceil(share * STEPS), seed=seed, schedule="cosine", **options)
    gt.fit(model, data, config, progress=False)
    return model


def projected(model: Any) -> Callable[[Any], Any]:
    """What views are compared by, of length 1."""

    @torch.no_grad()
    def encode(x: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(model.head(model.encode(x)), dim=1)

    return encode


def read_off(kind: str, encode: Callable[[Any], Any], data: gt.Dataset, seed: int) -> float:
    """The share of the variance of a random turn or brightness that features give away."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for x, _ in (data.train, data.test):
        amount = 2 * torch.rand(len(x), generator=generator) - 1
        parts.append((encode(changed(x, kind, ASKED[kind] * amount)).flatten(1), amount))
    (x, y), (others, asked) = parts
    mean, std = x.mean(0), x.std(0).clamp_min(1e-6)
    ridge = RidgeCV(alphas=[10.0**k for k in range(-2, 5)])
    ridge.fit(((x - mean) / std).numpy(), y.numpy())
    return float(ridge.score(((others - mean) / std).numpy(), asked.numpy()))


def changed(x: torch.Tensor, kind: str, amount: torch.Tensor) -> torch.Tensor:
    """Images turned by ``amount`` radians each, or made so much brighter."""
    if kind == "brightness":
        return (x * (0.7 + amount)[:, None, None, None]).clamp(0, 1)
    cos, sin, none = amount.cos(), amount.sin(), torch.zeros_like(amount)
    rows = torch.stack([torch.stack([cos, -sin, none], 1), torch.stack([sin, cos, none], 1)], 1)
    grid = nn.functional.affine_grid(rows, list(x.shape), align_corners=False)
    return nn.functional.grid_sample(x, grid, align_corners=False)


def forgotten(seed: int, share: float) -> dict[str, dict[str, float]]:
    """For each kind of features: accuracy, and what is read off from them."""
    data = gt.data.load("digits")
    torch.manual_seed(seed)
    encoders: dict[str, Callable[[Any], Any]] = {
        "pixels": lambda x: x.flatten(1),
        "untrained": runs.features(runs.untrained()),
    }
    for left_out in ("nothing", *sorted(KINDS)):
        model = contrastive(left_out, seed, share, data.without_labels())
        encoders[f"without {left_out}"] = runs.features(model)
        encoders[f"without {left_out}, z"] = projected(model)
    sets = (*runs.drawn(data, 10, seed), data.test)
    return {
        name: {"accuracy": round(runs.probe(encode, *sets), 4)}
        | {kind: round(read_off(kind, encode, data, seed), 4) for kind in ASKED}
        for name, encode in encoders.items()
    }


class Network(gt.Model):
    """The network of ``transfer_runs`` with another normalisation, and dropout before the last."""

    def __init__(self, norm: str, dropout: float) -> None:
        super().__init__()
        make = NORMS[norm]
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, 2, 1), make(32), nn.SiLU()),
            *(nn.Conv2d(32, 32, 3, 1, 1), make(32), nn.SiLU()),
            *(nn.Flatten(), nn.Dropout(dropout), nn.Linear(512, runs.WIDTH), nn.SiLU()),
            *(nn.Dropout(dropout), nn.Linear(runs.WIDTH, runs.CLASSES)),
        )

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """−log p(y | x) in nats."""
        return nn.functional.cross_entropy(self.layers(x), y)


def accuracy(norm: str, dropout: float, sets: Any, seed: int, steps: int) -> tuple[float, int]:
    """Test accuracy where the validation loss is least, over two rates, and its step."""
    few, held, (x, y) = sets
    best, found = math.inf, (0.0, 0)
    for lr in runs.RATES:
        torch.manual_seed(seed)
        model = Network(norm, dropout)
        stop = gt.EarlyStopping(lambda m: m.loss(*held), every=20, patience=10)
        config = gt.TrainConfig(steps=steps, lr=lr, batch_size=128, seed=seed)
        gt.fit(model, few, config, observers=[stop], progress=False)
        stop.restore(model)
        if stop.best < best:
            with torch.no_grad():
                right = (model.layers(x).argmax(1) == y).float().mean()
            best, found = stop.best, (round(float(right), 4), stop.best_step)
    return found


def layers(seed: int, steps: int) -> dict[str, dict[str, tuple[float, int]]]:
    """By normalisation and dropout: accuracy and step, by labels a class."""
    data, found = gt.data.load("digits"), {}
    for each in EACH:
        sets = (*runs.drawn(data, each, seed), data.test)
        for norm in NORMS:
            for dropout in DROPOUT:
                row = found.setdefault(f"{norm}, dropout {dropout}", {})
                row[str(each)] = accuracy(norm, dropout, sets, seed, steps)
    return found


def main() -> None:
    """Write both tables, seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path("experiments/pretraining.json"))
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    share, steps = (0.01, 20) if given.tiny else (1.0, 300)
    found: dict[str, Any] = {"views": {}, "layers": {}}
    for seed in given.seeds:
        found["layers"][str(seed)] = layers(seed, steps)
        found["views"][str(seed)] = forgotten(seed, share)
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
