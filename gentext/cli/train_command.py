"""``gentext train``: an experiment, trained into a folder."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from gentext.cli import options


def train(
    name: options.Name,
    steps: options.TrainSteps = None,
    more: options.More = None,
    out: options.TrainOut = None,
    budget: options.Budget = None,
    seed: options.Seed = 0,
    batch_size: options.BatchSize = None,
    lr: options.LearningRate = None,
    precision: options.Precision = None,
    resume: options.Resume = False,
    full_data: options.FullData = False,
) -> None:
    """Train an experiment; a folder with its checkpoint results.

    Interrupted? Ctrl-C saves, and with --resume it goes on exactly where it was saved. Too short?
    Once it has ended, --more makes it longer: the learning rate rises and falls once again.

    Example: gentext train vae_fashion --steps 200 --out runs/first
    """
    import torch

    from gentext import recipes
    from gentext.training import saver
    from gentext.training.train import fit

    if more and steps:
        raise ValueError("give --steps, all there are to be, or --more, those to add")
    folder, resume = (out or Path("runs") / name).expanduser(), resume or more is not None
    torch.manual_seed(seed)  # of the first weights, which a resumed run may need again
    model, data, config = recipes.build(name, budget, full_data=full_data)
    given = {"steps": steps, "batch_size": batch_size, "lr": lr, "precision": precision}
    given |= {"seed": seed or None}
    settings: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if more or (resume and budget is None and (folder / saver.NAME).is_file()):
        config = replace(saver.config_in(folder), **settings)
        config = replace(config, steps=config.steps + (more or 0))
    else:
        config = replace(config, **settings)
        config = replace(config, warmup=min(config.warmup, config.steps // 5))
    first = os.environ.get("RANK", "0") == "0"
    if first:
        where = f" ({data.source})" if data.source else ""
        typer.echo(f"training on {data.name}{where}, {len(data.train[0])} examples", err=True)
    with ending_well(folder):
        how: dict[str, Any] = {"out": folder, "resume": resume, "recipe": name, "progress": True}
        history = fit(model, data, config, **how)
    if first:
        typer.echo(f"{config.steps} steps in {_result(history)}; saved {folder / saver.NAME}")


def _result(history: Any) -> str:
    """How long a training took, and what loss it came to."""
    last = history.loss[-100:]
    mean = sum(last) / len(last)
    return f"{history.seconds:.0f} s; loss {mean:.4g} (mean of the last {len(last)} steps)"


@contextmanager
def ending_well(folder: Path) -> Iterator[None]:
    """Say how to go on after Ctrl-C, or after a request to end, and leave the other processes."""
    import torch

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt as stop:
        typer.secho(f"Stopped; {_kept(folder)}", fg="red", err=True)
        raise typer.Exit(130) from stop
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _kept(folder: Path) -> str:
    """What there is to go on from."""
    from gentext.training import checkpoint, saver

    if not (folder / saver.NAME).is_file():
        return "nothing was saved yet."
    step = checkpoint.info(folder)["step"]
    return f"{folder / saver.NAME} holds step {step}: with --resume it goes on from there."
