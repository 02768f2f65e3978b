"""Measure how far samples of Fashion-MNIST are from the data, by sampler, steps and guidance.

``python experiments/sampler_runs.py`` prints one row for each setting of the diffusion of the zoo:
sampler, predictions of the network for a sample, and the Fréchet distance between the features of
1,000 samples (100 of each class) and those of the 3,000 bundled training images; then, for weights
of guidance, the share that a classifier puts in their class, precision, recall and that distance.
"""

from __future__ import annotations

import sys
from typing import Any

import torch

import gentext as gt

EACH = 100  # samples of a class
STEPS: dict[str, tuple[int, ...]] = {
    "ddpm": (10, 20, 50, 100),
    "ddim": (5, 10, 20, 50),
    "dpm++": (5, 10, 20, 50),
    "dpm++ noise": (10, 20, 50),
}
HEUN = (5, 10)  # steps, of two predictions each but the last
WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0)


def draw(model: Any, *, seed: int = 0, **options: Any) -> torch.Tensor:
    """Samples of all classes, 250 at a time."""
    y = torch.arange(10).repeat_interleave(EACH)
    generator = torch.Generator().manual_seed(seed)
    parts = [model.sample(len(part), part, generator=generator, **options) for part in y.split(250)]
    return torch.cat(parts)


def main() -> None:
    """Print the rows."""
    model: Any = gt.zoo.load("diffusion_fashion")
    critic: Any = gt.zoo.load("classifier_fashion")
    images = gt.data.load("fashion-mnist").train[0]
    y = torch.arange(10).repeat_interleave(EACH)
    with torch.no_grad():
        real = critic.encode(images)
        for name in sys.argv[1:] or [*STEPS, "heun", "guidance"]:
            for steps in STEPS.get(name, HEUN if name == "heun" else ()):
                ways: dict[str, Any] = {
                    "sampler": name.split()[0],
                    "eta": float(name.endswith("noise")),
                }
                made = critic.encode(draw(model, steps=steps, **ways))
                distance = float(gt.metrics.frechet_distance(real, made))
                count = 2 * steps - 1 if name == "heun" else steps
                print(f'("{name}", {count}, {distance:.3f}),', flush=True)
            for w in WEIGHTS if name == "guidance" else ():
                made_images = draw(model, guidance=w)
                made = critic.encode(made_images)
                right = float((critic.predict(made_images) == y).float().mean())
                near = gt.metrics.precision_recall(real, made)
                distance = float(gt.metrics.frechet_distance(real, made))
                row = (
                    f"({w}, {right:.3f}, {near.precision:.3f}, {near.recall:.3f}, {distance:.3f}),"
                )
                print(row, flush=True)


if __name__ == "__main__":
    main()
