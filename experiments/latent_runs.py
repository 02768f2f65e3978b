"""Compare diffusions of pixels and of codes of Fashion-MNIST, and codes of wrong scales.

``python experiments/latent_runs.py`` prints one row for each: CPU seconds of training (of the
autoencoder as well), bits per dimension of the bound on the bundled test images, the Fréchet
distance between the features of 1,000 samples and those of the 3,000 bundled training images, the
share of samples that a classifier puts in their class, and CPU milliseconds for a sample of 20
steps. The first row is the autoencoder alone: test images and what it makes of them. It trains on
the full set, which must be there.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch

import gentext as gt
from gentext.denoising.diffusion import Diffusion

STEPS = {"pixels": 780}  # as long as autoencoder and diffusion of the codes together
FACTORS = {"codes": 1.0, "codes, c / 6": 1 / 6, "codes, 6 c": 6.0}
ZOO = {"zoo pixels": "diffusion_fashion", "zoo codes": "latent_diffusion_fashion"}
AUTOENCODER = "image_vae_fashion"


def trained(name: str) -> tuple[Any, float]:
    """The model of a row, and the CPU seconds of its training."""
    if name in ZOO:
        card = gt.zoo.card(ZOO[name])
        return gt.zoo.load(ZOO[name]), card["cpu_seconds"]
    torch.manual_seed(0)
    steps = STEPS.get(name, 1800)
    recipe = "latent_diffusion_fashion" if name in FACTORS else "diffusion_fashion"
    model, data, config = gt.recipes.build(recipe, "full", full_data=True)
    if name in FACTORS:
        scale: Any = model.scale
        scale.mul_(FACTORS[name])
    before = time.process_time()
    gt.fit(model, data, gt.TrainConfig(**vars(config) | {"steps": steps}), progress=False)
    return model, time.process_time() - before


def row(name: str) -> tuple[float, ...]:
    """What is printed of ``name``."""
    critic: Any = gt.zoo.load("classifier_fashion")
    dataset = gt.data.load("fashion-mnist")
    model, seconds = trained(name)
    if not isinstance(model, Diffusion):
        seconds += gt.zoo.card(AUTOENCODER)["cpu_seconds"]
    with torch.no_grad():
        return (seconds, *quality(model, critic, dataset))


def quality(model: Any, critic: Any, dataset: Any) -> tuple[float, ...]:
    """Bits, distance, share of the right class, and milliseconds."""
    real, y = critic.encode(dataset.train[0]), torch.arange(10).repeat_interleave(100)
    generator = torch.Generator().manual_seed(0)
    bits = gt.metrics.bits_per_dim(model.elbo(*dataset.test, generator=generator).mean(), 784)
    before = time.process_time()
    how: dict[str, Any] = {} if isinstance(model, Diffusion) else {"mean": True}
    made = torch.cat(
        [model.sample(len(part), part, generator=generator, **how) for part in y.split(250)]
    )
    each = 1000 * (time.process_time() - before) / len(y)
    distance = gt.metrics.frechet_distance(real, critic.encode(made))
    right = (critic.predict(made) == y).float().mean()
    return float(bits), float(distance), float(right), each


@torch.no_grad()
def ceiling() -> tuple[float, ...]:
    """Fréchet distances of 1,000 test images, and of their reconstructions, to training images."""
    critic: Any = gt.zoo.load("classifier_fashion")
    dataset = gt.data.load("fashion-mnist")
    coder: Any = gt.zoo.load(AUTOENCODER)
    real, x = critic.encode(dataset.train[0]), dataset.test[0]
    again = coder.decode(coder.encode(x).mean).mean
    sides = (critic.encode(x), critic.encode(again))
    return tuple(float(gt.metrics.frechet_distance(real, side)) for side in sides)


def measured(name: str) -> str:
    """A row as Python."""
    numbers = ceiling() if name == "autoencoder" else row(name)
    return f'("{name}", {", ".join(f"{number:.3f}" for number in numbers)}),'


def main() -> None:
    """Print the rows."""
    for name in sys.argv[1:] or ["autoencoder", "pixels", *FACTORS, *ZOO]:
        print(measured(name), flush=True)


if __name__ == "__main__":
    main()
