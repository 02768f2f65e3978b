"""Label efficiency on the 8x8 digits: what each kind of pre-training saves in labels.

``python experiments/transfer_runs.py`` prints, for each way to learn and each number of labels a
class, the accuracy on the 360 test images of five runs. In each run the labels, the pre-training
and the first weights are drawn anew, all ways get the same labels, and as many labels again (at
most the 180 of validation) choose penalties, rates and the step to stop at. Pre-training reads the
1,257 training images without labels.

One network, ``Features``, learns from every signal but the masked one, whose encoder is a
Transformer. Steps are such that all pre-trainings take about 45 seconds of one core, which are
written down too; ``--tiny`` takes a hundredth of all steps.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

import gentext as gt
from gentext.nn.nets import Decoder, Features

SHAPE, CLASSES, WIDTH = (1, 8, 8), 10, 64
LABELS = (1, 5, 10, 50)
RATES = (3e-4, 2e-3)
SEMI_STEPS = 1500
VIEWS: dict[str, float] = dict(gt.pretraining.VIEWS)
Set = tuple[torch.Tensor, torch.Tensor]


def body() -> Features:
    """The network that all signals but the masked one train: 64 numbers of an image."""
    return Features(SHAPE, 32, WIDTH, 0.0)


def untrained() -> Any:
    """The network as it is drawn, in a model that can encode."""
    return gt.Classifier(shape=SHAPE, classes=CLASSES, channels=32, features=WIDTH)


def autoencoder() -> Any:
    """Codes of 64 numbers for 64 pixels, of images with noise: without, copying would do."""
    model = gt.DenoisingAutoencoder(shape=SHAPE, latent=WIDTH, sigma=0.5, net="conv")
    model.encoder = body()
    return model


def vae() -> Any:
    """Means of 16 latents, by a linear layer on the 64 numbers."""
    encoder = nn.Sequential(body(), nn.Linear(WIDTH, 32))
    model = gt.VAE(shape=SHAPE, latent=16, net="conv", likelihood="logistic", levels=17)
    per_value = model.likelihood.per_value
    decoder = Decoder(16, SHAPE, hidden=256, net="conv", per_value=per_value)
    options: dict[str, Any] = {"likelihood": "logistic", "levels": 17, "net": (encoder, decoder)}
    return gt.VAE(shape=SHAPE, latent=16, **options)


def gan() -> Any:
    """A critic of the same network, whose slope is penalised on data and samples."""
    options: dict[str, Any] = {"generator": "dcgan", "critic": "dcgan", "channels": 32}
    model = gt.ImageGAN(shape=SHAPE, latent=64, penalties={"r1": 3.0, "r2": 3.0}, **options)
    model.critic.features, model.critic.last = body(), nn.Linear(WIDTH, 1)
    return model


def contrastive() -> Any:
    """Two views of an image find one another."""
    return gt.Contrastive(shape=SHAPE, features=WIDTH, channels=32)


def masked() -> Any:
    """Three quarters of the patches are filled in by a Transformer."""
    return gt.MaskedAutoencoder(shape=SHAPE)


SIGNALS: dict[str, tuple[Callable[[], Any], int, dict[str, Any]]] = {
    "autoencoder": (autoencoder, 6000, {"batch_size": 128, "lr": 1e-3}),
    "VAE": (vae, 5000, {"batch_size": 128, "lr": 2e-3}),
    "GAN critic": (gan, 1500, {"batch_size": 128, "lr": 1e-3, "betas": (0.0, 0.99)}),
    "contrastive": (contrastive, 2500, {"batch_size": 256, "lr": 2e-3}),
    "masked": (masked, 2000, {"batch_size": 128, "lr": 2e-3}),
}


def trained(name: str, seed: int, share: float, data: gt.Dataset) -> tuple[Any, float]:
    """The model after its pre-training, and the CPU seconds that this took."""
    build, steps, options = SIGNALS[name]
    torch.manual_seed(seed)
    model, before = build(), time.process_time()
    steps = math.ceil(share * steps)
    config = gt.TrainConfig(steps=steps, seed=seed, schedule="cosine", **options)
    gt.fit(model, data, config, progress=False)
    return model, round(time.process_time() - before, 1)


def drawn(data: gt.Dataset, each: int, seed: int) -> tuple[Set, Set]:
    """``each`` examples of each class to learn from, and as many (if there are) to choose by."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for x, y in (data.train, data.validation):
        order = torch.randperm(len(y), generator=generator)
        kept = torch.cat([order[y[order] == k][:each] for k in range(CLASSES)])
        parts.append((x[kept], y[kept]))
    return parts[0], parts[1]


def probe(encode: Callable[[Any], Any], few: Set, held: Set, test: Set) -> float:
    """Accuracy of the linear probe whose penalty the validation labels choose."""
    (x, y), (others, labels) = few, held
    fitted = gt.LinearProbe.fit(encode(x), y, (encode(others), labels), classes=CLASSES)
    return float(fitted.accuracy(encode(test[0]), test[1]))


def features(model: Any) -> Callable[[Any], Any]:
    """What a model makes of images, as rows."""

    @torch.no_grad()
    def encode(x: torch.Tensor) -> torch.Tensor:
        return gt.finetuning.pooled(model.encode(x))

    return encode


class Seen(gt.Model):
    """A model whose loss is of random views of the images that it is given."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The loss of one view of each image."""
        return self.model.loss(gt.pretraining.views(x, **VIEWS), y)


def tuned(
    encoder: Any, few: Set, held: Set, test: Set, *, seed: int, steps: int, seen: bool = False
) -> float:
    """Accuracy with all weights fine-tuned; rate and step are chosen by the validation labels."""
    best, accuracy = float("inf"), 0.0
    for lr in RATES:
        torch.manual_seed(seed)
        model = gt.Finetuned(encoder=encoder, classes=CLASSES)
        stop = gt.EarlyStopping(lambda _, m=model: m.loss(*held), every=20, patience=10)
        config = gt.TrainConfig(steps=steps, lr=lr, batch_size=128, seed=seed)
        learner = Seen(model) if seen else model
        gt.fit(learner, few, config, observers=[stop], progress=False)
        stop.restore(learner)
        if stop.best < best:
            best, accuracy = stop.best, float(model.accuracy(*test))
    return accuracy


def semi_supervised(data: gt.Dataset, few: Set, test: Set, seed: int, share: float) -> float:
    """Accuracy of a GAN whose critic sorts, with the same labels and all images."""
    torch.manual_seed(seed)
    options: dict[str, Any] = {"generator": "dcgan", "critic": "dcgan", "channels": 32}
    model = gt.SemiSupervisedGAN(shape=SHAPE, classes=CLASSES, **options)
    model.critic.features, model.critic.last = body(), nn.Linear(WIDTH, CLASSES)
    x, y = few
    known = torch.full((len(data.train[0]),), -1)
    # every batch holds labelled and unlabelled images half and half
    times = -(-len(known) // len(x))
    both = torch.cat([data.train[0], x.repeat(times, 1, 1, 1)[: len(known)]])
    labels = torch.cat([known, y.repeat(times)[: len(known)]])
    steps, betas = math.ceil(share * SEMI_STEPS), (0.5, 0.9)
    config = gt.TrainConfig(steps=steps, batch_size=128, lr=1e-3, betas=betas, seed=seed)
    gt.fit(model, (both, labels), config, progress=False)
    return float(model.accuracy(*test))


def run(seed: int, share: float, steps: int) -> dict[str, Any]:
    """Accuracies of one run, by way to learn and labels a class, and seconds of pre-training."""
    data = gt.data.load("digits")
    images = data.without_labels()
    torch.manual_seed(seed)
    models, seconds = {"untrained": untrained()}, {}
    for name in SIGNALS:
        models[name], seconds[name] = trained(name, seed, share, images)
    found: dict[str, Any] = {"seconds": seconds}
    for each in LABELS:
        sets = (*drawn(data, each, seed), data.test)
        for name, value in accuracies(models, sets, seed, steps):
            found.setdefault(name, {})[each] = round(value, 4)
        value = semi_supervised(data, sets[0], data.test, seed, share)
        found.setdefault("semi-supervised GAN", {})[each] = round(value, 4)
    return found


def accuracies(
    models: dict[str, Any], sets: tuple[Set, Set, Set], seed: int, steps: int
) -> Iterator[tuple[str, float]]:
    """Each way to learn from few labels, with its accuracy."""
    how: dict[str, Any] = {"seed": seed, "steps": steps}
    yield "pixels, probe", probe(lambda x: x, *sets)
    for name, model in models.items():
        yield f"{name}, probe", probe(features(model), *sets)
        yield f"{name}, fine-tuned", tuned(model, *sets, **how)
    for name in ("untrained", "contrastive"):
        yield f"{name}, fine-tuned on views", tuned(models[name], *sets, **how, seen=True)


def main() -> None:
    """Run the seeds and write what was found as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path("experiments/transfer.json"))
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    share, steps = (0.01, 20) if given.tiny else (1.0, 300)
    found: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {}
    for seed in given.seeds:
        found[str(seed)] = run(seed, share, steps)
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
