"""Make the weights that the package carries: ``python experiments/zoo.py vae_fashion``.

Trains a recipe at its full budget and writes ``gentext/zoo/<name>.safetensors`` with its card
``<name>.json``: what was trained on what, how long it took, and what came out. The metrics are
those that ``gentext evaluate`` gives for the bundled test examples; where the whole data set is at
hand (``--full-data``), those of its test set stand beside them.

``python experiments/zoo.py vae_fashion --describe`` trains nothing: it writes into the card of
weights that are there what their data were (shape, classes, ...), as the recipe has them; without a
name, into all cards. ``--measure`` instead fills in the metrics of weights that came without them.
"""

from __future__ import annotations

import argparse
import copy
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

MOST = 4 * 2**20  # bytes of a file
TRIAL, WARM = 30, 10  # steps by which the speed of training is measured, and before that
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
    within: float | None = None,
    model: dict[str, Any] | None = None,
    folder: Path = FOLDER,
    **changes: Any,
) -> dict[str, Any]:
    """Train the recipe ``name``, write its weights and card, and return the card.

    With ``half`` the weights are stored in 16 bits; what is measured are the stored ones. ``few``
    test examples, where all take minutes, are measured once more for the tests to compare with.
    Without ``measured`` nothing is. ``model`` are arguments of the model, and ``changes`` settings
    of its training, such as ``steps``, that differ from the recipe's; the card names them. Of the
    steps no more are taken than ``within`` seconds allow. A file above ``MOST`` is refused.
    """
    torch.manual_seed(seed)
    network, data, config = gt.recipes.build(name, "full", full_data=full_data)
    if model:
        network = type(network)(**{**network.arguments, **model})
    config = dataclasses.replace(config, seed=seed, **changes)
    if within is not None:
        steps = min(config.steps, affordable(network, data, config, within))
        config = dataclasses.replace(config, steps=steps, warmup=min(config.warmup, steps // 5))
        changes |= {"steps": steps, "warmup": config.warmup}
    before = time.process_time()
    history = gt.fit(network, data, config, recipe=name, progress=folder == FOLDER)
    cpu = round(time.process_time() - before)  # what other work on the machine does not change
    store(folder / f"{name}.safetensors", network, name, data, half)
    changed = {"model": model or {}, "config": changes} if model or changes else None
    card = {
        **said(name, network, data, full_data),
        "config": dataclasses.asdict(config),
        **({"changed": changed} if changed else {}),
        "loss": round(sum(history.loss[-100:]) / len(history.loss[-100:]), 4),
        "seconds": max(1, round(history.seconds)),
        "cpu_seconds": cpu,
        "machine": machine(),
        "torch": torch.__version__.split("+")[0],
        "metrics": {},
    }
    write(name, card, folder)
    if measured:
        card |= measures(name, full_data=full_data, k=k, few=few, folder=folder)
        write(name, card, folder)
    return card


def store(path: Path, model: gt.Model, recipe: str, data: Any, half: bool) -> None:
    """Write the weights; ValueError, and no file, where they are too large to be carried."""
    gt.checkpoint.save(path, model, recipe=recipe, data=data, dtype=torch.float16 if half else None)
    if (size := path.stat().st_size) > MOST:
        path.unlink()
        raise ValueError(f"{path} has {size:,} bytes, and at most {MOST:,} are carried: half=True")


def said(name: str, model: gt.Model, data: Any, full_data: bool) -> dict[str, Any]:
    """What a card says of the recipe ``name``, its model and its data."""
    return {
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
    }


def affordable(model: gt.Model, data: Any, config: gt.TrainConfig, seconds: float) -> int:
    """How many steps of training there is time for, by a trial with a copy of the model."""
    start = time.perf_counter()
    marks: list[float] = []
    trial = dataclasses.replace(config, steps=TRIAL, warmup=min(config.warmup, WARM))

    def watch(step: int, model: gt.Model) -> None:
        if step in (WARM, TRIAL):
            next(model.parameters()).sum().item()  # waits for the device
            marks.append(time.perf_counter())

    gt.fit(copy.deepcopy(model), data, trial, observers=[watch], progress=False)
    each = (marks[1] - marks[0]) / (TRIAL - WARM)
    left = seconds - (time.perf_counter() - start)
    return max(TRIAL, int(left / each))


def measures(
    name: str, *, full_data: bool, k: int = 100, few: int | None = None, folder: Path = FOLDER
) -> dict[str, Any]:
    """What a card says of the metrics of the weights ``name`` that are stored in ``folder``."""
    model = gt.checkpoint.load(folder / f"{name}.safetensors")
    excerpt = gt.recipes.build(name, "full")[1]
    features = gt.zoo.classifier(excerpt.name)
    found = {"metrics": gt.metrics.evaluate(model, excerpt, k=k, features=features)}
    if few:
        measured = gt.metrics.evaluate(model, excerpt, k=0, limit=few, features=features)
        found["metrics_few"] = measured
    if full_data:
        data = gt.recipes.build(name, "full", full_data=True)[1]
        found["metrics_full_test"] = gt.metrics.evaluate(model, data, k=k, features=features)
    return found


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
    parser.add_argument("--measure", action="store_true", help="only add the metrics to a card")
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
    measure = settings.pop("measure")
    if name is None:
        parser.error("name what to train, one of gentext list")
    if measure:
        wanted = {key: settings[key] for key in ("full_data", "k", "few")}
        write(name, {**gt.zoo.card(name), **measures(name, **wanted)})
        return
    card = make(name, **settings)
    logger.info(json.dumps(card["metrics"], indent=2))


if __name__ == "__main__":
    main()
