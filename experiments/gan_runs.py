"""Recorded games: ``python experiments/gan_runs.py NAME ...``, of the names in ``RUNS``.

Prints one row for each run: of games in the plane the modes found, the share of samples within
three standard deviations of a mode, KL(q ‖ p) over modes in nats; of games of Fashion-MNIST,
trained on the full set, which must be there, the Fréchet distance, precision and recall of 1,000
samples and the bundled test images in the features of the classifier; and CPU seconds.
``neighbours`` prints, for the zoo's GAN of Fashion-MNIST, medians of the distances of 1,000 samples
and of the bundled test images to the nearest of all training images, in the same features.
``check`` trains two seeds of the grid and fails unless they show what the chapter says of ten.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import Any

import torch
from torch import Tensor

import gentext as gt

GRID: dict[str, tuple[str, bool, dict[str, Any]]] = {  # objective, whether with R1 and R2, settings
    "grid25": ("relativistic", True, {}),
    "relativistic": ("relativistic", False, {}),
    "non-saturating-r": ("non-saturating", True, {}),
    "non-saturating": ("non-saturating", False, {}),
    "minimax-r": ("minimax", True, {}),
    "minimax": ("minimax", False, {}),
    "no-average": ("relativistic", True, {"ema": None}),
    "momentum": ("relativistic", True, {"betas": (0.9, 0.99)}),
}
R1R2 = {"r1": 3.0, "r2": 3.0}
IMAGES: dict[str, dict[str, Any]] = {
    "relativistic, R1 and R2": {},
    "relativistic": {"penalties": {}},
    "non-saturating, R1 and R2": {"objective": "non-saturating", "penalties": R1R2},
    "non-saturating": {"objective": "non-saturating", "penalties": {}},
    "minimax": {"objective": "minimax", "penalties": {}},
    "least squares": {"objective": "least-squares", "penalties": {}},
    "Wasserstein, gradient penalty": {"objective": "wasserstein-gp", "penalties": {"gp": 10.0}},
    "hinge, spectral norm": {"objective": "hinge", "penalties": {}, "spectral": True},
}
RATES = (2e-3, 2e-4)  # the recipe's, and one that unpenalised games are usually given


def played(recipe: str, seed: int, *, full: bool, changed: dict[str, Any], **config: Any) -> Any:
    """A game of the recipe with some arguments and settings changed: its numbers, its CPU time."""
    model, data, settings = gt.recipes.build(recipe, "full" if full else "quick", full_data=full)
    torch.manual_seed(seed)
    model = type(model)(**{**model.arguments, **changed})
    before = time.process_time()
    gt.fit(model, data, dataclasses.replace(settings, seed=seed, **config), progress=False)
    seconds = time.process_time() - before
    excerpt = gt.recipes.build(recipe, "quick")[1]
    features = gt.zoo.classifier(data.name)
    report = gt.metrics.evaluate(model, excerpt, seed=seed, features=features)
    del report["n"]
    return (*report.values(), seconds)


def on_grid(name: str, seed: int) -> tuple[float, ...]:
    """The numbers of a game of 25 normals."""
    objective, penalised, config = GRID[name]
    changed: dict[str, Any] = {"objective": objective} | ({} if penalised else {"penalties": {}})
    return played("gan_grid25", seed, full=False, changed=changed, **config)


def grid(name: str, seeds: int) -> None:
    """The grid of 25 normals."""
    for seed in range(seeds):
        show(name, seed, on_grid(name, seed))


def check() -> None:
    """Whether two seeds still show what the chapter says of ten: an error if not."""
    for seed in range(2):
        modes, near, *_ = on_grid("grid25", seed)
        lost = on_grid("minimax", seed)[0]
        print(f"seed {seed}: {modes} modes, {near:.1%} near; minimax {lost}", flush=True)
        if modes < 25 or near < 0.9 or lost > 2:
            raise SystemExit(
                "the recipe should find 25 modes with 90 % near, and minimax hardly any"
            )


def ring() -> None:
    """Eight normals, as in the chapter: momentum and penalties, ten seeds of each."""
    data: Any = gt.data.prepared.plane("eight-gaussians", 20_000)
    for momentum in (0.9, 0.5):
        for weight in (0.0, 0.1):
            for seed in range(10):
                torch.manual_seed(seed)
                game = gt.GAN(
                    shape=(2,),
                    latent=2,
                    objective="non-saturating",
                    penalties={"r1": weight, "r2": weight},
                    hidden=64,
                    layers=2,
                )
                betas = (momentum, 0.999)
                config = gt.TrainConfig(steps=400, lr=5e-3, betas=betas, seed=seed)
                gt.fit(game, data, config, progress=False)
                made = game.sample(2000, generator=torch.Generator().manual_seed(0))
                show(f"{momentum}, {weight}", seed, gt.metrics.mode_coverage(made, *data.modes))


def fashion() -> None:
    """Five seeds of the recipe."""
    for seed in range(5):
        show("fashion", seed, played("gan_fashion", seed, full=True, changed={}))


def wide() -> None:
    """The recipe with codes of 128, as many as the networks that read labels get."""
    show("wide", 0, played("gan_fashion", 0, full=True, changed={"latent": 128}))


def residual() -> None:
    """The recipe with residual networks."""
    changed = {"generator": "residual", "critic": "residual", "channels": 16}
    show("residual", 0, played("gan_fashion", 0, full=True, changed=changed))


def objectives() -> None:
    """Each objective at two rates, for half of the recipe's steps."""
    for name, changed in IMAGES.items():
        for rate in RATES:
            numbers = played("gan_fashion", 0, full=True, changed=changed, steps=2000, lr=rate)
            show(name, rate, numbers)


def plain() -> None:
    """The recipe's steps with the first objective and no penalty."""
    changed = {"objective": "minimax", "penalties": {}}
    for seed in range(2):
        show("minimax", seed, played("gan_fashion", seed, full=True, changed=changed))


def neighbours() -> None:
    """Are samples nearer to training images than test images are?"""
    classifier: Any = gt.zoo.classifier("fashion-mnist")
    train = gt.data.load("fashion-mnist", full=True).train[0]
    fashion: Any = gt.zoo.load("gan_fashion")
    seen = gt.data.load("fashion-mnist").test[0]
    made = fashion.sample(1000, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def features(x: Tensor) -> Tensor:
        return torch.cat([classifier.encode(part) for part in x.split(1000)])

    known, sides = features(train), [features(made), features(seen)]
    nearest = [torch.cdist(side, known).min(1).values for side in sides]
    beaten = (nearest[0][:, None] < nearest[1]).double().mean()
    pixels = [torch.cdist(x.flatten(1), train.flatten(1)).min(1).values for x in (made, seen)]
    beaten_pixels = (pixels[0][:, None] < pixels[1]).double().mean()
    show("features", 1000, (*(float(d.median()) for d in nearest), float(beaten)))
    show("pixels", 1000, (*(float(d.median()) for d in pixels), float(beaten_pixels)))
    show("least", 1000, (float(nearest[0].min()), float(nearest[1].min())))


def show(name: str, key: object, numbers: tuple[float, ...]) -> None:
    """Print a row."""
    print(f'("{name}", {key}, {", ".join(f"{number:.3f}" for number in numbers)}),', flush=True)


RUNS: dict[str, Any] = {
    "fashion": fashion,
    "plain": plain,
    "wide": wide,
    "residual": residual,
    "ring": ring,
    "check": check,
    "objectives": objectives,
    "neighbours": neighbours,
    **{
        name: lambda name=name: grid(name, 10 if name in ("grid25", "minimax") else 3)
        for name in GRID
    },
}


def main() -> None:
    """Print the rows."""
    for name in sys.argv[1:] or RUNS:
        RUNS[name]()


if __name__ == "__main__":
    main()
