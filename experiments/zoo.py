"""Make the weights that the package carries: ``python experiments/zoo.py vae_fashion``.

Trains a recipe at its full budget and writes ``gentext/zoo/<name>.safetensors`` with its card
``<name>.json``: what was trained on what, how long it took, and what came out. The metrics are
those that ``gentext evaluate`` gives for the bundled test examples; where the whole data set is at
hand (``--full-data``), those of its test set stand beside them.

``python experiments/zoo.py vae_fashion --describe`` trains nothing: it writes into the card of
weights that are there what their data were (shape, classes, ...), as the recipe has them; without a
name, into all cards.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import platform
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

import gentext as gt
from gentext.zoo import FOLDER

logger = logging.getLogger(__name__)

FACTS = ("name", "shape", "image_shape", "classes", "levels")  # of the data, for whoever draws


def make(
    name: str,
    *,
    full_data: bool,
    half: bool = False,
    k: int = 100,
    seed: int = 0,
    few: int | None = None,
    measured: bool = True,
    folder: Path = FOLDER,
    **changes: Any,
) -> dict[str, Any]:
    """Train the recipe ``name``, write its weights and card, and return the card.

    With ``half`` the weights are stored in 16 bits; what is measured are the stored ones. ``few``
    test examples, where all take minutes, are measured once more for the tests to compare with.
    Without ``measured`` nothing is. ``changes`` of the recipe's training, such as ``steps``, stand
    in the card like the rest.
    """
    torch.manual_seed(seed)
    model, data, config = gt.recipes.build(name, "full", full_data=full_data)
    config = dataclasses.replace(config, seed=seed, **changes)
    before = time.process_time()
    history = gt.fit(model, data, config, recipe=name, progress=folder == FOLDER)
    cpu = round(time.process_time() - before)  # what other work on the machine does not change
    excerpt = gt.recipes.build(name, "full")[1]
    features = gt.zoo.classifier(data.name)
    path = folder / f"{name}.safetensors"
    dtype = torch.float16 if half else None
    gt.checkpoint.save(path, model, recipe=name, data=data, dtype=dtype)
    model = gt.checkpoint.load(path)
    card = {
        "name": name,
        "recipe": name,
        "budget": "full",
        "date": date.today().isoformat(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "data": {
            **described(data),
            "train": len(data.train[0]),
            "source": "the full set" if full_data else "the bundled excerpt",
            "licence": data.licence,
        },
        "config": dataclasses.asdict(config),
        "seconds": round(history.seconds),
        "cpu_seconds": cpu,
        "machine": machine(),
        "torch": torch.__version__.split("+")[0],
        "metrics": {},
    }
    if measured:
        card["metrics"] = gt.metrics.evaluate(model, excerpt, k=k, features=features)
    if few:
        card["metrics_few"] = gt.metrics.evaluate(model, excerpt, k=0, limit=few, features=features)
    if full_data and measured:
        card["metrics_full_test"] = gt.metrics.evaluate(model, data, k=k, features=features)
    write(name, card, folder)
    return card


def machine() -> str:
    """What a card says of where the weights were trained."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{torch.get_num_threads()} threads, {platform.machine()}, {gpu}"


def described(data: Any) -> dict[str, Any]:
    """What a card says of a data set, None where there is nothing to say."""
    return {key: getattr(data, key) or None for key in FACTS}


def describe(name: str) -> None:
    """Write into the card of weights that are there what the data of their recipe are."""
    card = gt.zoo.card(name)
    data = gt.recipes.build(card["recipe"], card["budget"])[1]
    rest = {key: value for key, value in card["data"].items() if key not in FACTS}
    write(name, {**card, "data": {**described(data), **rest}})


def write(name: str, card: dict[str, Any], folder: Path = FOLDER) -> None:
    """Write the card of the weights ``name``."""
    text = json.dumps(card, indent=2, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", choices=list(gt.recipes.RECIPES))
    parser.add_argument("--describe", action="store_true", help="only add the data to the cards")
    parser.add_argument("--full-data", action="store_true", help="train on the whole data set")
    parser.add_argument("--half", action="store_true", help="store 16 bits of each weight")
    parser.add_argument("--k", type=int, default=100, help="samples of the importance bound, or 0")
    parser.add_argument("--few", type=int, help="examples that the tests measure, instead of all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = vars(options)
    name = settings.pop("name")
    if settings.pop("describe"):
        for each in [name] if name else gt.zoo.names():
            describe(each)
        return
    if name is None:
        parser.error("name what to train, one of gentext list")
    card = make(name, **settings)
    logger.info(json.dumps(card["metrics"], indent=2))


if __name__ == "__main__":
    main()
