"""Games of several seeds: ``python book/tools/gan_runs.py grid25`` or ``fashion``.

Prints one row for each seed. Of ``grid25`` and ``minimax`` (the same networks and steps under the
first objective, without a penalty): modes found, the share of samples within three standard
deviations of a mode, KL(q ‖ p) over modes in nats, CPU seconds. Of ``fashion``, trained on the full
set, which must be there: the Fréchet distance, precision and recall of 1,000 samples and the
bundled test images in the features of the classifier, CPU seconds.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import Any

import torch

import gentext as gt

SEEDS = {"grid25": 10, "minimax": 10, "fashion": 5}


def row(name: str, seed: int) -> tuple[float, ...]:
    """What is printed of a seed."""
    torch.manual_seed(seed)
    recipe, budget = ("gan_fashion", "full") if name == "fashion" else ("gan_grid25", "quick")
    model, data, config = gt.recipes.build(recipe, budget, full_data=name == "fashion")
    if name == "minimax":
        arguments: dict[str, Any] = {**model.arguments, "objective": "minimax", "penalties": {}}
        torch.manual_seed(seed)
        model = gt.GAN(**arguments)
    before = time.process_time()
    gt.fit(model, data, dataclasses.replace(config, seed=seed), progress=False)
    seconds = time.process_time() - before
    excerpt = gt.recipes.build(recipe, budget)[1]
    features = gt.zoo.classifier(data.name)
    report = gt.metrics.evaluate(model, excerpt, seed=seed, features=features)
    del report["n"]
    return (*report.values(), seconds)


def main() -> None:
    """Print the rows."""
    for name in sys.argv[1:] or SEEDS:
        for seed in range(SEEDS[name]):
            numbers = ", ".join(f"{number:.3f}" for number in row(name, seed))
            print(f'("{name}", {seed}, {numbers}),', flush=True)


if __name__ == "__main__":
    main()
