"""Chapters at the full budget, which a reader with a GPU has: run in earnest, or rehearsed.

``python book/tools/rehearsal.py vae gpt`` runs the code of chapters with ``GENTEXT_BUDGET=full``
and says what each cell took. With ``--recorded`` it takes seconds: only the cells that train an
experiment of that budget are run, those that use what they made, and those that they need; and a
model that would be trained becomes the recorded one, which is what the training would have led to.
So an assertion that holds for a short training only is found without a long one.
"""

from __future__ import annotations

import argparse
import ast
import copy
import dataclasses
import json
import os
import re
import symtable
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # so that this file runs as a script

import torch  # noqa: E402

import gentext as gt  # noqa: E402

TRAINS = re.compile(r"gt\.recipes\.\w+\(\)")  # an experiment whose budget is not given
SETTING = {"GENTEXT_BUDGET": "full", "GENTEXT_STATIC": "1", "MPLBACKEND": "Agg"}
PLAIN = 500  # steps of a training that is not worth shortening
SHORT = 10  # steps of a rehearsed training: those that are run, and those at its end
Cell = tuple[str, str]  # its id and its code


def cells(path: Path) -> list[Cell]:
    """The code cells of a notebook, without the one that installs."""
    notebook = json.loads(path.read_text("utf-8"))
    found = [c for c in notebook["cells"] if c["cell_type"] == "code" and c["id"] != "colab"]
    return [(c["id"], "".join(c["source"])) for c in found]


def names(statement: ast.stmt) -> tuple[set[str], set[str]]:
    """The global names that a statement binds, and those that it uses, also within functions."""
    top = symtable.symtable(ast.unparse(statement), "cell", "exec")
    bound = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()}
    used = {s.get_name() for s in top.get_symbols() if s.is_referenced()}
    inner = list(top.get_children())
    while inner:
        table = inner.pop()
        used |= {s.get_name() for s in table.get_symbols() if s.is_global() and s.is_referenced()}
        inner += table.get_children()
    plain = isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Expr)
    return bound, used if plain else used - bound  # what a loop binds it does not ask for


def asked(code: str) -> tuple[set[str], set[str]]:
    """The names that a cell binds, and those that it takes from cells before it."""
    bound: set[str] = set()
    taken: set[str] = set()
    for statement in ast.parse(code).body:
        new, used = names(statement)
        taken |= used - bound
        bound |= new
    return bound, taken


def made(code: str, known: set[str]) -> set[str]:
    """The names that depend on the budget after some code, of which ``known`` did before.

    Of an experiment the data do not.
    """
    for statement in ast.parse(code).body:
        text = ast.unparse(statement)
        bound, used = names(statement)
        if TRAINS.search(text):
            data = re.match(r"\w+, (\w+), \w+ = ", text)
            known = known | bound - set(data.groups() if data else ())
        else:
            known = known | bound if used & known else known - bound
    return known


def part(every: Sequence[Cell]) -> list[Cell]:
    """The cells that train at the budget, those that use what comes of it, and what they need."""
    origin: dict[str, int] = {}
    needs: list[set[int]] = []
    known: set[str] = set()
    wanted: set[int] = set()
    for k, (_, code) in enumerate(every):
        bound, used = asked(code)
        needs.append({origin[name] for name in used if name in origin})
        if TRAINS.search(code) or used & known:
            wanted.add(k)
        known = made(code, known)
        origin.update(dict.fromkeys(bound, k))
    more = wanted
    while more:
        more = set().union(*(needs[k] for k in more)) - wanted
        wanted |= more
    return [every[k] for k in sorted(wanted)]


def told(name: str, recipe: Any) -> Any:
    """A recipe whose model knows the name of its experiment."""

    def build(*how: Any, **options: Any) -> Any:
        model, data, config = recipe(*how, **options)
        model.experiment = name
        return model, data, config

    return build


def recorded(model: gt.Model, config: gt.TrainConfig) -> gt.Model | None:
    """The recorded model that this one would become, if it is that of an experiment."""
    name = getattr(model, "experiment", None)
    if name in gt.zoo.names() and gt.zoo.card(name)["config"]["steps"] == config.steps:
        return gt.zoo.load(name)
    return None


def started(config: gt.TrainConfig) -> gt.TrainConfig:
    """The first steps of a training, all of which are warming up."""
    return dataclasses.replace(config, steps=SHORT, warmup=SHORT)


def rehearsed(fit: Any) -> Any:
    """A training that takes ``SHORT`` steps and then the recorded weights, if there are any.

    The losses between the first ones and those at the end are drawn as a line.
    """

    def short(model: gt.Model, data: Any, config: gt.TrainConfig, **how: Any) -> Any:
        if config.steps <= PLAIN:
            return fit(model, data, config, **how)
        found = recorded(model, config)
        if found is None:
            less = dataclasses.replace(config, steps=10 * SHORT, warmup=min(config.warmup, SHORT))
            return fit(model, data, less, **how)
        few = started(config)
        history = fit(copy.deepcopy(model), data, few, **how)
        model.load_state_dict(found.state_dict())
        still = dataclasses.replace(few, lr=1e-30, weight_decay=0.0, ema=None)
        tail = fit(copy.deepcopy(model), data, still, **how)
        for turn, losses in history.losses.items():
            line = torch.linspace(losses[-1], tail.losses[turn][0], config.steps - 2 * SHORT)
            losses += [*line.tolist(), *tail.losses[turn]]
        model.eval()
        return history

    return short


def run(chapter: Sequence[Cell]) -> Iterator[tuple[str, float]]:
    """Run cells in order; the id of each and the seconds that it took."""
    import matplotlib.pyplot as plt

    space: dict[str, Any] = {"__name__": "__main__", "display": lambda *x: None}
    for name, code in chapter:
        start = time.perf_counter()
        exec(compile(code, f"<cell {name}>", "exec"), space)
        plt.close("all")
        yield name, time.perf_counter() - start


def main() -> None:
    """Run the chapters that are named, or all."""
    every = sorted(path.stem for path in (ROOT / "notebooks" / "en").glob("*.ipynb"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stems", nargs="*", default=every, help="chapters; all where none is named")
    parser.add_argument("--recorded", action="store_true", help="recorded weights for training")
    options = parser.parse_args()
    os.environ.update({key: os.environ.get(key, value) for key, value in SETTING.items()})
    if options.recorded:
        gt.fit = rehearsed(gt.fit)
        for name, recipe in gt.recipes.RECIPES.items():
            setattr(gt.recipes, name, told(name, recipe))
    for stem in options.stems:
        chapter = cells(ROOT / "notebooks" / "en" / f"{stem}.ipynb")
        begun = time.perf_counter()
        for name, seconds in run(part(chapter) if options.recorded else chapter):
            print(f"{stem}, cell {name}: {seconds:.1f} s", flush=True)
        print(f"{stem}: {time.perf_counter() - begun:.0f} s", flush=True)
    if torch.cuda.is_available():
        print("peak GiB", round(torch.cuda.max_memory_allocated() / 2**30, 2))


if __name__ == "__main__":
    main()
